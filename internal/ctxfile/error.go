package ctxfile

import (
	"errors"
	"fmt"
	"syscall"
)

var (
	// ErrBLCR is in the error of Open for a context that BLCR's module wrote.
	ErrBLCR = errors.New("a context of BLCR's own")
	// ErrEmpty is in the error of Open for a file without content: EIO.
	ErrEmpty = errors.New("empty")
	// ErrFormat is in the error of Open for a file that is no context at all.
	ErrFormat = errors.New("not a context")
	// ErrVersion is in the error of Open for a context that a later version of this
	// program has written.
	ErrVersion = errors.New("unknown version")
)

// Error is the error type of this package. errors.Is finds its Errno, and ErrBLCR
// or ErrFormat where that is what happened.
type Error struct {
	// Op is the operation: "open", "read", "write", "splice" or "getrandom".
	Op string
	// Object is the name of the member concerned, os.TempDir() for a temporary
	// file, or "" for the context as a whole, whose file name this package does
	// not know.
	Object string
	// Errno is the system's. With a Reason the file is at fault: EIO if its end is
	// missing, as BLCR's module says, else EINVAL.
	Errno syscall.Errno
	// Reason says what is wrong with the file, or is "". It may be shown to users:
	// it has no line ends and no control characters.
	Reason string

	kind error // ErrBLCR, ErrEmpty, ErrFormat, ErrVersion or nil
}

// Error is for programmers.
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

// Unwrap returns the Errno, and the kind of file if Open refused it.
func (e *Error) Unwrap() []error {
	if e.kind == nil {
		return []error{e.Errno}
	}
	return []error{e.Errno, e.kind}
}

// fail makes an Error of what a system call returned, unless it is one already.
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

// truncated is the error of a file whose end is missing.
func truncated(object, reason string) error {
	return &Error{Op: "read", Object: object, Errno: syscall.EIO, Reason: "truncated: " + reason}
}

// refuse is the error of a file of another kind.
func refuse(k Kind) error {
	kind := ErrFormat
	if k == BLCR {
		kind = ErrBLCR
	}
	return &Error{Op: "read", Errno: syscall.EINVAL, Reason: kind.Error(), kind: kind}
}
