package criu

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/criu/images"
	"blcr-cli/internal/ctxfile"
	"blcr-cli/internal/hints"
)

// contextError is an error of package ctxfile or images in this engine's terms.
func contextError(err error) error {
	if errors.Is(err, images.ErrMalformed) || errors.Is(err, images.ErrSavedFiles) {
		return &ckpt.Error{Op: "read", Object: "context", Errno: unix.EINVAL, Detail: []string{"context: " + err.Error()}}
	}
	var e *ctxfile.Error
	if err == nil || !errors.As(err, &e) {
		return err
	}
	out := &ckpt.Error{Op: e.Op, Object: "context", Errno: e.Errno}
	switch {
	case errors.Is(err, ctxfile.ErrBLCR):
		out.Detail = []string{"this context was written by BLCR's kernel module, which this machine does not have"}
	case e.Reason != "" && e.Object != "":
		out.Detail = []string{fmt.Sprintf("context: %s: %s", e.Object, e.Reason)}
	case e.Reason != "":
		out.Detail = []string{"context: " + e.Reason}
	}
	return out
}

// roomFor adds to an error of writing the context how much room there is, and how
// much the context takes.
func (c *capture) roomFor(err error) error {
	e, ok := err.(*ckpt.Error)
	if !ok {
		return err
	}
	switch e.Errno {
	case unix.ENOSPC, unix.EDQUOT, unix.EFBIG:
		copied := *e
		copied.Detail = append(slices.Clone(e.Detail), hints.Space(int(c.request.FD), e.Errno, uint64(c.tree.Memory()))...)
		return &copied
	}
	return err
}
