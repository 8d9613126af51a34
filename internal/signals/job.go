package signals

import (
	"runtime"
	"slices"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// HoldForJob catches from now on every signal that is to be passed on to the job:
// all but KILL, STOP, CHLD and 64, and also those that this process ignores. They
// are kept until ForwardToJob, so that none is lost, and none ends cr_restart
// while a half-made job depends on it.
func HoldForJob() {
	if slices.Contains(effective(pending()), unix.SIGCONT) {
		take(unix.SIGCONT) // It has only revoked a stop: there is no job yet.
	}
	for _, sig := range all(forwarded) {
		// Fails for what cannot be caught, which then stays as it is.
		_ = Catch(sig)
	}
}

// HoldStops catches the signals by which a terminal stops its jobs, unless they
// are ignored, and SIGCONT, which revokes them. It is for the time of the request, before
// HoldForJob: to be stopped and continued would interrupt the request. FreeStops undoes it.
func HoldStops() { catch(deferred) }

// FreeStops gives those signals their default action.
func FreeStops() { uncatch(deferred) }

// DeferStops holds these signals, and SIGCONT, until ObeyStops. It is for a process that
// must not stop because others are frozen until it goes on.
func DeferStops() { catch(deferred) }

// ObeyStops stops the process by the last of the signals held by DeferStops, unless
// SIGCONT came after it, and returns when it has been continued. From then on they have
// their default action.
func ObeyStops() {
	uncatch(deferred)
	for _, sig := range effective(pending()) {
		if deferred(sig) && take(sig) > 0 && stops(sig) {
			_ = raiseDefault(sig)
			return
		}
	}
}

func deferred(sig syscall.Signal) bool { return stops(sig) || sig == unix.SIGCONT }

// ForwardToJob sends the signals held so far to the process pid, and from then on
// every signal as it arrives. It returns at once. It must be called once, after
// HoldForJob.
func ForwardToJob(pid int) {
	go func() {
		// raiseDefault stops the process from the thread that runs this.
		runtime.LockOSThread()
		watch(func() bool {
			for _, sig := range effective(pending()) {
				for range deliveries(sig, take(sig)) {
					forwardOne(pid, sig)
				}
			}
			return false
		})
	}()
}

// forwardOne sends one signal to the job. The signals by which a terminal stops
// its jobs stop this process, too: it is the one that the shell has started.
func forwardOne(pid int, sig syscall.Signal) {
	// ESRCH: the job has just ended.
	_ = unix.Kill(pid, sig)
	if stops(sig) {
		_ = raiseDefault(sig) // returns when this process has been continued
		_ = Catch(sig)
	}
}

// deliveries returns how often the kernel would deliver a signal that was sent
// count times while it was blocked.
func deliveries(sig syscall.Signal, count int) int {
	if sig < firstQueued {
		return min(count, 1)
	}
	return count
}

// effective removes from pending signals, which are in the order of arrival,
// those that the kernel would discard while they are pending: SIGCONT discards
// stop signals, and a stop signal discards SIGCONT.
func effective(pending []syscall.Signal) []syscall.Signal {
	last := syscall.Signal(0)
	for _, sig := range pending {
		if stops(sig) || sig == unix.SIGCONT {
			last = sig
		}
	}
	return slices.DeleteFunc(pending, func(sig syscall.Signal) bool {
		discarded := sig == unix.SIGCONT && stops(last) || stops(sig) && last == unix.SIGCONT
		if discarded {
			take(sig)
		}
		return discarded
	})
}

// Wait waits until the child pid has ended, reaps it, and returns its wait status.
// The error is an errno; ECHILD: there is no such child.
func Wait(pid int) (unix.WaitStatus, error) {
	for {
		// __WALL: a restored process may have any exit signal. (unix.Wait4
		// cannot pass the flag where an int has 32 bits.)
		var status uint32
		_, _, errno := unix.Syscall6(unix.SYS_WAIT4, uintptr(pid),
			uintptr(unsafe.Pointer(&status)), unix.WALL, 0, 0, 0)
		switch errno {
		case 0:
			return unix.WaitStatus(status), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// EndAs makes this process end as the job with that status ended. If the job
// exited, EndAs returns the status to exit with. If a signal killed it, this
// process dies of the same signal here, without a core file of its own.
func EndAs(status unix.WaitStatus) (exitCode int) {
	if status.Signaled() {
		DieOf(status.Signal())
	}
	return status.ExitStatus()
}
