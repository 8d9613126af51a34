package main

import (
	"errors"
	"strconv"
	"strings"
	"syscall"
	"unicode/utf8"

	"blcr-cli/internal/ckpt"
)

// This file is the only one that turns errors into messages and exit statuses.

const (
	statusFailed = 1
	statusUsage  = 255 // as of BLCR's commands
)

// usageError is a command line that cannot be understood.
type usageError struct{ why string }

func (e *usageError) Error() string { return e.why }

// outputError is a failure to write to stdout.
type outputError struct{ err error }

func (e *outputError) Error() string { return "standard output: " + reason(e.err) }

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
func message(err error) string { return printable(err.Error()) }

// reason is why a file could not be read, as one line without its end.
func reason(err error) string {
	var not notContext
	var e *ckpt.Error
	var errno syscall.Errno
	switch {
	case errors.As(err, &not):
		return printable(string(not))
	case errors.As(err, &e) && e.Errno == syscall.EINVAL && len(e.Detail) > 0:
		// What it is about is said already.
		text := e.Detail[0]
		for _, prefix := range []string{"context: ", "directory: "} {
			text = strings.TrimPrefix(text, prefix)
		}
		return printable(text)
	case errors.As(err, &e):
		return ckpt.Strerror(e.Errno)
	case errors.As(err, &errno):
		return ckpt.Strerror(errno)
	}
	return printable(err.Error())
}

// printable is s with all escaped that is not to be seen, or that terminals act
// upon. It may have come from anywhere.
func printable(s string) string {
	var b strings.Builder
	for i, r := range s {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(s[i:], "\ufffd"):
			b.WriteString(`\x` + strconv.FormatUint(uint64(s[i]), 16))
		case strconv.IsPrint(r):
			b.WriteRune(r)
		default:
			quoted := strconv.QuoteRune(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
	}
	return b.String()
}
