//go:build real

package real

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// names lists what is in the directory of the program's removed files.
func (j *job) names() (names []string) {
	j.t.Helper()
	entries, err := os.ReadDir(filepath.Join(j.dir, "removed"))
	if err != nil {
		j.t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// newGhosts saves and ends a program with removed files.
func newGhosts(t *testing.T) (j *job, ctx string) {
	t.Helper()
	j, ctx = newEnded(t, "ghosts")
	// What one of them was called is in use by now.
	j.write("removed/7", "new")
	return j, ctx
}

// TestFaultGhosts: a restart that fails leaves no names of removed files, whichever
// process is killed, and the next one succeeds.
func TestFaultGhosts(t *testing.T) {
	j, ctx := newGhosts(t)
	seen := 0
	for n := range 12 {
		keepClear(j.pid)
		p := j.command("cr_restart", ctx)
		// Criu is at work on the files when there are more than the new one and those with
		// which cr_restart tries the directory before.
		j.until("criu to make files", func() bool {
			entries, _ := os.ReadDir(filepath.Join(j.dir, "removed"))
			select {
			case <-p.ended:
				return true
			default:
				return len(entries) > 3+n*20
			}
		})
		if len(j.names()) > 1 {
			seen++
		}
		switch n % 3 {
		case 0: // criu is killed
			for _, pid := range childrenOf(p.pid) {
				if pid != j.pid {
					_ = syscall.Kill(pid, unix.SIGKILL)
				}
			}
		case 1:
			_ = syscall.Kill(p.pid, unix.SIGTERM)
		case 2:
			_ = syscall.Kill(p.pid, unix.SIGKILL)
			j.until("the job to run or be gone", func() bool { return stat(j.pid) == nil || j.beat() > 0 })
			j.forgetScratch()
		}
		if stat(j.pid) != nil {
			_ = syscall.Kill(j.pid, unix.SIGKILL)
		}
		j.wait(p)
		j.until("processes to be gone", func() bool { return len(j.helpers()) == 0 && stat(j.pid) == nil })
		if left := j.names(); n%3 != 2 && !slices.Equal(left, []string{"7"}) {
			t.Fatalf("attempt %d has left %q", n, left)
		}
		j.rewind()
	}
	if seen == 0 {
		t.Error("no attempt was ended while criu had made files")
	}
	keepClear(j.pid)
	j.restart(ctx)
	if left := j.names(); !slices.Equal(left, []string{"7"}) {
		t.Errorf("the last restart has left %q", left)
	}
	j.finish()
}

// TestGhostsFail: criu fails when all removed files have been made again.
func TestGhostsFail(t *testing.T) {
	j, ctx := newGhosts(t)
	late := filepath.Join(j.dir, "late")
	if err := os.Rename(late, late+".away"); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		j.fails(j.command("cr_restart", ctx), 2, "Restart failed: No such file or directory\n- cannot open "+late+"...")
		if left := j.names(); !slices.Equal(left, []string{"7"}) {
			t.Fatalf("left: %q", left)
		}
	}
	if err := os.Rename(late+".away", late); err != nil {
		t.Fatal(err)
	}
	j.restart(ctx)
	j.finish()
}

// TestGhostsTogether: two jobs with removed files of the same names come back at once.
func TestGhostsTogether(t *testing.T) {
	engine(t)
	j := newJob(t, "ghosts")
	j.launch()
	ctx := filepath.Join(j.dir, "ctx")
	j.checkpoint(ctx, strconv.Itoa(j.pid))
	var restarts []*process
	for range 3 {
		restarts = append(restarts, j.command("cr_restart", "--no-restore-pid", ctx))
	}
	j.write("finish", "")
	for _, p := range restarts {
		if end := j.wait(p); !end.Exited() || end.ExitStatus() != 42 {
			stderr, _ := os.ReadFile(p.stderr)
			t.Errorf("cr_restart: %s: %s", describe(end), stderr)
		}
	}
	j.finish()
	if left := j.names(); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// TestGhostsAppendOnly: a removed file was in a directory from which nothing can be removed
// by now. It is made elsewhere.
func TestGhostsAppendOnly(t *testing.T) {
	j, ctx := newEnded(t, "ghosts")
	reset := setAttribute(t, filepath.Join(j.dir, "removed"), "a")
	j.restart(ctx)
	if left := j.names(); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
	reset()
	j.finish()
}
