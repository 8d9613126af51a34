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
	statusFailed = 1
	statusUsage  = 255 // as of BLCR's commands
)

// usageError is a command line that cannot be understood.
type usageError struct{ why string }

func (e *usageError) Error() string { return e.why }

// notContext is why a file is no context, or not one that is complete.
type notContext string

func (e notContext) Error() string { return string(e) }

// status is the exit status for an error.
func status(err error) int {
	var u *usageError
	if errors.As(err, &u) {
		return statusUsage
	}
	return statusFailed
}

// message is the text for an error that is about no file.
func message(err error) string {
	var output *cli.OutputError
	if errors.As(err, &output) {
		return "standard output: " + reason(output.Err)
	}
	return show.Text(err.Error())
}

// reason returns why a file could not be read, as one line without its end.
func reason(err error) string {
	if e, ok := errors.AsType[*ckpt.Error](err); ok && e.Errno == syscall.EINVAL && len(e.Detail) > 0 {
		// The message has the name of the file already.
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
