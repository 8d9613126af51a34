package ckpt

import (
	"fmt"
	"syscall"
)

// Engine saves processes and brings them back. An Engine serves one request.
type Engine interface {
	// Checkpoint issues the request. The error is that of a request refused at
	// once; most failures come out at Reap.
	Checkpoint(*CheckpointRequest) (Checkpoint, error)

	// Restart issues the request and makes the processes that it needs, as
	// children of the caller. It must be called with the caller's goroutine
	// locked to the process's main thread, which becomes their parent.
	Restart(*RestartRequest) (Restart, error)

	// Close gives up whatever the engine holds. A request under way is
	// abandoned.
	//
	// It also says that the caller has finished what belongs to its request: a
	// context stands under its name, the job is the caller's to wait for. Until
	// then a checkpoint by somebody else that the caller is in the scope of
	// waits, where the engine can make it wait. Who ends without it answers
	// nobody.
	Close() error
}

// Meter is what an Engine also is if it can tell how far its request has come.
type Meter interface {
	// Progress returns how many bytes of the context have been written or read,
	// of how many; 0 for what is not known. It may be called at any time, from
	// another goroutine.
	Progress() (done, all int64)
}

// Checkpoint is a checkpoint under way.
type Checkpoint interface {
	// Wait returns when the request is complete, nil for well or ill. After the
	// request's limit it returns ETIME; the request then is still under way and
	// all that is left to do is Engine.Close.
	Wait() error

	// Log returns what the engine has to say about the request, a line each,
	// without line ends. To be called between Wait and Reap.
	Log() ([]string, error)

	// Reap ends a complete request and returns its outcome: nil, ESRCH for
	// nobody checkpointed, ERestarted in a restarted copy of the caller.
	Reap() error
}

// Restart is a restart under way.
type Restart interface {
	// Wait returns when the request is complete, nil for well or ill.
	Wait() error

	// Log is Checkpoint's.
	Log() ([]string, error)

	// Reap ends a complete request. The pid is that of the eldest restored
	// process, which is a child of the caller, to be waited for with __WALL;
	// 0 says that init is its parent.
	Reap() (pid int, err error)
}

// Error is an operation of an engine that failed.
type Error struct {
	Op     string        // what was done: "open", "ioctl CR_OP_CHKPT_REQ", "fork"
	Object string        // to what: a path, a descriptor; may be empty
	Errno  syscall.Errno // why: the system's or BLCR's own number

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

// Candidate is an engine that may be chosen.
type Candidate struct {
	// Name is what CR_ENGINE calls it.
	Name string

	// Open connects to the engine. An error with ENOSYS says that this machine
	// does not have it; any other that it is there and does not work.
	Open func() (Engine, error)
}

// Choose opens the engine that name, the value of CR_ENGINE, forces; without a
// name the first candidate that this machine has. Candidates stand in order of
// preference. It returns the chosen one's name as well. Where there is none the
// error is ENOSYS.
func Choose(name string, candidates []Candidate) (Engine, string, error) {
	missing := &Error{Op: "choose", Object: "engine", Errno: syscall.ENOSYS}
	known := name == ""
	for _, c := range candidates {
		if name != "" && name != c.Name {
			continue
		}
		known = true
		engine, err := c.Open()
		if err == nil {
			return engine, c.Name, nil
		}
		e, ok := err.(*Error)
		if !ok || e.Errno != syscall.ENOSYS {
			return nil, "", err
		}
		missing.Detail = append(missing.Detail, e.Detail...)
	}
	if !known {
		missing.Detail = append(missing.Detail, fmt.Sprintf("CR_ENGINE names '%s', which is no engine of this program", name))
	}
	return nil, "", missing
}
