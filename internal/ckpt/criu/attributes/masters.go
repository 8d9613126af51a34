package attributes

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/proc"
)

// A pseudo terminal of which only the master is open says that the other end has been closed,
// and a new one, as CRIU makes it, that it has not been opened yet. Those that have been are
// noted:
//
//	masters=5,7

// wasClosed reports whether what a process has open is a master whose other end was closed.
func wasClosed(pid int, d proc.Descriptor) bool {
	if !d.Master() {
		return false
	}
	fd, err := proc.CopyDescriptor(pid, d.FD)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	return hungUp(fd)
}

func hungUp(fd int) bool {
	poll := []unix.PollFd{{Fd: int32(fd)}}
	_, err := unix.Poll(poll, 0)
	return err == nil && poll[0].Revents&unix.POLLHUP != 0
}

// closeSlaves opens and closes the other ends of the masters in a list, which anyone may have
// made, unless they are open.
func closeSlaves(pid int, list string) {
	for text := range strings.SplitSeq(list, ",") {
		fd, err := strconv.Atoi(text)
		if err != nil {
			return
		}
		change(pid, fd, func(master int) {
			if _, err := unix.IoctlGetUint32(master, unix.TIOCGPTN); err != nil || hungUp(master) {
				return
			}
			if slave, err := OpenSlave(master); err == nil {
				unix.Close(slave)
			}
		})
	}
}

// OpenSlave opens the other end of a pseudo terminal's master, without waiting, and not as a
// controlling terminal. The caller owns the descriptor. The error is that of TIOCGPTPEER of
// ioctl_tty(2), which Linux has from 4.13 on.
func OpenSlave(master int) (fd int, err error) {
	slave, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(master), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC)
	if errno != 0 {
		return -1, errno
	}
	return int(slave), nil
}
