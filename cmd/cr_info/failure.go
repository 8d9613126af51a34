package main

import (
	"errors"
	"strings"
	"syscall"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/cli"
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

// reason is why a file could not be read, as one line without its end.
func reason(err error) string {
	var not notContext
	var e *ckpt.Error
	var errno syscall.Errno
	switch {
	case errors.As(err, &not):
		return show.Text(string(not))
	case errors.As(err, &e) && e.Errno == syscall.EINVAL && len(e.Detail) > 0:
		// What it is about is said already.
		text := e.Detail[0]
		for _, prefix := range []string{"context: ", "directory: "} {
			text = strings.TrimPrefix(text, prefix)
		}
		return show.Text(text)
	case errors.As(err, &e):
		return ckpt.Strerror(e.Errno)
	case errors.As(err, &errno):
		return ckpt.Strerror(errno)
	}
	return show.Text(err.Error())
}
