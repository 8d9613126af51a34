//go:build real

package real

import (
	"fmt"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestNotLost: a context that cannot take its place does not cost the program
// its life, for which it would be all that is left.
func TestNotLost(t *testing.T) {
	v := newVictim(t)
	for _, signal := range []string{"--kill", "--term", "--abort"} {
		backup := filepath.Join(v.dir, "no such directory", "backup")
		p := v.command("cr_checkpoint", signal, "--backup="+backup, "-f", v.ctx, strconv.Itoa(v.pid))
		v.fails(p, 2, fmt.Sprintf("Unable to rename '%s' to '%s': No such file or directory\n", v.ctx, backup))
		v.intact()
	}
	v.finish()
}

// TestEndThreads: a signal at the restart ends a job with threads as it would
// have been ended otherwise, though criu lets go of them one by one.
func TestEndThreads(t *testing.T) {
	j, ctx := newEnded(t, "threads")
	for _, signal := range []syscall.Signal{unix.SIGTERM, unix.SIGABRT, unix.SIGVTALRM, unix.SIGKILL} {
		for range 3 {
			keepClear(j.pid)
			p := j.command("cr_restart", "-S", strconv.Itoa(int(signal)), ctx)
			if end := j.wait(p); !end.Signaled() || end.Signal() != signal {
				t.Errorf("-S %d: cr_restart ends so: %s", int(signal), describe(end))
			}
			j.until("the job to be gone", func() bool { return stat(j.pid) == nil })
		}
	}
}

// TestKilledAtOnce: a job is restored whose processes end others as soon as they run, before criu
// has let go of all of them.
func TestKilledAtOnce(t *testing.T) {
	j, ctx := newEnded(t, "killer")
	j.write("go", "")
	for range 4 {
		keepClear(j.pid)
		p := j.command("cr_restart", ctx)
		if end := j.wait(p); end != 7<<8 {
			t.Errorf("cr_restart ends so: %s, want exit status 7", describe(end))
		}
	}
}

// TestGroupSignal: a signal to cr_restart's process group, as schedulers send it,
// is the job's, also where that has new pids, and nobody else's.
func TestGroupSignal(t *testing.T) {
	engine(t)
	for _, signal := range []syscall.Signal{unix.SIGTERM, unix.SIGHUP, unix.SIGINT} {
		j := newJob(t, "counter")
		j.launch()
		ctx := filepath.Join(j.dir, "ctx")
		j.checkpoint(ctx, "--kill", strconv.Itoa(j.pid))
		j.killed([]int{j.pid})
		j.proc = j.command("cr_restart", "--no-restore-pid", ctx)
		j.advances()
		if err := unix.Kill(-j.proc.pid, signal); err != nil {
			t.Fatal(err)
		}
		if end := j.wait(j.proc); !end.Signaled() || end.Signal() != signal {
			t.Errorf("signal %d: cr_restart ends so: %s", int(signal), describe(end))
		}
	}
}
