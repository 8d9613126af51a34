package kernel

import (
	"context"
	"fmt"
	"io"
	"syscall"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/kernel/header"
	"blcr-cli/internal/hints"
)

// ForecastRestart implements ckpt.Engine by what the beginning of a context in a file
// tells: the numbers of the process that was saved first and of its threads. All else
// only the module knows.
func (e *Engine) ForecastRestart(_ context.Context, r *ckpt.RestartRequest) *ckpt.Forecast {
	f := &ckpt.Forecast{Notes: []string{"BLCR's module alone knows whether the rest of the processes and their files can be had"}}
	h, err := header.Read(descriptor(r.FD))
	if err != nil {
		f.Failures = []error{&ckpt.Error{Op: "read", Object: "context", Errno: syscall.EINVAL, Detail: []string{"context: " + err.Error()}}}
		return f
	}
	if h.First == nil || !r.RestorePid {
		return f
	}
	for i, id := range append([]int{h.First.PID}, h.First.Threads...) {
		if i > 0 && id == h.First.PID {
			continue
		}
		if holder := hints.Holder(id); holder != "" {
			f.Failures = append(f.Failures, refusal(syscall.EBUSY, "the pid %d of the job is in use: %s", id, holder))
		}
	}
	return f
}

// Collides implements ckpt.Engine. What the module restores usually has lower numbers.
func (e *Engine) Collides(*ckpt.RestartRequest) bool { return false }

// descriptor reads from the descriptor of that number.
type descriptor int

func (fd descriptor) Read(b []byte) (int, error) {
	for {
		n, err := unix.Read(int(fd), b)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return 0, fmt.Errorf("read: %w", err)
		case n == 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}
