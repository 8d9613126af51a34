//go:build real

package real

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/test/ftbsim"
)

// backplane is an agent that the commands of a test publish to.
type backplane struct {
	*ftbsim.Agent
	t *testing.T
}

// newBackplane makes one; the test cannot be run beside others from then on.
func newBackplane(t *testing.T, fault string) *backplane {
	t.Helper()
	f, err := ftbsim.ParseFault(fault)
	if err != nil {
		t.Fatal(err)
	}
	agent, err := ftbsim.Start(ftbsim.Config{Fault: f})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(agent.Close)
	t.Setenv("CR_FTB", "")
	t.Setenv("FTB_AGENT_PORT", strconv.Itoa(agent.Port()))
	return &backplane{agent, t}
}

// check wants these events since the last time, each a pattern.
func (b *backplane) check(want ...string) {
	b.t.Helper()
	if err := b.Settle(patience); err != nil {
		b.t.Error(err)
	}
	if problems := b.Problems(); len(problems) > 0 {
		b.t.Errorf("no client should do this: %s", strings.Join(problems, "; "))
	}
	text := b.EventText()
	if !regexp.MustCompile(`\A` + strings.Join(want, `\n`) + `\n\z`).MatchString(text) {
		b.t.Errorf("events:\n%swant:\n%s", text, strings.Join(want, "\n"))
	}
}

// first and second are patterns for the events of request n.
func first(n int, name string) string {
	return fmt.Sprintf(`%d %s_BEGIN INFO FTB\.checkpoint_sw\.blcr connection=%d seq=1 type=1`, 2*n-1, name, n)
}

func second(n int, name string, errno syscall.Errno) string {
	event, severity, tail := "END", "INFO", ""
	if errno != 0 {
		event, severity, tail = "ERROR", "ERROR", fmt.Sprintf(" errno=%d", int(errno))
	}
	return fmt.Sprintf(`%d %s_%s %s FTB\.checkpoint_sw\.blcr connection=%d seq=2 type=2 answers=%d%s`,
		2*n, name, event, severity, n, 2*n-1, tail)
}

// sockets are the process's.
func sockets(pid int) []string {
	var found []string
	names, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, name := range names {
		if to, err := os.Readlink(name); err == nil && strings.HasPrefix(to, "socket:") {
			found = append(found, filepath.Base(name)+" to "+to)
		}
	}
	return found
}

// noSockets waits until cr_restart is done with all that it had to do with others;
// the job has never had any of that.
func (j *job) noSockets() {
	j.t.Helper()
	if open := sockets(j.pid); len(open) > 0 {
		j.t.Errorf("the job's sockets: %v", open)
	}
	j.until("cr_restart to have no socket", func() bool { return len(sockets(j.proc.pid)) == 0 })
}

// TestEvents: what a backplane is told of real checkpoints and restarts.
func TestEvents(t *testing.T) {
	engine(t)
	b := newBackplane(t, "")
	j := newJob(t, "counter")
	j.launch()
	ctx := filepath.Join(j.dir, "ctx")
	j.checkpoint(ctx, "--run", strconv.Itoa(j.pid))
	want := []string{first(1, "CHKPT"), second(1, "CHKPT", 0)}
	b.check(want...)

	// The original is still there.
	p := j.command("cr_restart", ctx)
	if end := j.wait(p); end != syscall.WaitStatus(unix.EBUSY)<<8 {
		t.Errorf("cr_restart: %s, want exit status 16", describe(end))
	}
	want = append(want, first(2, "RSTRT"), second(2, "RSTRT", unix.EBUSY))
	b.check(want...)

	j.checkpoint(ctx, "--kill", strconv.Itoa(j.pid))
	j.killed([]int{j.pid})
	j.rewind()
	want = append(want, first(3, "CHKPT"), second(3, "CHKPT", 0))
	b.check(want...)

	// The end is told when the job runs, and cr_restart has no part in it then.
	j.restart(ctx)
	want = append(want, first(4, "RSTRT"), second(4, "RSTRT", 0))
	b.check(want...)
	j.noSockets()

	// A job that was restored is saved again, by the pid of its cr_restart.
	j.checkpoint(ctx+"2", "--run", strconv.Itoa(j.proc.pid))
	want = append(want, first(5, "CHKPT"), second(5, "CHKPT", 0))
	b.check(want...)

	// Nobody to be saved.
	j.fails(j.command("cr_checkpoint", "-f", ctx+"3", strconv.Itoa(freePid())), 3, "Checkpoint failed: no processes checkpointed\n")
	want = append(want, first(6, "CHKPT"), second(6, "CHKPT", unix.ESRCH))
	// A context that is none.
	j.write("bad", "junk")
	j.fails(j.command("cr_restart", filepath.Join(j.dir, "bad")), 22, "Restart failed: Invalid argument\n...")
	want = append(want, first(7, "RSTRT"), second(7, "RSTRT", unix.EINVAL))
	b.check(want...)
	// And no request at all.
	j.fails(j.command("cr_restart", "/nonexistent"), 255, "Failed to open(/nonexistent, O_RDONLY): No such file or directory\n")
	b.check(want...)
	j.finish()
	b.check(want...)
}

// TestEventsHook: the hook sees no socket, neither as its own nor as cr_restart's.
func TestEventsHook(t *testing.T) {
	engine(t)
	b := newBackplane(t, "")
	j := newJob(t, "counter")
	j.launch()
	ctx := filepath.Join(j.dir, "ctx")
	j.checkpoint(ctx, "--kill", strconv.Itoa(j.pid))
	j.killed([]int{j.pid})
	j.rewind()
	j.restart(ctx, "--run-on-success=ls -l /proc/self/fd /proc/$PPID/fd >hook; : >hooked")
	j.until("the hook to be done", func() bool { return j.exists("hooked") })
	if hook := j.read("hook"); strings.Count(hook, " 1 -> ") != 2 || strings.Contains(hook, "socket:") {
		t.Errorf("the hook sees:\n%s", hook)
	}
	j.finish()
	b.check(first(1, "CHKPT"), second(1, "CHKPT", 0), first(2, "RSTRT"), second(2, "RSTRT", 0))
}

// TestEventsCriu: no criu has the socket, which is open while it runs. It is run
// by a script that looks.
func TestEventsCriu(t *testing.T) {
	engine(t)
	b := newBackplane(t, "")
	j := newJob(t, "counter")
	criu := os.Getenv("CR_CRIU")
	if criu == "" {
		criu = "criu"
	}
	j.write("criu", fmt.Sprintf(`#!/bin/sh
cd %q
ls -l /proc/$$/fd | sed -n 's/.*socket:\[\(.*\)\]/ \1 /p' >inodes.$$
grep -F -f inodes.$$ /proc/net/tcp >>tcp
rm inodes.$$
grep -c : /proc/net/tcp >>runs
cd "$OLDPWD"
exec %s "$@"
`, j.dir, criu))
	if err := os.Chmod(filepath.Join(j.dir, "criu"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CR_CRIU", filepath.Join(j.dir, "criu"))
	j.launch()
	ctx := filepath.Join(j.dir, "ctx")
	j.checkpoint(ctx, "--kill", strconv.Itoa(j.pid))
	j.killed([]int{j.pid})
	j.rewind()
	j.restart(ctx)
	j.finish()
	b.check(first(1, "CHKPT"), second(1, "CHKPT", 0), first(2, "RSTRT"), second(2, "RSTRT", 0))
	if n := len(strings.Fields(j.read("runs"))); n < 2 {
		t.Errorf("criu was run %d times", n)
	}
	if tcp := j.read("tcp"); tcp != "" {
		t.Errorf("criu has had:\n%s", tcp)
	}
}

// TestEventsKilled: a cr_checkpoint that a signal ends has an end that no event is
// for, however far it has got.
func TestEventsKilled(t *testing.T) {
	engine(t)
	b := newBackplane(t, "")
	j := newJob(t, "counter")
	j.launch()
	var want []string
	for n := range 5 {
		// Nobody reads what does not fit into the pipe, so it cannot be complete.
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := unix.FcntlInt(w.Fd(), unix.F_SETPIPE_SZ, 4096); err != nil {
			t.Fatal(err)
		}
		p := j.start("cr_checkpoint", []string{filepath.Join(bin, "cr_checkpoint"), "-v", "-F", "3", strconv.Itoa(j.pid)}, nil, w.Fd())
		w.Close()
		j.until("the context to begin", func() bool {
			n, err := unix.IoctlGetInt(int(r.Fd()), unix.TIOCINQ)
			return err == nil && n > 0
		})
		_ = syscall.Kill(p.pid, unix.SIGTERM)
		if end := j.wait(p); !end.Signaled() || end.Signal() != unix.SIGTERM {
			t.Errorf("cr_checkpoint: %s, want SIGTERM", describe(end))
		}
		r.Close()
		if stderr, _ := os.ReadFile(p.stderr); strings.Contains(string(stderr), "FTB") {
			t.Errorf("cr_checkpoint says %q", stderr)
		}
		want = append(want, fmt.Sprintf(`%d CHKPT_BEGIN INFO .* connection=%d seq=1 type=1`, n+1, n+1))
	}
	j.advances()
	b.check(want...)
	j.finish()
}

// TestEventsFaults: an agent that does not answer, or dies, changes nothing about
// a real checkpoint and restart, but for two seconds on each side.
func TestEventsFaults(t *testing.T) {
	engine(t)
	for _, fault := range []string{"stall", "die=1", "drop=1", "close", "refuse"} {
		t.Run(fault, func(t *testing.T) {
			newBackplane(t, fault)
			j := newJob(t, "counter")
			j.launch()
			ctx := filepath.Join(j.dir, "ctx")
			begin := time.Now()
			j.checkpoint(ctx, "--kill", strconv.Itoa(j.pid))
			j.killed([]int{j.pid})
			j.rewind()
			j.restart(ctx)
			if took := time.Since(begin); took > 8*time.Second+patience/3 {
				t.Errorf("took %v", took)
			}
			j.noSockets()
			j.finish()
		})
	}
}
