package pstree

import (
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/proc"
)

// faultSignals are what the kernel sends a thread for what that has just done.
const faultSignals = 1<<(unix.SIGSEGV-1) | 1<<(unix.SIGBUS-1) | 1<<(unix.SIGILL-1) | 1<<(unix.SIGTRAP-1) | 1<<(unix.SIGFPE-1) | 1<<(unix.SIGSYS-1)

// Faulting is for when CRIU stops the processes, or has stopped them. It returns a thread that
// was stopped between a fault and its handler, 0 if there is none. If over is not nil it waits for
// threads that run until that is closed.
//
// A thread with a fault pending takes that signal next, also where it is blocked, and does not do
// what CRIU wants it to: the dump fails. Of another thread than the first one CRIU leaves its trap
// pending then, of which the process dies. Programs that handle faults all the time, as some
// runtimes do, are often met in that moment.
func (t *Tree) Faulting(over <-chan struct{}) (tid int) {
	for _, pid := range t.PIDs {
		if proc.Handled(pid)&faultSignals == 0 {
			continue
		}
		for _, tid := range proc.Threads(pid) {
			if (over == nil || awaitStop(pid, tid, over)) && proc.Deliverable(tid)&faultSignals != 0 {
				return tid
			}
		}
	}
	return 0
}

// awaitStop returns true when a thread does not run, and false if it does when over is closed.
func awaitStop(pid, tid int, over <-chan struct{}) bool {
	for {
		p, err := proc.Thread(pid, tid)
		if err != nil || p.State == 't' || p.Dead() {
			return true
		}
		select {
		case <-over:
			return false
		case <-time.After(time.Millisecond):
		}
	}
}
