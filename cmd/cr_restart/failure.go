package main

import (
	"errors"
	"fmt"
	"syscall"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/generations"
	"blcr-cli/internal/show"
)

// This file is the only one that turns errors into messages and exit statuses.
// The messages are BLCR's; scripts match them.

// failure is an error with the exit status, the messages and the hook that it leads to.
type failure struct {
	status  int
	class   class    // selects the hook
	message string   // BLCR's line, without its line feed
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
	// Every error of this program is a failure.
	return &failure{status: 1, class: failPerm, message: err.Error(), cause: err}
}

// detailsOf returns the further lines of an engine's error.
func detailsOf(err error) []string {
	var e *ckpt.Error
	if errors.As(err, &e) {
		return e.Detail
	}
	return nil
}

func connectFailure(err error) error {
	return &failure{status: 255, class: failPerm, message: "Failed cr_init(): -1", details: detailsOf(err), cause: err}
}

func openFailure(file string, err error) error {
	return &failure{status: 255, class: failArgs,
		message: fmt.Sprintf("Failed to open(%s, O_RDONLY): %s", file, ckpt.Strerror(ckpt.ErrnoOf(err))), cause: err}
}

// noContextFailure is for a directory in which there is nothing to restart.
func noContextFailure() error {
	return &failure{status: ckpt.ExitStatus(syscall.EISDIR), class: classOf(syscall.EISDIR),
		message: "Restart failed: " + ckpt.Strerror(syscall.EISDIR),
		details: []string{"there is no context in it; whether a file is one, and what is wrong with it, is shown by cr_info FILE"}}
}

// faultFailure is for a directory with contexts none of which is good. The fault is that
// of the newest.
func faultFailure(fault *generations.Fault) error {
	return &failure{status: ckpt.ExitStatus(syscall.EINVAL), class: classOf(syscall.EINVAL),
		message: "Restart failed: " + ckpt.Strerror(syscall.EINVAL),
		details: []string{
			"no context in the directory is good; the newest is " + show.Text(fault.Name) + ": " + show.Text(fault.Reason),
			"all that is wrong with it is shown by cr_info --verify " + show.Name(fault.Name),
		}, cause: fault}
}

func restartFailure(err error) error {
	errno := ckpt.ErrnoOf(err)
	f := &failure{status: ckpt.ExitStatus(errno), class: classOf(errno),
		message: "Restart failed: " + ckpt.Strerror(errno), details: detailsOf(err), cause: err}
	if ckpt.StepOf(err) == ckpt.StepWait {
		f.class, f.message, f.details = failPerm, "cr_wait_restart: "+ckpt.Strerror(errno), nil
	}
	return f
}

// lazyFailure is for --lazy with an engine that does not have it.
func lazyFailure() error {
	return &failure{status: ckpt.ExitStatus(syscall.EINVAL), class: failArgs, message: "--lazy flag not yet implemented",
		details: []string{"BLCR's module has all memory in place before the job runs; leave --lazy out"}}
}

// keepStdioFailure is for --keep-stdio with an engine that does not have it.
func keepStdioFailure() error {
	return &failure{status: ckpt.ExitStatus(syscall.EINVAL), class: failArgs, message: "--keep-stdio flag not yet implemented",
		details: []string{"BLCR's module opens again what was a file, and gives the job cr_restart's descriptors for the rest; leave --keep-stdio out, or move the files by --relocate"}}
}

// memoryFailure is for a job that was ended, since its memory could not be read while it
// ran. Its status is for a job whose root had succeeded before.
func memoryFailure(err error) *failure {
	return &failure{status: ckpt.ExitStatus(ckpt.ErrnoOf(err)), message: "Job killed: the rest of its memory cannot be restored: " + ckpt.Strerror(ckpt.ErrnoOf(err)),
		details: detailsOf(err), cause: err}
}

func waitJobFailure(pid int, err error) error {
	return &failure{status: 255, class: failPerm,
		message: fmt.Sprintf("waitpid(%d): %s", pid, ckpt.Strerror(ckpt.ErrnoOf(err))), cause: err}
}
