package ckpt

import (
	"errors"
	"syscall"

	"blcr-cli/internal/hints"
)

// SystemError returns the Error for a system call that failed. Detail names the call,
// and the limit if err is caused by one: the number alone would not show whether the
// job or this machine is at fault.
func SystemError(op, object string, err error) *Error {
	e := &Error{Op: op, Object: object, Errno: ErrnoOf(err)}
	e.Detail = append([]string{e.Error()}, hints.Limits(e.Errno)...)
	return e
}

// ErrnoOf returns the error number that err wraps: 0 for nil, EIO for an error
// without a number.
func ErrnoOf(err error) syscall.Errno {
	if err == nil {
		return 0
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return syscall.EIO
}
