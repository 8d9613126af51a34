// Package ckpt says what a checkpoint and a restart are, apart from who does
// them: the requests, the Engine interface that carries them out, the error
// numbers with their texts, and the choice of an engine.
//
// It knows no option, prints nothing and makes no system call; the engines are
// packages below this directory and know nothing of one another.
package ckpt

import (
	"syscall"
	"time"
)

// Scope says which processes a checkpoint takes, given one number.
// The values are those of enum cr_scope.
type Scope int

// The scopes.
const (
	ScopeProcess Scope = iota // the process with that pid
	ScopeGroup                // the process group
	ScopeSession              // the session
	ScopeTree                 // the process with that pid and all its descendants
)

// CheckpointRequest is what cr_checkpoint asks of an engine.
type CheckpointRequest struct {
	// ID is a pid, process group or session, as Scope says.
	ID    int32
	Scope Scope

	// FD is the open descriptor that the context is written to, from its
	// current offset on. It stays the caller's.
	FD int32

	// Closed says that FD was closed when the caller was started. Whatever has
	// that number by now is not what was meant.
	Closed bool

	// Name is what the context is written to, for messages.
	Name string

	// Dir, if it is not empty, says that FD is a directory, open for reading,
	// that gets plain files instead of a context, and is its name for messages.
	// The kernel engine has no such thing and never gets it.
	Dir string

	// Compress, if it is not 0, has the context compressed, at a level from 1 to
	// 22 of zstd(1)'s. Not with Dir; and the kernel engine never gets it.
	Compress int

	// Requester is the pid of a process among those to be saved that has the
	// caller make the request, and does nothing but wait for it; 0 is none. What
	// it waits at must end in its restored copy. The kernel engine never gets it.
	Requester int32

	// Measure says that Engine.Progress is going to be called.
	Measure bool

	// WantLog says that Engine.Log is going to be called.
	WantLog bool

	// Progressed, if not nil, is called before a step of the request begins, but
	// for the first.
	Progressed func(Step)

	// Limit is how long the targets may take; 0 is no limit.
	Limit time.Duration

	// Signal goes to every process that was checkpointed; 0 is none. A negative
	// number is BLCR's "early" signal, sent before callbacks run on.
	Signal int32

	// What to do about targets that are traced, and that trace others. Without
	// any the request fails with EPtraced and EPtracer.
	PtracedAllow bool
	PtracedSkip  bool
	PtracerSkip  bool

	// Files that are mapped into the targets and go into the context with them.
	SaveExe     bool
	SavePrivate bool
	SaveShared  bool
}

// RunsOn tells whether processes simply go on with a signal, 0 being none: it
// neither ends nor stops them.
func RunsOn(signal int32) bool {
	switch syscall.Signal(signal) {
	case 0, syscall.SIGCONT, syscall.SIGCHLD, syscall.SIGWINCH, syscall.SIGURG:
		return true
	}
	return false
}

// Ends tells whether processes rarely survive a signal, 0 being none.
func Ends(signal int32) bool {
	switch syscall.Signal(signal) {
	case syscall.SIGSTOP, syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU:
		return false
	}
	return !RunsOn(signal)
}

// RestartRequest is what cr_restart asks of an engine.
type RestartRequest struct {
	// FD is the open descriptor that the context is read from, sequentially
	// from its current offset on. It stays the caller's.
	FD int32

	// Closed says that FD was closed when the caller was started. Whatever has
	// that number by now is not what was meant.
	Closed bool

	// Dir, if it is not empty, says that FD is a directory of plain files, and
	// is its name for messages. The kernel engine never gets it.
	Dir string

	// Measure says that Engine.Progress is going to be called.
	Measure bool

	// WantLog says that Engine.Log is going to be called.
	WantLog bool

	// Made, if not nil, is called once, when all processes have been made and
	// before they execute anything of their own. From then on the restart cannot
	// be interrupted any more. False ends it. It may be called by another
	// goroutine.
	Made func() bool

	// Resume, if not nil, is called after Made, right before the processes run.
	// The kernel engine never calls it, since the module does not ask.
	Resume func()

	// Signal goes to every process after the restart, see CheckpointRequest.
	Signal int32

	// Relocations in the order given; the first that matches a path wins.
	// At most MaxRelocations.
	Relocations []Relocation

	// Identifiers that are restored to their saved values.
	RestorePid  bool
	RestorePgid bool
	RestoreSid  bool

	// Omit says whether the caller is part of checkpoints that somebody makes
	// later on. The criu engine does not look at it: CRIU asks nobody.
	Omit Omit
}

// Omit says whether a requester of a restart leaves itself out of a later
// checkpoint that it is in the scope of. The job is saved in any case.
// The values mirror cr_restart's CR_RSTRT_OMIT_*.
type Omit int

// Leaving oneself out.
const (
	OmitMaybe  Omit = iota // if it is the one that was named, or an orphan
	OmitAlways             // in any case
	OmitNever              // in no case
)

// MaxRelocations is the most relocations that a restart can take
// (CR_MAX_RSTRT_RELOC).
const MaxRelocations = 16

// Relocation maps the path prefix Old to New, whole components only. Both are
// absolute and end in no slash (but "/" itself).
type Relocation struct {
	Old, New string
}
