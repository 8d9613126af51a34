package ctxfile

import (
	"errors"
	"fmt"
	"syscall"
)

var (
	// ErrBLCR is in the error of Open for a context that BLCR's module wrote.
	ErrBLCR = errors.New("a context of BLCR's own")
	// ErrFormat is in the error of Open for what is no context at all.
	ErrFormat = errors.New("not a context")
)

// Error is the error type of this package. errors.Is finds its Errno, and
// ErrBLCR or ErrFormat where that is what happened.
type Error struct {
	// Op is what was done: "open", "read", "write".
	Op string
	// Object is the name of the image it was done to, or "" for the context as
	// a whole, whose file's name this package does not know.
	Object string
	// Errno is the system's. EINVAL with a Reason: the file is at fault.
	Errno syscall.Errno
	// Reason says what is wrong with the file, or is "".
	Reason string

	is error // ErrBLCR, ErrFormat or nil
}

// Error is for programmers, but Reason alone may be shown to users: there are
// no line ends and no control characters in it.
func (e *Error) Error() string {
	s := e.Op
	if e.Object != "" {
		s += " " + e.Object
	}
	if e.Reason != "" {
		return fmt.Sprintf("%s: %s", s, e.Reason)
	}
	return fmt.Sprintf("%s: %v", s, e.Errno)
}

// Unwrap gives the number, and the kind of file if Open refused it.
func (e *Error) Unwrap() []error {
	if e.is == nil {
		return []error{e.Errno}
	}
	return []error{e.Errno, e.is}
}

// fail makes an Error of what a system call said, unless it is one already.
func fail(op, object string, err error) error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	errno := syscall.EIO
	errors.As(err, &errno)
	return &Error{Op: op, Object: object, Errno: errno}
}

// invalid is the error of a file that is not as it should be.
func invalid(object, format string, args ...any) error {
	return &Error{Op: "read", Object: object, Errno: syscall.EINVAL, Reason: fmt.Sprintf(format, args...)}
}

// refuse is the error of a file of another kind.
func refuse(k Kind) error {
	if k == BLCR {
		return &Error{Op: "read", Errno: syscall.EINVAL, Reason: "a context of BLCR's own", is: ErrBLCR}
	}
	return &Error{Op: "read", Errno: syscall.EINVAL, Reason: "not a context", is: ErrFormat}
}
