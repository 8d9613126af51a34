package ftbclient

import (
	"errors"
	"fmt"

	"blcr-cli/internal/ftbclient/wire"
)

// The kinds of an Error, for errors.Is. Each Error is of one of these.
var (
	// ErrInvalid is an argument that FTB does not accept. Nothing was sent, and a Conn
	// is still usable.
	ErrInvalid = errors.New("invalid argument")
	// ErrNoAgent means that there is no connection to an agent: it was refused, the
	// agent is unreachable, or the bootstrap server does not answer, knows no agent, or
	// is not given by an IPv4 address.
	ErrNoAgent = errors.New("no FTB agent")
	// ErrTimeout means that the deadline has passed.
	ErrTimeout = errors.New("timed out")
	// ErrProtocol means that the peer is not an agent: its answer to the handshake is
	// truncated or invalid, or it closes the connection. It is also the kind for an
	// invalid address from the bootstrap server.
	ErrProtocol = errors.New("not an FTB agent's answer")
	// ErrLost means that the connection broke after the handshake: the agent has died
	// or has closed it. A new connection may reach another agent.
	ErrLost = errors.New("connection to the FTB agent lost")
)

// Error is the type of all errors of this package.
type Error struct {
	// Op is the operation: "connect", "look up", "handshake", "publish", "subscribe",
	// "receive", "close", or "check" for an argument.
	Op string
	// Object is its object: an address such as "127.0.0.1:10809", or the argument,
	// named and quoted.
	Object string
	Kind   error // ErrInvalid, ErrNoAgent, ErrTimeout, ErrProtocol or ErrLost
	Err    error // the cause, such as a syscall.Errno; nil if there is none
}

// Error returns all fields in one line.
func (e *Error) Error() string {
	s := fmt.Sprintf("%s %s: %v", e.Op, e.Object, e.Kind)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Message returns the fields as a command prints them: for an argument what and why, and
// otherwise the kind first. It is one line, except that names may contain anything.
func (e *Error) Message() string {
	text := e.Object
	if e.Kind != ErrInvalid {
		text = e.Kind.Error() + ": " + e.Op + " " + e.Object
	}
	var field *wire.FieldError
	switch {
	case errors.As(e.Err, &field):
		// The content of the field is not shown: it is not terminated.
		text += ": " + field.Field + " has no end"
	case e.Err != nil:
		text += ": " + e.Err.Error()
	}
	return text
}

// Is makes errors.Is compare Kind.
func (e *Error) Is(target error) bool { return target == e.Kind }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// failure returns an Error of the network, of the given kind, or ErrTimeout if err is
// errDeadline.
func failure(op, object string, kind, err error) *Error {
	if err == errDeadline {
		kind, err = ErrTimeout, nil
	}
	return &Error{op, object, kind, err}
}
