package ftbclient

import (
	"errors"
	"fmt"
)

// What kind of failure an Error is; for errors.Is. Each Error is one of these.
var (
	// ErrInvalid is an argument that FTB does not take; Error.Code says which.
	// Nothing was sent, and a Conn is as usable as before.
	ErrInvalid = errors.New("invalid argument")
	// ErrNoAgent is no connection to any agent: refused, unreachable, or the
	// bootstrap server does not answer, knows none, or is not named by an IPv4
	// address.
	ErrNoAgent = errors.New("no FTB agent")
	// ErrTimeout is a deadline that has passed.
	ErrTimeout = errors.New("timed out")
	// ErrProtocol is somebody else than an agent: an answer to the handshake that
	// is cut off or cannot be read, or none but the end of the connection. Also
	// an address from the bootstrap server that is none.
	ErrProtocol = errors.New("not an FTB agent's answer")
	// ErrLost is a connection that broke after the handshake: the agent has died
	// or has dropped it. A new connection may find another agent.
	ErrLost = errors.New("connection to the FTB agent lost")
)

// Code is an error number of the C library, with 0.6.2's sign (section 6).
type Code int

// Codes that an Error has.
const (
	CodeEventSpace     Code = -2  // FTB_ERR_EVENTSPACE_FORMAT
	CodeValue          Code = -4  // FTB_ERR_INVALID_VALUE: client name, job id, payload
	CodeField          Code = -8  // FTB_ERR_INVALID_FIELD: event name or severity that cannot be declared
	CodeHandle         Code = -9  // FTB_ERR_INVALID_HANDLE: the Conn is closed
	CodeEventName      Code = -12 // FTB_ERR_INVALID_EVENT_NAME: can be declared, not published
	CodeEventType      Code = -13 // FTB_ERR_INVALID_EVENT_TYPE
	CodeNetworkGeneral Code = -20 // FTB_ERR_NETWORK_GENERAL: after connecting
	CodeNoRoute        Code = -21 // FTB_ERR_NETWORK_NO_ROUTE: cannot connect
)

// Error is what this package's functions return.
type Error struct {
	// Op is what was being done: "connect", "look up", "handshake", "publish",
	// "close", or "check" of an argument.
	Op string
	// Object is what it was done to: an address such as "127.0.0.1:10809", or
	// the argument, named and quoted.
	Object string
	Kind   error // ErrInvalid, ErrNoAgent, ErrTimeout, ErrProtocol or ErrLost
	Code   Code  // what the C library returns then, if it does return
	Err    error // the cause, such as a syscall.Errno; nil if there is no more to say
}

// Error is all fields but Code in one line.
func (e *Error) Error() string {
	s := fmt.Sprintf("%s %s: %v", e.Op, e.Object, e.Kind)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Is makes errors.Is compare Kind.
func (e *Error) Is(target error) bool { return target == e.Kind }

// Unwrap is the cause.
func (e *Error) Unwrap() error { return e.Err }

// failure is an Error of the network: kind, unless err is that time is up.
func failure(op, object string, kind error, code Code, err error) *Error {
	if err == errDeadline {
		kind, err = ErrTimeout, nil
	}
	return &Error{op, object, kind, code, err}
}
