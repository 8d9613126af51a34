package criu

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/criu/images"
	"blcr-cli/internal/ctxfile"
)

// contextError is an error of package ctxfile or images in this engine's terms.
func contextError(err error) error {
	if errors.Is(err, images.ErrMalformed) || errors.Is(err, images.ErrSavedFiles) {
		errno := unix.EINVAL
		if errors.Is(err, images.ErrTruncated) {
			errno = unix.EIO
		}
		return &ckpt.Error{Op: "read", Object: "context", Errno: errno, Detail: []string{"context: " + err.Error()}}
	}
	var e *ctxfile.Error
	if err == nil || !errors.As(err, &e) {
		return err
	}
	out := &ckpt.Error{Op: e.Op, Object: "context", Errno: e.Errno}
	switch {
	case errors.Is(err, ctxfile.ErrBLCR):
		out.Detail = []string{"this context was written by BLCR's kernel module, which this machine does not have"}
	case errors.Is(err, ctxfile.ErrEmpty):
		out.Detail = []string{"the context is empty"}
	case e.Errno == unix.EISDIR:
		out.Detail = []string{"a directory of CRIU's images is restarted by cr_restart -d DIR"}
	case e.Reason != "" && e.Object != "":
		out.Detail = []string{fmt.Sprintf("context: %s: %s", e.Object, e.Reason)}
	case e.Reason != "":
		out.Detail = []string{"context: " + e.Reason}
	}
	return out
}
