package criu

import (
	"strings"
	"syscall"
	"testing"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ctxfile"
)

// TestWriting: what could not be written is named, and what could not be read is not.
func TestWriting(t *testing.T) {
	c := &capture{request: &ckpt.CheckpointRequest{Name: "ctx"}}
	for op, named := range map[string]bool{"write": true, "splice": true, "read": false} {
		for _, errno := range []syscall.Errno{syscall.EIO, syscall.ESTALE} {
			err := c.writing(contextError(&ctxfile.Error{Op: op, Object: "pages-1.img", Errno: errno}))
			lines := strings.Join(err.(*ckpt.Error).Detail, "\n")
			if ckpt.ErrnoOf(err) != errno || strings.HasPrefix(lines, "writing 'ctx': ") != named {
				t.Errorf("%s, %v: %v, %q", op, errno, err, lines)
			}
		}
	}
}
