//go:build real

package real

import (
	"math/rand/v2"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestSuspendedRestart: a batch system suspends and resumes all processes while one of them
// is restored. The job runs all the same.
func TestSuspendedRestart(t *testing.T) {
	j, ctx := newSleeper(t)
	for n := range 12 {
		j.rewind()
		keepClear(j.pid)
		p := j.command("cr_restart", ctx)
		j.until("criu to trace the job", func() bool { return stat(j.pid) != nil && j.tracer() != 0 })
		time.Sleep(rand.N(40 * time.Millisecond))
		all := append(tree(p.pid), j.pid)
		for _, sig := range []unix.Signal{unix.SIGSTOP, unix.SIGCONT} {
			if n%4 == 3 && sig == unix.SIGSTOP {
				continue
			}
			for _, pid := range all {
				_ = unix.Kill(pid, sig)
			}
			time.Sleep(rand.N(5 * time.Millisecond))
		}
		j.until("the job to run", func() bool { return j.beat() > 0 })
		_ = unix.Kill(p.pid, unix.SIGTERM)
		if end := j.wait(p); !end.Signaled() || end.Signal() != unix.SIGTERM {
			t.Fatalf("cr_restart: %s", describe(end))
		}
		j.nothing()
	}
	j.rewind()
	j.restart(ctx)
	j.finish()
}
