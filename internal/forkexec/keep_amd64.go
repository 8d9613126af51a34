package forkexec

import (
	"math"
	"os"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/proc"
	"blcr-cli/internal/signals"
)

// Keep starts a process that keeps the descriptor fd open until it is readable, for the
// limit at most, which is rounded down to milliseconds. The process executes no program.
// It is a child of init, in a session of its own and in the directory /, and has nothing
// else open. All signals are blocked in it, so a request of BLCR's module has to wait for
// its end.
//
// The caller has to close fd. The error is an errno of fork.
func Keep(fd int, limit time.Duration) error {
	k := newKeeper(fd, limit)
	pid, err := k.fork(-1)
	runtime.KeepAlive(k)
	if err != nil {
		return err
	}
	// Only the intermediate process is waited for, which has closed everything by then.
	_, _ = signals.Wait(pid)
	return nil
}

// keeper is what the child of Keep does.
type keeper struct {
	plan
	poll unix.PollFd
	root [2]byte
}

// newKeeper is not inlined, for newPlan's reason.
//
//go:noinline
func newKeeper(fd int, limit time.Duration) *keeper {
	k := &keeper{poll: unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}, root: [2]byte{'/'}}
	k.closeAllBut(fd)
	k.add(mayFail, unix.SYS_CHDIR, uintptr(unsafe.Pointer(&k.root)))
	k.add(mayFail, unix.SYS_SETSID)
	// The result in the new process is 0, the first argument. This one ends here, and
	// leaves the new one to init.
	k.add(mustEqual, unix.SYS_CLONE, 0)
	k.add(mayFail, unix.SYS_POLL, uintptr(unsafe.Pointer(&k.poll)), 1, uintptr(limit/time.Millisecond))
	k.add(mayFail, unix.SYS_EXIT_GROUP, 0)
	return k
}

// closeAllBut closes all other descriptors.
func (k *keeper) closeAllBut(fd int) {
	if unix.CloseRange(math.MaxInt32, math.MaxInt32, 0) == nil {
		if fd > 0 {
			k.add(mayFail, unix.SYS_CLOSE_RANGE, 0, uintptr(fd-1), 0)
		}
		k.add(mayFail, unix.SYS_CLOSE_RANGE, uintptr(fd+1), math.MaxInt32, 0)
		return
	}
	// Linux before 5.9.
	for d, err := range proc.Descriptors(os.Getpid()) {
		if err == nil && d.FD != fd {
			k.add(mayFail, unix.SYS_CLOSE, uintptr(d.FD))
		}
	}
}
