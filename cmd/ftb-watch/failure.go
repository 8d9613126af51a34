package main

import (
	"errors"

	"blcr-cli/internal/cli"
	"blcr-cli/internal/ftbclient"
	"blcr-cli/internal/show"
)

// This file is the only one that turns errors into messages and exit statuses.

// Exit statuses, those of ftb-publish.
const (
	statusOutput   = 1
	statusArgument = 2
	statusNoAgent  = 3
	statusTimeout  = 4
	statusProtocol = 5
)

// argumentError is an invalid command line.
type argumentError struct{ why string }

func (e *argumentError) Error() string { return e.why }

// errTooFew is that the time was over before the lines had come.
var errTooFew = errors.New("timed out: not as many events as --count asks for")

// status returns the exit status for an error.
func status(err error) int {
	var output *cli.OutputError
	var argument *argumentError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &output):
		return statusOutput
	case errors.As(err, &argument), errors.Is(err, ftbclient.ErrInvalid):
		return statusArgument
	case errors.Is(err, ftbclient.ErrNoAgent):
		return statusNoAgent
	case errors.Is(err, errTooFew), errors.Is(err, ftbclient.ErrTimeout):
		return statusTimeout
	default: // ErrProtocol, ErrLost
		return statusProtocol
	}
}

// message returns the text for an error, one line without a line feed.
func message(err error) string {
	var client *ftbclient.Error
	if errors.As(err, &client) {
		return show.Text(client.Message())
	}
	return show.Text(err.Error())
}
