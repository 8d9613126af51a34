package ftbclient

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"blcr-cli/internal/ftbclient/wire"
)

// maxSpace is the largest length of a whole event space, in bytes.
const maxSpace = 63

func invalid(what, value, why string) *Error {
	return &Error{"check", fmt.Sprintf("%s %q", what, value), ErrInvalid, errors.New(why)}
}

// Check reports whether FTB accepts such a client, without contacting an agent. The
// error is an *Error of kind ErrInvalid, as Dial returns it.
func (i Identity) Check() error {
	_, err := i.check()
	return err
}

// Check reports whether FTB accepts such an event: what the C library checks when it is
// declared and when it is published. The error is an *Error of kind ErrInvalid, as
// Publish returns it.
func (ev *Event) Check() error {
	switch {
	case len(ev.Name) > wire.MaxName:
		return invalid("event name", ev.Name, fmt.Sprintf("more than %d bytes", wire.MaxName))
	case !plain(ev.Name):
		return invalid("event name", ev.Name, notPlain)
	case ev.Name == "":
		return invalid("event name", ev.Name, "empty")
	case ev.Type != wire.Normal && ev.Type != wire.Response:
		return invalid("event type", fmt.Sprint(uint8(ev.Type)), "neither 1 nor 2")
	case len(ev.Payload) > wire.PayloadSize: // impossible in C
		return invalid("payload of bytes", fmt.Sprint(len(ev.Payload)), fmt.Sprintf("more than %d", wire.PayloadSize))
	}
	return CheckSeverity(ev.Severity)
}

// CheckSeverity is the part of Event.Check for the severity.
func CheckSeverity(severity string) error {
	if !isOneOf(severity, severities) {
		return invalid("severity", severity, "none of fatal, error, warning and info")
	}
	return nil
}

var severities = []string{"fatal", "error", "warning", "info"}

func isOneOf(s string, known []string) bool {
	return slices.ContainsFunc(known, func(k string) bool { return wire.EqualFold(s, k) })
}

// check returns the client id for i. It checks the C library's limits (section 6).
func (i *Identity) check() (wire.ClientID, error) {
	var id wire.ClientID
	parts := strings.Split(i.Space, ".")
	why := ""
	switch {
	case len(i.Space) > maxSpace:
		why = fmt.Sprintf("more than %d bytes", maxSpace)
	case len(parts) != 3: // fewer crash the C library
		why = "not three parts"
	case parts[0] == "" || parts[1] == "" || parts[2] == "":
		why = "a part is empty"
	case !plain(parts[0]) || !plain(parts[1]) || !plain(parts[2]):
		why = notPlain
	}
	if why != "" {
		return id, invalid("event space", i.Space, why)
	}
	if err := short("client name", i.Name, wire.MaxClient); err != nil {
		return id, err
	}
	if err := short("job id", i.JobID, wire.MaxJobID); err != nil {
		return id, err
	}
	return wire.ClientID{Region: parts[0], CompCat: parts[1], Comp: parts[2], Name: i.Name}, nil
}

// short checks a string of which the C library checks only the length.
func short(what, s string, limit int) error {
	switch {
	case len(s) > limit:
		return invalid(what, s, fmt.Sprintf("more than %d bytes", limit))
	case strings.Contains(s, "\x00"): // would be cut off there
		return invalid(what, s, "a NUL")
	}
	return nil
}

const notPlain = "a character that is no letter, digit or underscore"

// plain reports whether s contains only ASCII letters, digits and underscores.
func plain(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_') {
			return false
		}
	}
	return true
}
