package signals

import (
	"os/signal"
	"runtime"
	"slices"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// checkpointSignal is BLCR's own, which package selfckpt answers.
const checkpointSignal = syscall.Signal(64)

// HoldForJob catches from now on every signal that is to go on to the job: all but
// KILL and STOP, which cannot be caught, CHLD, which is about the job, and 64,
// which is BLCR's. They wait until ForwardToJob says whom they are for, so none is
// lost, and none ends cr_restart while a half-made job depends on it.
// Signals that cannot be caught are left as they are.
func HoldForJob() {
	for sig := syscall.Signal(1); sig <= maxSignal; sig++ {
		if forwarded(sig) {
			_ = Catch(sig)
		}
	}
}

// HoldStops catches those that a terminal sends to stop us, before HoldForJob and for
// the time of the request: being stopped and continued would interrupt it.
// FreeStops undoes that.
func HoldStops() { eachStop(func(sig syscall.Signal) { _ = Catch(sig) }) }

// FreeStops gives them their default action back.
func FreeStops() { eachStop(func(sig syscall.Signal) { _ = Default(sig) }) }

func eachStop(f func(syscall.Signal)) {
	for sig := syscall.Signal(1); sig <= maxSignal; sig++ {
		if stops(sig) && !signal.Ignored(sig) {
			f(sig)
		}
	}
}

func forwarded(sig syscall.Signal) bool {
	switch sig {
	case unix.SIGKILL, unix.SIGSTOP, unix.SIGCHLD, checkpointSignal:
		return false
	}
	return true
}

// ForwardToJob sends the job with that pid what has been held, and from then on every
// signal as it comes. It returns at once; to be called once, after HoldForJob.
func ForwardToJob(pid int) {
	go func() {
		// Stopping ourselves is done by the thread that runs this.
		runtime.LockOSThread()
		for {
			seen := bellNow()
			for _, sig := range effective(pending()) {
				for range deliveries(sig, take(sig)) {
					forward(pid, sig)
				}
			}
			sleep(seen)
		}
	}()
}

// firstQueued is the first real-time signal. Of those before it the kernel keeps
// one of a kind pending, of the others all.
const firstQueued = 32

// deliveries is how often a signal is delivered that was sent count times while
// nobody could take it.
func deliveries(sig syscall.Signal, count int) int {
	if sig < firstQueued {
		return min(count, 1)
	}
	return count
}

// effective takes those out of pending signals, which are in the order of their
// arrival, that the kernel forgets while they are pending: to be continued is
// to forget being stopped, and the other way round.
func effective(pending []syscall.Signal) []syscall.Signal {
	last := syscall.Signal(0)
	for _, sig := range pending {
		if stops(sig) || sig == unix.SIGCONT {
			last = sig
		}
	}
	return slices.DeleteFunc(pending, func(sig syscall.Signal) bool {
		forgotten := sig == unix.SIGCONT && stops(last) || stops(sig) && last == unix.SIGCONT
		if forgotten {
			take(sig)
		}
		return forgotten
	})
}

// stops tells whether a signal is one by which a terminal stops its jobs.
func stops(sig syscall.Signal) bool {
	return sig == unix.SIGTSTP || sig == unix.SIGTTIN || sig == unix.SIGTTOU
}

// forward sends one signal to the job. The signals by which a terminal stops
// its jobs stop us as well: the shell that started cr_restart knows only us.
func forward(pid int, sig syscall.Signal) {
	// A job that has just ended has nothing to be told.
	_ = unix.Kill(pid, sig)
	if stops(sig) {
		// Returns when somebody continues us; then we catch it again.
		_ = raiseDefault(sig)
		_ = Catch(sig)
	}
}

// WaitJob returns the status with which the job with that pid ended. The error is
// an errno; ECHILD says that there is no such child.
func WaitJob(pid int) (unix.WaitStatus, error) {
	for {
		// The restored process may have been made by clone with any exit
		// signal, so look at every kind of child. (unix.Wait4 cannot take
		// these bits where an int has 32.)
		var status uint32
		_, _, errno := unix.Syscall6(unix.SYS_WAIT4, uintptr(pid),
			uintptr(unsafe.Pointer(&status)), unix.WALL|unix.WCLONE, 0, 0, 0)
		switch errno {
		case 0:
			return unix.WaitStatus(status), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// EndAs makes this process end as one with that status ended. The exit code of
// one that exited it returns, for the caller to exit with. Of a signal it dies
// here, with the kernel's default action and without a core file of its own.
func EndAs(status unix.WaitStatus) (exitCode int) {
	if status.Signaled() {
		DieOf(status.Signal())
	}
	return status.ExitStatus()
}
