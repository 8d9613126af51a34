package ckpt

import (
	"errors"
	"fmt"
	"syscall"
)

// Candidate is an engine that can be chosen, with its capabilities.
type Candidate struct {
	// Name is the value of CR_ENGINE that selects it.
	Name string

	// Open connects to the engine. ENOSYS means that this machine does not have it, any
	// other error that it exists and does not work.
	Open func() (Engine, error)

	// Present reports whether this machine has the engine, without opening it. It
	// leaves no descriptor open. It is nil for an engine that is expected on every
	// machine.
	Present func() bool

	// Recognizes reports whether the engine wrote the context that begins at the
	// descriptor's offset. It does not read from a pipe or socket.
	Recognizes func(fd int) bool

	// Missing is the line for a context that needs this engine, if it is not available.
	Missing string

	// Directories is the format of directories of images; nil if the engine does not
	// write or read any.
	Directories *DirectoryFormat

	// Compresses says that the engine supports CheckpointRequest.Compress.
	Compresses bool

	// Lazy says that the engine supports RestartRequest.Lazy.
	Lazy bool

	// KeepsStdio says that the engine supports RestartRequest.KeepStdio.
	KeepsStdio bool

	// SignalsFirst says that the processes get the request's signal before Capture
	// returns. One of them may send it on to the caller before the caller knows that
	// the context is complete.
	SignalsFirst bool

	// Terse says that failures are reported by BLCR's own lines only.
	Terse bool

	// Asks says that a checkpoint by another process asks this one to take part, which
	// answers by package selfckpt.
	Asks bool

	// Claims says that a process with a request under way has to be claimed
	// (package atwork), since the engine would save it with another request. BLCR's
	// module keeps account of its requests itself.
	Claims bool

	// Includes reports whether the calling process is in the request's scope and would
	// be saved with it. It leaves no descriptor open. It is nil for an engine that
	// leaves its requester out.
	Includes func(*CheckpointRequest) bool
}

// DirectoryFormat describes the directories of an engine.
type DirectoryFormat struct {
	// Inventory is the name of a file that is in every such directory.
	Inventory string

	// IsImage reports whether a file of that name belongs into such a directory.
	IsImage func(name string) bool
}

// Choice is the choice of the engine for one request: the forced engine, if there is
// one; else the one that has written the context; else the first one that this machine
// has.
type Choice struct {
	candidates []Candidate
	forced     string
	expected   *Candidate
	required   *Candidate
}

// NewChoice returns a choice among candidates, the preferred one first. If forced, the
// value of CR_ENGINE, is not empty, only the candidate of that name is considered.
func NewChoice(forced string, candidates []Candidate) *Choice {
	return &Choice{candidates: candidates, forced: forced}
}

// Expected returns the candidate that is going to be used, without checking whether it
// works. If CR_ENGINE names no engine, the candidate has only that name.
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

// Includes reports whether the calling process is in the request's scope and would be
// saved by the expected engine. It leaves no descriptor open.
func (c *Choice) Includes(r *CheckpointRequest) bool {
	includes := c.Expected().Includes
	return includes != nil && includes(r)
}

// Require determines which engine has written the context on a descriptor, and makes it
// the only one, unless an engine is forced. It has no effect if no engine recognizes
// the context.
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

// Open opens the engine. It tries the candidates in their order and uses the first that
// this machine has; Expected returns that one from then on. If there is none, the error
// is ENOSYS, with the details of all candidates.
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
	if known && c.forced != "" && len(missing.Detail) == 0 {
		missing.Detail = []string{fmt.Sprintf("CR_ENGINE=%s in the environment allows no other engine, and this machine does not have that one; 'unset CR_ENGINE' allows others", c.forced)}
	}
	if !known {
		missing.Detail = append(missing.Detail, fmt.Sprintf("CR_ENGINE names '%s', which is no engine of this program", c.forced))
	}
	return nil, missing
}
