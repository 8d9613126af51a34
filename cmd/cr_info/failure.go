package main

import (
	"errors"
	"strings"
	"syscall"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/cli"
	"blcr-cli/internal/ctxfile"
	"blcr-cli/internal/show"
)

// This file is the only one that turns errors into messages and exit statuses.

const (
	statusFailed  = 1
	statusTrouble = 2   // of --diff, as with diff(1)
	statusUsage   = 255 // as with BLCR's commands
)

// usageError is an invalid command line.
type usageError struct{ why string }

func (e *usageError) Error() string { return e.why }

// notContext is the reason why a file is not a context, or not a complete one.
type notContext string

func (e notContext) Error() string { return string(e) }

// status returns the exit status for an error.
func status(err error) int {
	var u *usageError
	if errors.As(err, &u) {
		return statusUsage
	}
	return statusFailed
}

// message returns the text for an error that does not concern a file.
func message(err error) string {
	var output *cli.OutputError
	if errors.As(err, &output) {
		return "standard output: " + reason(output.Err)
	}
	return show.Text(err.Error())
}

// reason returns why a file could not be read, as one line without a line feed.
func reason(err error) string {
	if e, ok := errors.AsType[*ckpt.Error](err); ok && e.Errno == syscall.EINVAL && len(e.Detail) > 0 {
		// The message already contains the name of the file.
		return show.Text(strings.TrimPrefix(e.Detail[0], "directory: "))
	}
	if e, ok := errors.AsType[*ctxfile.Error](err); ok && e.Reason != "" {
		if e.Object != "" {
			return show.Text(e.Object + ": " + e.Reason)
		}
		return show.Text(e.Reason)
	}
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return ckpt.Strerror(errno)
	}
	return show.Text(err.Error())
}
