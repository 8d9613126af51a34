//go:build real

package real

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestLazy: programs that run before all of their memory is in place find it as it was.
// That they are saved again and again means that it is waited for.
func TestLazy(t *testing.T) {
	engine(t)
	for _, name := range []string{"changing", "upheaval", "family", "filled", "big", "threads", "tree", "goroutines", "python.py", "stack"} {
		for _, compress := range []string{"none", "zstd"} {
			t.Run(name+"/"+compress, func(t *testing.T) {
				p := programs[slices.IndexFunc(programs, func(p program) bool { return p.name == name })]
				j := newJob(t, name)
				j.launch()
				ctx := filepath.Join(j.dir, "ctx")
				rounds := *cycles
				if (name == "changing" || name == "upheaval") && !testing.Short() {
					rounds *= 3
				}
				for range rounds {
					all := tree(j.pid)
					j.checkpoint(ctx, "--compress="+compress, "--clobber", "--nosync", "--kill", strconv.Itoa(j.pid))
					j.killed(all)
					j.restart(ctx, append(slices.Clone(p.restart), "--lazy")...)
				}
				j.finish()
			})
		}
	}
}

// TestLazyKilled: a job whose memory cannot come any more does not go on with other
// memory.
func TestLazyKilled(t *testing.T) {
	j, ctx := newLarge(t, 250)
	for range 5 {
		keepClear(j.pid)
		p := j.command("cr_restart", "--lazy", ctx)
		j.until("the job to run", func() bool { return j.perlRuns() })
		whole := len(j.guards()) == 0
		_ = unix.Kill(p.pid, unix.SIGKILL)
		j.wait(p)
		if !whole {
			j.until("the job to be ended, or whole", func() bool { return len(j.guards()) == 0 })
		}
		if stat(j.pid) != nil {
			_ = unix.Kill(j.pid, unix.SIGKILL)
		}
		j.nothing()
		if j.exists("wrong") {
			t.Fatal("the job went on")
		}
	}
}

// TestLazyWiped: memory that a child is not to have is not put into one that is made while
// memory comes.
func TestLazyWiped(t *testing.T) {
	j, ctx := newEnded(t, "wiped")
	for range 3 {
		j.write("fork", "")
		j.restart(ctx, "--lazy")
		j.until("a child to have looked at its memory", func() bool { return !j.exists("fork") || j.exists("wrong") })
		if j.exists("wrong") {
			t.Fatal(j.read("wrong"))
		}
		_ = unix.Kill(j.pid, unix.SIGKILL)
		j.wait(j.proc)
	}
	j.nothing()
}

// untilTried calls try for a job of ever more memory, in MiB, until it reports true: a smaller
// one may be whole before anything can be done to it.
func untilTried(t *testing.T, try func(mib int) bool) {
	t.Helper()
	for mib := 250; mib <= 4000; mib *= 2 {
		for range 3 {
			if try(mib) || t.Failed() {
				return
			}
		}
	}
	t.Error("all memory was in place each time")
}

// TestLazyTruncated: a job is ended if the rest of its memory cannot be read.
func TestLazyTruncated(t *testing.T) {
	untilTried(t, func(mib int) bool {
		j, ctx := newLarge(t, mib)
		p := j.command("cr_restart", "--lazy", ctx)
		j.until("the job to run", j.perlRuns)
		if err := os.Truncate(ctx, 1<<20); err != nil {
			t.Fatal(err)
		}
		j.until("all memory to be in place, or not", func() bool { return len(j.guards()) == 0 })
		tried := stat(j.pid) == nil
		if !tried {
			_ = unix.Kill(j.pid, unix.SIGKILL)
		}
		end := j.wait(p)
		if tried {
			stderr, _ := os.ReadFile(p.stderr)
			want := "Job killed: the rest of its memory cannot be restored: Input/output error\n- context: pages-"
			if !end.Signaled() || end.Signal() != unix.SIGKILL || !strings.HasPrefix(string(stderr), want) {
				t.Errorf("%s, %q", describe(end), stderr)
			}
			if j.exists("wrong") {
				t.Error("the job went on with other memory")
			}
		}
		j.nothing()
		return tried
	})
}

// TestLazyOrphan: neither does a process that does not descend from the job's root any more,
// whether the root has ended or not.
func TestLazyOrphan(t *testing.T) {
	for _, root := range []string{"waits", "ends"} {
		for _, by := range []string{"killed", "truncated"} {
			t.Run(root+"/"+by, func(t *testing.T) {
				untilTried(t, func(mib int) bool { return lazyOrphan(t, mib, root == "ends", by == "truncated") })
			})
		}
	}
}

// lazyOrphan reports whether the memory was not in place when cr_restart was killed, or the
// context truncated.
func lazyOrphan(t *testing.T, mib int, ends, truncated bool) bool {
	j := newCaller(t)
	ctx := j.savedAndKilled(j.script("perl", fmt.Sprintf(`$x = ("0123456789abcdef" x 65536) x %d; $n = length $x;`, mib)+`
		$want = unpack("%32C*", substr($x, 0, 65536));
		open F, ">ready"; close F;
		select undef, undef, undef, 0.001 until -e "go";
		unless (fork) {
			exit if fork;
			open F, ">orphan.new"; print F $$; close F; rename "orphan.new", "orphan";
			while (1) { for ($i = 0; $i + 65536 <= $n; $i += 65536) {
				if (unpack("%32C*", substr($x, $i, 65536)) != $want) { open F, ">wrong"; close F } } } }
		wait;
		exit if -e "ends";
		sleep 1 while 1;`))
	j.write("go", "")
	if ends {
		j.write("ends", "")
	}
	p := j.command("cr_restart", "--lazy", ctx)
	j.until("the orphan to run", func() bool { return j.exists("orphan") })
	orphan, _ := strconv.Atoi(j.read("orphan"))
	if ends {
		j.until("the root to end", func() bool { return ended(j.pid) })
	}
	whole := len(j.guards()) == 0
	if truncated {
		if err := os.Truncate(ctx, 1<<20); err != nil {
			t.Fatal(err)
		}
	} else {
		_ = unix.Kill(p.pid, unix.SIGKILL)
	}
	j.until("the job to be ended, or whole", func() bool { return whole || len(j.guards()) == 0 })
	tried := ended(orphan)
	if !tried { // it was faster
		_ = unix.Kill(orphan, unix.SIGKILL)
		_ = unix.Kill(j.pid, unix.SIGKILL)
	}
	end := j.wait(p)
	j.nothing()
	if j.exists("wrong") {
		t.Error("the orphan went on with other memory")
	}
	if tried && truncated && ends && (!end.Exited() || end.ExitStatus() != int(unix.EIO)) {
		t.Errorf("the root had succeeded before: %s", describe(end))
	}
	return tried
}

// ended reports whether a process has ended, waited for or not.
func ended(pid int) bool {
	s := stat(pid)
	return s == nil || s.state == 'Z'
}

// TestLazySignals: cr_restart passes signals on as always, and is there until all memory
// is in place.
func TestLazySignals(t *testing.T) {
	j, ctx := newLarge(t, 250)
	p := j.command("cr_restart", "--lazy", ctx)
	j.until("the job to run", j.perlRuns)
	for _, sig := range []syscall.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGTERM, unix.SIGUSR1} {
		_ = unix.Kill(p.pid, sig)
	}
	j.until("the job to get all of them", func() bool { return strings.Count(j.read("caught"), "\n") == 4 })
	j.until("all memory to be in place", func() bool { return len(j.guards()) == 0 })
	_ = os.Remove(filepath.Join(j.dir, "ran"))
	j.until("the job to run on", func() bool { return j.exists("ran") })
	_ = unix.Kill(p.pid, unix.SIGUSR2)
	if end := j.wait(p); !end.Signaled() || end.Signal() != unix.SIGUSR2 {
		t.Errorf("the job died of SIGUSR2, cr_restart: %s", describe(end))
	}
	if j.exists("wrong") {
		t.Error("other memory")
	}
	j.nothing()
}

// newLarge saves and ends a job with mib MiB of memory.
func newLarge(t *testing.T, mib int) (j *job, ctx string) {
	t.Helper()
	j = newCaller(t)
	p := j.script("perl", fmt.Sprintf(`$x = ("0123456789abcdef" x 65536) x %d;`, mib)+` $n = length $x; for $s (qw(HUP INT TERM USR1)) { $SIG{$s} = sub { open F, ">>caught"; print F "$s\n"; close F } }
		$want = unpack("%32C*", substr($x, 0, 65536));
		open F, ">ready"; close F;
		while (1) { for ($i = 0; $i + 65536 <= $n; $i += 65536) {
			if (unpack("%32C*", substr($x, $i, 65536)) != $want) { open F, ">wrong"; close F }
			open F, ">ran"; close F } }`)
	return j, j.savedAndKilled(p)
}

// perlRuns reports whether the job runs, and criu has let go of it.
func (j *job) perlRuns() bool { return stat(j.pid) != nil && comm(j.pid) == "perl" && j.tracer() == 0 }

// guards are the processes that keep the job from going on without its memory.
func (j *job) guards() []int {
	return slices.DeleteFunc(j.helpers(), func(pid int) bool { return !strings.Contains(string(cmdline(pid)), "lazy-guard") })
}

// TestLazyClobber: a job whose memory is still read from a context can be saved into the same
// file, in place.
func TestLazyClobber(t *testing.T) {
	untilTried(t, func(mib int) bool {
		j, ctx := newLarge(t, mib)
		p := j.command("cr_restart", "--lazy", ctx)
		j.until("the job to run", j.perlRuns)
		tried := len(j.guards()) > 0
		j.checkpoint(ctx, "--clobber", "--nosync", strconv.Itoa(j.pid))
		_ = os.Remove(filepath.Join(j.dir, "ran"))
		j.until("the job to run on", func() bool { return j.exists("ran") })
		_ = unix.Kill(j.pid, unix.SIGKILL)
		j.wait(p)
		j.nothing()
		return tried
	})
}

// TestLazyPipe: such a context has to be a file.
func TestLazyPipe(t *testing.T) {
	j, ctx := newSleeper(t)
	p := j.start("sh", []string{"/bin/sh", "-c", `cat "$1" | "$0" --lazy -F 0`, filepath.Join(bin, "cr_restart"), ctx}, nil)
	j.fails(p, 29, "Restart failed: Illegal seek\n- a lazy restart reads from the context while the job runs...")
	j.nothing()
	j.restart(ctx, "--lazy")
	j.finish()
}
