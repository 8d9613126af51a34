package ckpt

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"blcr-cli/internal/hints"
)

// Engine saves and restores processes. An Engine serves one request.
//
// Cancelling the context.Context ends the request at any moment: the call returns soon,
// with an error. The processes to be saved run on unharmed, processes that were made
// for a restart are removed, and so is everything else that the engine has created.
type Engine interface {
	// Capture freezes the processes and dumps them. When it returns without an error,
	// the processes are frozen, and the methods of the Capture continue the request. An
	// engine that cannot stop at this point has done everything by then, including the
	// signal.
	//
	// The error is an *Error. Its number is ESRCH if no process was found, and
	// ERestarted in a restored copy of the caller.
	Capture(ctx context.Context, r *CheckpointRequest) (Capture, error)

	// Forecast says whether Capture would succeed with the same request, as far as that
	// can be seen without touching a process. Of the descriptors it looks at FD only,
	// and not if that is negative. It waits as Capture does for another request.
	Forecast(ctx context.Context, r *CheckpointRequest) *Forecast

	// Collides reports whether threads of the calling process have numbers that the job
	// needs, so that a Restart fails, and that it would not have if it executed its program
	// again. It sees to it, as far as it may, that no process or thread gets such a number
	// before the job. The descriptor's offset is then as before.
	Collides(r *RestartRequest) bool

	// Restart restores the processes and returns when they run. The caller's goroutine
	// must be locked to the main thread, which becomes the parent of the restored root.
	// pid is that of the root, which has to be waited for with __WALL, or 0 if init is
	// its parent.
	//
	// Cancelling ctx has an effect until r.Made has been called.
	Restart(ctx context.Context, r *RestartRequest) (pid int, err error)

	// ForecastRestart says whether Restart would succeed with the same request, as far as
	// that can be seen without making a process. The descriptor's offset is moved as by
	// Restart.
	ForecastRestart(ctx context.Context, r *RestartRequest) *Forecast

	// Describe returns what saves and restores, for a verbose command: a program, its
	// version and its path. It is "" for BLCR's module, with which the output of a
	// command stays that of BLCR's.
	Describe() string

	// InPlace returns when all memory of the processes that Restart has made is in place.
	// That may be later than its return if the request has Lazy set; the processes
	// depend on this process until then. After an error, an *Error, they have been ended.
	InPlace() error

	// Log returns what the engine has logged about the request, one string for each
	// line, without line feeds. It may be called after Capture or Restart has returned,
	// with or without an error.
	Log() []string

	// Progress returns how many bytes of the context have been written or read, and of
	// how many; 0 for an unknown number. If the request has Measure set, it may be
	// called at any time and by another goroutine.
	Progress() (done, all int64)

	// Close ends the request after everything that belongs to it is done: the context
	// has its name, or the caller waits for the job. It releases what the engine holds.
	// No other method may run after it.
	//
	// Until then a checkpoint by another process with the caller in its scope waits, if
	// the engine can make it wait.
	Close() error
}

// Capture is a set of captured processes. One of two orders completes a checkpoint,
// depending on whether the processes run on (RunsOn):
//
//	they run on:   Release, Write, and then the context gets its name
//	they do not:   Write, the context gets its name, and then Release
//
// So processes are frozen for as short a time as possible, and none ends before its
// context is safe. Abort may be called in place of any further step.
type Capture interface {
	// Write completes the context: when it returns nil, all of it has been
	// written to the request's descriptor.
	Write(ctx context.Context) error

	// Release sends the request's signal to the processes and lets them run on. The
	// signal reaches each process before its next instruction. Release returns when the
	// engine no longer holds a process. If the signal ends processes, it first waits a
	// short time for their end.
	Release()

	// Frozen returns how long the processes have stood still, after Release; 0 if that is
	// not known.
	Frozen() time.Duration

	// Abort gives the capture up. Processes that have not been released run on as if
	// there had been no request.
	Abort()
}

// Done is the Capture of an engine whose method Capture does everything: BLCR's module.
type Done struct{}

// Write does nothing.
func (Done) Write(context.Context) error { return nil }

// Release does nothing.
func (Done) Release() {}

// Frozen returns 0: the module does not tell.
func (Done) Frozen() time.Duration { return 0 }

// Abort does nothing.
func (Done) Abort() {}

// Step is a step of a request. BLCR's messages depend on the step that failed.
type Step int

// The steps. The module's operations are in parentheses.
const (
	StepOutcome Step = iota // collecting the outcome (CR_OP_CHKPT_REAP, CR_OP_RSTRT_REAP)
	StepIssue               // issuing the request (CR_OP_CHKPT_REQ; CR_OP_RSTRT_REQ and _PROCS)
	StepWait                // waiting for it (poll)
	StepLog                 // reading its log (CR_OP_CHKPT_LOG, CR_OP_RSTRT_LOG)
)

// Error is an operation of an engine that failed.
type Error struct {
	Op     string        // the operation: "open", "ioctl CR_OP_CHKPT_REQ", "fork"
	Object string        // its object: a path, a descriptor; may be empty
	Errno  syscall.Errno // the reason: the system's or BLCR's own number
	Step   Step          // the step of the request

	// Detail has further lines for the user, if the number alone does not explain the
	// failure.
	Detail []string
}

// Error is for programmers. Commands make their messages of the fields.
func (e *Error) Error() string {
	if e.Object == "" {
		return fmt.Sprintf("%s: %s", e.Op, Strerror(e.Errno))
	}
	return fmt.Sprintf("%s %s: %s", e.Op, e.Object, Strerror(e.Errno))
}

// Unwrap returns the number, for errors.Is(err, syscall.ENOSYS).
func (e *Error) Unwrap() error { return e.Errno }

// DetailOf returns the Detail of an *Error in err; nil if there is none.
func DetailOf(err error) []string {
	var e *Error
	if errors.As(err, &e) {
		return e.Detail
	}
	return nil
}

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
	errno := ErrnoOf(err)
	return &Error{Op: "request", Errno: errno, Step: step, Detail: hints.Limits(errno)}
}

// StepOf returns the step in which err happened.
func StepOf(err error) Step {
	var e *Error
	if errors.As(err, &e) {
		return e.Step
	}
	return StepOutcome
}
