package attributes

import (
	"os"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/proc"
)

// TestMasters: a terminal that was closed on its other end is noted, and a new one becomes such
// a one. One whose other end is open, or has never been, is not noted, and the former is left
// alone.
func TestMasters(t *testing.T) {
	master := func() int {
		fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Skip(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
			t.Fatal(err)
		}
		return fd
	}
	closed := func(fd int) bool {
		link, err := os.Readlink(proc.Open(os.Getpid(), fd))
		if err != nil {
			t.Fatal(err)
		}
		return wasClosed(os.Getpid(), proc.Descriptor{FD: fd, Link: link})
	}
	fresh, open := master(), master()
	slave, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(open), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		t.Skip(errno)
	}
	if closed(fresh) || closed(open) {
		t.Error("a terminal is noted that was not closed")
	}
	closeSlaves(os.Getpid(), strconv.Itoa(fresh)+",1000000")
	if !closed(fresh) || closed(open) {
		t.Errorf("closed: %v, and the other one: %v", closed(fresh), closed(open))
	}
	unix.Close(int(slave))
	if !closed(open) {
		t.Error("a terminal that was closed is not noted")
	}
}
