// Package ckpt defines checkpoints and restarts independently of an engine: the
// requests, the Engine interface that executes them, the error numbers with their
// texts, and the choice of an engine.
//
// It knows no command-line option, prints nothing and makes no system call of its own. The engines
// are packages below this directory and know nothing of one another.
package ckpt

import (
	"syscall"
	"time"
)

// Scope selects the processes of a checkpoint, given one number. The values are those
// of enum cr_scope.
type Scope int

// The scopes.
const (
	ScopeProcess Scope = iota // the process with that pid
	ScopeGroup                // the process group
	ScopeSession              // the session
	ScopeTree                 // the process with that pid and all its descendants
)

// CheckpointRequest is a request of cr_checkpoint to an engine.
type CheckpointRequest struct {
	// ID is a pid, process group or session, depending on Scope.
	ID    int32
	Scope Scope

	// FD is the open descriptor that the context is written to, from its current offset
	// on. The caller closes it.
	FD int32

	// Begin, if not nil, is called before something is written to FD, but after the wait
	// for processes that read from that file, as those do whose memory follows while they
	// run. Its error is that of the request. The kernel engine never gets it.
	Begin func() error

	// Closed says that FD was closed when the caller was started. The number may belong
	// to another file now, which must not be used.
	Closed bool

	// Name is the name of the file that the context is written to, for messages.
	Name string

	// Dir, if it is not empty, says that FD is a directory, open for reading, to which
	// plain files are written instead of a context. It is the directory's name, for
	// messages. The kernel engine never gets it.
	Dir string

	// Compress, if it is not 0, is the level of zstd(1), from 1 to 22, at which the
	// context is compressed. It is not used with Dir, and the kernel engine never gets
	// it.
	Compress int

	// Requester is the pid of the process on whose behalf the caller makes the request,
	// if it is to be saved itself; 0 for none. It only waits for the request, in a way
	// that ends in its restored copy. The kernel engine never gets it.
	Requester int32

	// Measure says that Engine.Progress will be called.
	Measure bool

	// WantLog says that Engine.Log will be called.
	WantLog bool

	// Progressed, if not nil, is called before each step of the request except the
	// first.
	Progressed func(Step)

	// Limit is the time that the request may take; 0 means no limit.
	Limit time.Duration

	// Signal is sent to every process that was saved; 0 is none. A negative number is
	// BLCR's "early" signal, which is sent before callbacks continue.
	Signal int32

	// How to treat processes that are traced, and those that trace others. If none of
	// these is set, the request fails with EPtraced or EPtracer.
	PtracedAllow bool
	PtracedSkip  bool
	PtracerSkip  bool

	// Which files that are mapped into the processes are included in the context.
	SaveExe     bool
	SavePrivate bool
	SaveShared  bool
}

// RunsOn reports whether processes simply run on after a signal, which neither ends nor
// stops them. 0 is no signal.
func RunsOn(signal int32) bool {
	switch syscall.Signal(signal) {
	case 0, syscall.SIGCONT, syscall.SIGCHLD, syscall.SIGWINCH, syscall.SIGURG:
		return true
	}
	return false
}

// Ends reports whether a signal usually ends a process. 0 is no signal.
func Ends(signal int32) bool {
	switch syscall.Signal(signal) {
	case syscall.SIGSTOP, syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU:
		return false
	}
	return !RunsOn(signal)
}

// RestartRequest is a request of cr_restart to an engine.
type RestartRequest struct {
	// FD is the open descriptor that the context is read from, sequentially from its
	// current offset on. The caller closes it.
	FD int32

	// Closed says that FD was closed when the caller was started. The number may belong
	// to another file now, which must not be used.
	Closed bool

	// Dir, if it is not empty, says that FD is a directory of plain files. It is the
	// directory's name, for messages. The kernel engine never gets it.
	Dir string

	// Trust says that the context is restarted with all the caller's rights, whoever
	// could have written it. The kernel engine does so in any case.
	Trust bool

	// Measure says that Engine.Progress will be called.
	Measure bool

	// WantLog says that Engine.Log will be called.
	WantLog bool

	// Made, if not nil, is called once, after all processes have been made and before
	// they execute any instruction of their own. If it returns true, the restart cannot
	// be interrupted any more; false ends the restart. It may be called by another
	// goroutine.
	Made func() bool

	// Resume, if not nil, is called after Made, right before the processes run. The
	// kernel engine never calls it, since the module does not report that moment.
	Resume func()

	// AtEnd, if the engine has set it, is to be called when the job has ended. It
	// gives back what the job was given for that time.
	AtEnd func()

	// Signal is sent to every process after the restart, see CheckpointRequest.
	Signal int32

	// Lazy says that the processes may run before all of their memory is in place; see
	// Engine.InPlace. It is for an engine whose Candidate has Lazy.
	Lazy bool

	// KeepStdio says that the job's standard descriptors are the caller's, even where
	// they were files. It is for an engine whose Candidate has KeepsStdio.
	KeepStdio bool

	// AnyCPU says that the processor may lack what that of the checkpoint had. The kernel
	// engine never looks at it.
	AnyCPU bool

	// AnyLimits says that the job may get lower limits of resources than it had.
	AnyLimits bool

	// Relocations, in the order given, at most MaxRelocations. The first one that
	// matches a path is applied.
	Relocations []Relocation

	// Identifiers that are restored to their saved values.
	RestorePid  bool
	RestorePgid bool
	RestoreSid  bool

	// Omit says whether the caller is included in later checkpoints that have it in
	// their scope. The criu engine ignores it: CRIU does not ask the processes that it
	// saves.
	Omit Omit
}

// Omit says whether the requester of a restart leaves itself out of a later checkpoint
// that has it in its scope. The job is saved in any case. The values mirror
// CR_RSTRT_OMIT_* of cr_restart.
type Omit int

// The values of Omit.
const (
	OmitMaybe  Omit = iota // if it is the process that was named, or an orphan
	OmitAlways             // always
	OmitNever              // never
)

// MaxRelocations is the largest number of relocations of a restart
// (CR_MAX_RSTRT_RELOC).
const MaxRelocations = 16

// Relocation maps the path prefix Old to New, whole components only. Both are absolute
// and do not end in a slash (except "/" itself).
type Relocation struct {
	Old, New string
}
