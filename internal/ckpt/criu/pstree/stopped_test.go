package pstree

import (
	"fmt"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/proc"
)

// TestStopped: a stopped process with SIGSTOP and another signal pending is refused, unless
// it blocks that, and each of the two alone is not.
func TestStopped(t *testing.T) {
	for _, blocked := range []bool{false, true} {
		var by []string
		if blocked {
			by = []string{"env", "--block-signal=USR1"}
		}
		send := func(pid int, signals ...syscall.Signal) error {
			t.Helper()
			for _, sig := range signals {
				if err := unix.Kill(pid, sig); err != nil {
					t.Fatal(err)
				}
				for sig == unix.SIGSTOP {
					if p, err := proc.Read(pid); err != nil || p.State == 'T' {
						break
					}
				}
			}
			_, err := resolve(t, &ckpt.CheckpointRequest{ID: int32(pid), Scope: ckpt.ScopeTree})
			return err
		}
		pid := idle(t, by)
		if err := send(pid, unix.SIGSTOP, unix.SIGUSR1); err != nil {
			t.Errorf("without SIGSTOP pending: %v, %q", err, detail(err))
		}
		switch err := send(pid, unix.SIGSTOP); {
		case !blocked:
			checkError(t, err, syscall.EBUSY, fmt.Sprintf("process %d (sh) is stopped and has SIGUSR1 pending", pid))
		case err != nil:
			t.Errorf("blocked: %v, %q", err, detail(err))
		}
		if err := send(idle(t, by), unix.SIGSTOP, unix.SIGSTOP); err != nil {
			t.Errorf("without another signal: %v, %q", err, detail(err))
		}
	}
}
