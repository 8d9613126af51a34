package main

import (
	"errors"
	"fmt"
	"syscall"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/hints"
	"blcr-cli/internal/target"
)

// This file is the only one that turns errors into messages and exit statuses.
// The messages are BLCR's; scripts match them.

// failure is an error with the exit status and the messages that it gives.
type failure struct {
	status  int
	message string   // BLCR's lines, without the last line feed
	details []string // further lines, which BLCR does not print
	cause   error
}

func (f *failure) Error() string { return f.message }
func (f *failure) Unwrap() error { return f.cause }

// asFailure returns err as a failure.
func asFailure(err error) *failure {
	var f *failure
	if errors.As(err, &f) {
		return f
	}
	// Every error of this program is made below.
	return &failure{status: 1, message: err.Error(), cause: err}
}

// fail returns a failure for an error of an engine or of package target, with the
// details of the error.
func fail(err error, errno syscall.Errno, message string) *failure {
	f := &failure{status: ckpt.ExitStatus(errno), message: message, cause: err}
	var e *ckpt.Error
	if errors.As(err, &e) {
		f.details = e.Detail
	}
	return f
}

// negativeFD is the failure for a negative descriptor as the destination.
func negativeFD() error {
	return &failure{status: ckpt.ExitStatus(syscall.EINVAL), message: "directories not yet supported"}
}

func connectFailure(err error) error {
	errno := ckpt.ErrnoOf(err)
	if errno == syscall.ENOSYS {
		return fail(err, errno, "Checkpoint failed: support missing from kernel")
	}
	return fail(err, errno, "Failed cr_init(): "+ckpt.Strerror(errno))
}

// captureFailure returns the failure of a request. The error is the engine's, or a
// failure of a step of the command.
func (w *work) captureFailure(err error) error {
	var f *failure
	if errors.As(err, &f) {
		return f
	}
	errno := ckpt.ErrnoOf(err)
	step := ckpt.StepOf(err)
	switch {
	case errno == ckpt.ENoSupport && step != ckpt.StepWait:
		return fail(err, errno, "Checkpoint failed: support missing from application")
	case step == ckpt.StepIssue:
		return fail(err, errno, "cr_request_checkpoint: "+ckpt.Strerror(errno))
	case step == ckpt.StepWait && errno != syscall.ETIME:
		return fail(err, errno, "cr_wait_checkpoint failed: "+ckpt.Strerror(errno))
	case errno == ckpt.ETempFail:
		return fail(err, errno, "Checkpoint cancelled by application: try again later")
	case errno == ckpt.EPermFail:
		return fail(err, errno, "Checkpoint cancelled by application: unable to checkpoint")
	case errno == syscall.ESRCH:
		return fail(err, errno, "Checkpoint failed: no processes checkpointed")
	}
	return fail(err, errno, "Checkpoint failed: "+ckpt.Strerror(errno))
}

// targetFailure returns the failure for an error of package target. If opening failed,
// the last line names the file as the user did.
func (w *work) targetFailure(err error) error {
	errno := ckpt.ErrnoOf(err)
	var e *target.Error
	if !errors.As(err, &e) {
		return fail(err, errno, fmt.Sprintf("Failed to open checkpoint file '%s'", w.target.Path))
	}
	opening := fmt.Sprintf("\nFailed to open checkpoint file '%s'", w.target.Path)
	text := ckpt.Strerror(errno)
	switch e.Op {
	case target.OpOpen:
		f := fail(err, errno, fmt.Sprintf("Unable to open file '%s': %s", e.Path, text)+opening)
		if !w.engine.Expected().Terse {
			f.details = hints.Open(e.Path, errno)
		}
		return f
	case target.OpFstat:
		return fail(err, errno, fmt.Sprintf("Unable to fstat opened file: %s", text)+opening)
	case target.OpType:
		return fail(err, errno, fmt.Sprintf("File '%s' is not an acceptable file type (i.e. not a regular file, socket, or FIFO)", e.Path)+opening)
	case target.OpIsDir:
		return fail(err, errno, fmt.Sprintf("File '%s' is a directory: use the '--dir' flag for directories", e.Path)+opening)
	case target.OpRemove:
		return fail(err, errno, fmt.Sprintf("Unable to remove existing '%s': %s", e.Path, text))
	case target.OpRename:
		f := fail(err, errno, fmt.Sprintf("Unable to rename '%s' to '%s': %s", e.Path, e.To, text))
		if errno == syscall.EPERM && !w.engine.Expected().Terse {
			if f.details = hints.Fixed(w.target.Path); f.details == nil {
				f.details = hints.Fixed(e.To)
			}
		}
		return f
	case target.OpSync:
		return fail(err, errno, fmt.Sprintf("Error syncing checkpoint to disk: %s", text))
	case target.OpWrite:
		return fail(err, errno, fmt.Sprintf("Error writing checkpoint to disk: %s", text))
	case target.OpOpenDir:
		return fail(err, errno, fmt.Sprintf("unable to opendir(%s): %s", e.Path, text))
	case target.OpSyncDir:
		return fail(err, errno, fmt.Sprintf("Unable to sync directory '%s': %s", e.Path, text))
	}
	return fail(err, errno, fmt.Sprintf("Unable to prepare file '%s': %s", e.Path, text))
}

// doubtfulFailure returns the failure for a descriptor of which it is not known whether
// it was closed.
func doubtfulFailure(fd int) error {
	return &failure{status: ckpt.ExitStatus(syscall.EBADF),
		message: "cr_request_checkpoint: " + ckpt.Strerror(syscall.EBADF),
		details: []string{
			fmt.Sprintf("descriptor %d was closed, or leads to /dev/null: this %s was built without its entry point, and cannot tell", fd, name),
			"write to a file (-f); or use a cr_checkpoint for amd64 that make has built",
		}}
}
