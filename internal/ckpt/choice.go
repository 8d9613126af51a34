package ckpt

import (
	"errors"
	"fmt"
	"syscall"
)

// Candidate is an engine that may be chosen, and what it can do.
type Candidate struct {
	// Name is what CR_ENGINE calls it.
	Name string

	// Open connects to the engine. An error with ENOSYS says that this machine
	// does not have it; any other that it is there and does not work.
	Open func() (Engine, error)

	// Present tells without opening it whether the machine has it. It leaves no
	// descriptor open. Nil is for an engine that is expected everywhere.
	Present func() bool

	// Recognizes tells whether the engine wrote the context that the descriptor
	// is at the beginning of. It reads nothing from what cannot be read twice.
	Recognizes func(fd int) bool

	// Missing says that a context needs this engine and that it cannot be had.
	Missing string

	// Directories says how directories of images look; nil where the engine
	// neither writes nor reads any.
	Directories *DirectoryFormat

	// Compresses says that the engine takes CheckpointRequest.Compress.
	Compresses bool

	// SignalsFirst says that the processes get the request's signal before
	// Capture returns, so that it can come back to the caller before it knows
	// that the context is complete.
	SignalsFirst bool

	// Terse says that BLCR's own lines are all that is said about a failure.
	Terse bool

	// Includes tells whether the calling process is in the request's scope and
	// would be saved with it. Nil is for an engine that leaves its requester out.
	// It leaves no descriptor open.
	Includes func(*CheckpointRequest) bool
}

// DirectoryFormat is how the directories of an engine look.
type DirectoryFormat struct {
	// Inventory is the file that every one of them has.
	Inventory string

	// IsImage tells whether a file of that name belongs into one.
	IsImage func(name string) bool
}

// Choice is the choice of the engine for one request: of the forced one, if there
// is one; else of the one that has written the context; else of the first one
// that this machine has.
type Choice struct {
	candidates []Candidate
	forced     string
	expected   *Candidate
	required   *Candidate
}

// NewChoice returns a choice among candidates, the preferred one first. Forced,
// the value of CR_ENGINE, leaves no other; empty it does nothing.
func NewChoice(forced string, candidates []Candidate) *Choice {
	return &Choice{candidates: candidates, forced: forced}
}

// Expected returns the candidate that is going to be used, without looking at
// whether it works. Where CR_ENGINE names no engine it has only that name.
func (c *Choice) Expected() *Candidate {
	if c.required != nil {
		return c.required
	}
	if c.expected == nil {
		c.expected = c.expect()
	}
	return c.expected
}

func (c *Choice) expect() *Candidate {
	for i := range c.candidates {
		candidate := &c.candidates[i]
		if c.forced == candidate.Name || c.forced == "" && (candidate.Present == nil || candidate.Present()) {
			return candidate
		}
	}
	return &Candidate{Name: c.forced}
}

// Includes tells whether the calling process is in the request's scope and would
// be saved by the expected engine. It leaves no descriptor open.
func (c *Choice) Includes(r *CheckpointRequest) bool {
	for i := range c.candidates {
		// The cheaper question first.
		if includes := c.candidates[i].Includes; includes != nil && includes(r) {
			return c.Expected() == &c.candidates[i]
		}
	}
	return false
}

// Require looks at the context on a descriptor and makes the engine that has
// written it the only one, unless another one is forced. It changes nothing if
// none recognizes it.
func (c *Choice) Require(fd int) {
	if c.forced != "" {
		return
	}
	for i := range c.candidates {
		if r := c.candidates[i].Recognizes; r != nil && r(fd) {
			c.required = &c.candidates[i]
			return
		}
	}
}

// Open opens the engine. It tries the candidates in their order and takes the
// first that this machine has; Expected returns that one from then on. Where
// there is none the error is ENOSYS, with what each of them says.
func (c *Choice) Open() (Engine, error) {
	missing := &Error{Op: "choose", Object: "engine", Errno: syscall.ENOSYS}
	if c.required != nil {
		missing.Detail = []string{c.required.Missing}
	}
	known := c.forced == ""
	for i := range c.candidates {
		candidate := &c.candidates[i]
		if c.forced != "" && c.forced != candidate.Name || c.required != nil && c.required != candidate {
			continue
		}
		known = true
		engine, err := candidate.Open()
		if err == nil {
			c.expected = candidate
			return engine, nil
		}
		var e *Error
		if !errors.As(err, &e) {
			return nil, err
		}
		if c.required == nil && e.Errno != syscall.ENOSYS {
			return nil, err
		}
		missing.Errno = e.Errno
		missing.Detail = append(missing.Detail, e.Detail...)
	}
	if !known {
		missing.Detail = append(missing.Detail, fmt.Sprintf("CR_ENGINE names '%s', which is no engine of this program", c.forced))
	}
	return nil, missing
}
