// Package nonblock keeps package os from opening an epoll descriptor for standard
// descriptors that do not block.
//
// Package os looks at them when it is initialised. For one with O_NONBLOCK it makes
// the runtime open an epoll descriptor and an eventfd, which stay open, and with
// which BLCR's module cannot save the process. O_NONBLOCK itself cannot be changed:
// it is shared with all processes that have the same open file. So this package
// puts /dev/null in place of such descriptors before package os is initialised, and
// package entry, which imports package os and is therefore initialised later, puts
// them back.
//
// It is initialised first because it imports nothing that package os does not, and
// its path sorts before "os" (see "Program initialization" in the Go specification
// and the release notes of Go 1.21, which define the order of packages).
//
// The program must not read or write by os.Stdin, os.Stdout and os.Stderr, which
// take the descriptors for blocking ones.
package nonblock

import "syscall"

// hidden has the number to which each descriptor was moved, 0 for one that was not.
var hidden [3]int

const dupCloexec = 1030 // F_DUPFD_CLOEXEC of <linux/fcntl.h>

func init() {
	for fd := range hidden {
		flags, errno := fcntl(fd, syscall.F_GETFL, 0)
		if errno != 0 || flags&syscall.O_NONBLOCK == 0 {
			continue
		}
		null, err := syscall.Open("/dev/null", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
		if err != nil {
			continue
		}
		if other, errno := fcntl(fd, dupCloexec, 3); errno == 0 {
			if syscall.Dup3(null, fd, 0) == nil {
				hidden[fd] = other
			} else {
				syscall.Close(other)
			}
		}
		syscall.Close(null)
	}
}

// Restore puts the descriptors back.
func Restore() {
	for fd, other := range hidden {
		if other != 0 {
			_ = syscall.Dup3(other, fd, 0)
			syscall.Close(other)
			hidden[fd] = 0
		}
	}
}

func fcntl(fd, cmd, arg int) (int, syscall.Errno) {
	r, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), uintptr(cmd), uintptr(arg))
	return int(r), errno
}
