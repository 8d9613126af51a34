// Package remote has a thread of another process make a system call, by ptrace(2), or says
// what only a tracer is told.
//
// What belongs here is how that is done. Why it is, does not.
package remote

import (
	"time"

	"blcr-cli/internal/proc"
	"blcr-cli/internal/thread"
)

// Thread is one that is to make a system call. It must be in the same pid namespace, in 64-bit
// code, and not be traced.
type Thread struct {
	PID, TID int

	// Filtered has its filter of system calls suspended meanwhile, which takes CAP_SYS_ADMIN.
	Filtered bool

	// Stopped is for one whose process is stopped as by SIGSTOP, and stays so.
	Stopped bool

	// Deadline is until when it is waited for that the thread stops.
	Deadline time.Time
}

// Call has a thread make a system call, and returns its result, which is -errno for a
// failure. ok is false if the thread could not be made to. The caller is on a thread of its
// own, see Run: a thread that has not stopped by the deadline is let go of when that ends. Nothing
// is written to the process's memory.
//
// The thread is let go of as after any stop by ptrace: all registers and the mask of
// signals are as before, and the kernel restarts a system call that it was in.
func Call(t Thread, number uintptr, args ...uint64) (result int64, ok bool) {
	return call(t, number, args)
}

// Dispatches reports whether the system calls of a thread become signals
// (PR_SET_SYSCALL_USER_DISPATCH), as far as that is known: since Linux 6.4, and of a thread that
// has stopped by the deadline. The caller is on a thread of its own, as for Call.
func Dispatches(t Thread) bool { return dispatches(t) }

// Run calls f on a thread of its own, which ends. F returns a thread that has not stopped in time,
// 0 if they all have: Run returns when that has been let go of, or after a second.
func Run(f func() (late int)) {
	var late int
	thread.Run(func() { late = f() })
	for range 1000 { // milliseconds
		if tracer, err := proc.Tracer(late); late == 0 || err != nil || tracer == 0 {
			return
		}
		time.Sleep(time.Millisecond)
	}
}
