// Package entry is what the process was given at its start and the Go runtime
// has changed before any Go code runs: signals that were ignored have a handler
// of the runtime's, some that were blocked are not, standard descriptors that
// were closed are /dev/null, and the soft limit of open files is the hard one.
//
// A program in place of one written in C has to know: `trap "" TERM` in a script
// is meant for the commands that it starts too, and what is written to a
// descriptor that its caller closed must be an error.
//
// It is looked up by code that runs before the runtime does, to which the
// program must be linked: -ldflags "-E blcr-cli/internal/entry.entry". Without
// that, and on other architectures than amd64, nothing is known, and the
// functions say that there was nothing.
package entry

import (
	"syscall"
	"unsafe"
)

// Written by entry; the runtime does not clear them.
var (
	ignored   uint64 // bit N-1: signal N was ignored
	unblocked uint64 // bit N-1: signal N was not blocked; 0 if unknown, for SIGKILL never is
	closed    uint64 // bit N: descriptor N, of 0 to 2, was closed
	nofile    uint64 // the soft limit of open files; 0 if unknown
)

// Ignored reports whether sig was ignored.
func Ignored(sig syscall.Signal) bool { return ignored>>(sig-1)&1 != 0 }

// Closed reports whether fd is one of the three standard descriptors and was
// closed. It is now /dev/null.
func Closed(fd int) bool { return fd >= 0 && fd <= 2 && closed>>fd&1 != 0 }

// Inherited reports whether fd was open when the program was started. Whatever
// has been opened since, by the Go runtime also, is closed on exec.
func Inherited(fd int) bool {
	if fd < 0 || Closed(fd) {
		return false
	}
	flags, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_GETFD, 0)
	return errno == 0 && flags&syscall.FD_CLOEXEC == 0
}

// NeverOpen is the number of a descriptor that no process has, for who has to
// pass one that is closed.
const NeverOpen = 1 << 30

// HideClosed makes the stand-ins for standard descriptors that were closed
// close-on-exec, so that they are closed in what this process turns into.
func HideClosed() {
	for fd := range 3 {
		if Closed(fd) {
			syscall.CloseOnExec(fd)
		}
	}
}

// RestoreLimit sets the limit of open files to what it was. Children that
// package syscall starts have it in any case; those of a bare fork need it.
func RestoreLimit() {
	var limit syscall.Rlimit
	if nofile == 0 || syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil {
		return
	}
	limit.Cur = nofile
	// Lowering the soft limit is always allowed.
	_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
}

// RestoreSignals ignores every signal that was ignored, and gives the calling
// thread, to which the goroutine must be locked, the signal mask that there was.
// It is for just before an exec, which does the rest: to a Go program that goes
// on, some of that is harmful.
func RestoreSignals() {
	const (
		sigIgn     = 1
		sigSetmask = 2 // on amd64, as all that is known is
		setSize    = 8
	)
	// The kernel's struct sigaction, which begins with the handler.
	action := [8]uintptr{sigIgn}
	for sig := syscall.Signal(1); sig <= 64; sig++ {
		if Ignored(sig) {
			syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&action)), 0, setSize, 0, 0)
		}
	}
	if unblocked != 0 {
		mask := ^unblocked
		syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, sigSetmask, uintptr(unsafe.Pointer(&mask)), 0, setSize, 0, 0)
	}
}

// Standard returns the standard descriptors as they are to be given to a child:
// one that was closed is closed there, for which syscall.ProcAttr has the value
// ^0.
func Standard() []uintptr {
	files := []uintptr{0, 1, 2}
	for i := range files {
		if Closed(i) {
			files[i] = ^uintptr(0)
		}
	}
	return files
}
