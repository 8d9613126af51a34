package ckpt

import (
	"context"
	"errors"
	"fmt"
	"syscall"
)

// Engine saves processes and brings them back. An Engine serves one request.
//
// A cancelled context ends the request at any moment: the call returns soon, with
// an error, the processes run on unharmed, or are gone again, and nothing that
// the engine has made is left.
type Engine interface {
	// Capture freezes the processes and takes hold of all of them. When it
	// returns without an error the processes stand still, and Capture's methods
	// decide how it goes on. An engine that cannot stop there has done everything
	// by then, the signal included.
	//
	// The error is an *Error. Its number is ESRCH if no process was found, and
	// ERestarted in a restored copy of the caller.
	Capture(ctx context.Context, r *CheckpointRequest) (Capture, error)

	// Restart makes the processes anew and returns when they run. The caller's
	// goroutine must be locked to the main thread, which becomes the parent of
	// the restored root. The pid is the root's. It is to be waited for with
	// __WALL. 0 says that init is its parent.
	//
	// The context is obeyed until r.Made has been called.
	Restart(ctx context.Context, r *RestartRequest) (pid int, err error)

	// Log returns what the engine has logged about the request, a line each,
	// without line ends. It is valid once Capture or Restart has returned, with
	// or without an error.
	Log() []string

	// Progress returns how many bytes of the context have been written or read,
	// and of how many; 0 for what is not known. It may be called at any time,
	// from another goroutine, if the request has Measure set.
	Progress() (done, all int64)

	// Close says that the request and all that belongs to it is over: the context
	// stands under its name, the job is the caller's to wait for. It gives back
	// what the engine holds. No method may run any more.
	//
	// Until then a checkpoint by another process, with the caller in its scope,
	// waits, where the engine can make it wait.
	Close() error
}

// Capture is processes that have been captured. One of two orders completes a
// checkpoint, depending on whether the processes go on (RunsOn):
//
//	they run on:   Release, Write, and then the context gets its name
//	they do not:   Write, the context gets its name, and then Release
//
// So processes are frozen for as short as possible, and none ends before its
// context is safe. Abort may take the place of any further step.
type Capture interface {
	// Write completes the context: when it returns nil, all of it has been
	// written to the request's descriptor.
	Write(ctx context.Context) error

	// Release sends the processes the request's signal and lets them go on. The
	// signal reaches each before its next instruction. It returns when the engine
	// holds no process any more, and, if the signal is one that ends processes,
	// when they have ended, for whom that takes no longer than a moment.
	Release()

	// Abort gives the capture up. The processes go on as if nothing had been,
	// if they have not been released.
	Abort()
}

// Done is the Capture of an engine whose Capture does everything: BLCR's module.
type Done struct{}

// Write does nothing.
func (Done) Write(context.Context) error { return nil }

// Release does nothing.
func (Done) Release() {}

// Abort does nothing.
func (Done) Abort() {}

// Step is a step of a request. BLCR's messages tell in which one it failed.
type Step int

// The steps. The module's operations are in parentheses.
const (
	StepOutcome Step = iota // its outcome is collected (CR_OP_CHKPT_REAP, CR_OP_RSTRT_REAP)
	StepIssue               // it is issued (CR_OP_CHKPT_REQ; CR_OP_RSTRT_REQ and _PROCS)
	StepWait                // it is waited for (poll)
	StepLog                 // its log is read (CR_OP_CHKPT_LOG, CR_OP_RSTRT_LOG)
)

// Error is an operation of an engine that failed.
type Error struct {
	Op     string        // what was done: "open", "ioctl CR_OP_CHKPT_REQ", "fork"
	Object string        // to what: a path, a descriptor; may be empty
	Errno  syscall.Errno // why: the system's or BLCR's own number
	Step   Step          // in which step of the request

	// Detail says more, a line each, where the number alone would leave the
	// user without a clue.
	Detail []string
}

// Error is for programmers; users see what the commands make of the fields.
func (e *Error) Error() string {
	if e.Object == "" {
		return fmt.Sprintf("%s: %s", e.Op, Strerror(e.Errno))
	}
	return fmt.Sprintf("%s %s: %s", e.Op, e.Object, Strerror(e.Errno))
}

// Unwrap gives the number, for errors.Is(err, syscall.ENOSYS).
func (e *Error) Unwrap() error { return e.Errno }

// At returns err as an error of that step; nil for nil.
func At(step Step, err error) error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		at := *e
		at.Step = step
		return &at
	}
	return &Error{Op: "request", Errno: ErrnoOf(err), Step: step}
}

// StepOf returns the step in which err happened.
func StepOf(err error) Step {
	var e *Error
	if errors.As(err, &e) {
		return e.Step
	}
	return StepOutcome
}
