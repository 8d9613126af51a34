package main

import (
	"errors"
	"io/fs"
	"os"
	"syscall"

	"blcr-cli/internal/cli"
	"blcr-cli/internal/ftbclient"
	"blcr-cli/internal/show"
)

// This file is the only one that turns errors into messages and exit statuses.

// Exit statuses. 0 means that an agent that had answered the handshake has accepted the
// event.
const (
	statusOutput   = 1 // as 0, but stdout could not be written to
	statusArgument = 2 // no agent was contacted
	statusNoAgent  = 3
	statusTimeout  = 4
	statusProtocol = 5
)

// argumentError is an invalid argument, or a payload that cannot be read.
type argumentError struct {
	what string // the option, the operand or the file
	why  string
}

func (e *argumentError) Error() string {
	if e.what == "" {
		return e.why
	}
	return e.what + ": " + e.why
}

// status returns the exit status for an error.
func status(err error) int {
	var output *cli.OutputError
	var argument *argumentError
	switch {
	case errors.As(err, &output):
		return statusOutput
	case errors.As(err, &argument), errors.Is(err, ftbclient.ErrInvalid):
		return statusArgument
	case errors.Is(err, ftbclient.ErrNoAgent):
		return statusNoAgent
	case errors.Is(err, ftbclient.ErrTimeout):
		return statusTimeout
	default: // ErrProtocol, ErrLost
		return statusProtocol
	}
}

// message returns the text for an error: one line without a line feed, whatever
// characters the names of files contain.
func message(err error) string {
	var client *ftbclient.Error
	if errors.As(err, &client) {
		return show.Text(client.Message())
	}
	return show.Text(err.Error())
}

// fileError is an error of reading a file that the user named.
func fileError(name string, err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	if errors.Is(err, os.ErrClosed) {
		err = syscall.EBADF
	}
	return &argumentError{name, err.Error()}
}
