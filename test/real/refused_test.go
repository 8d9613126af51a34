//go:build real

package real

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestLockTaken: a restart of a job that had a file locked, which somebody else has locked
// by now, fails at once and says who has it, as cr_info --check does. The job is restarted
// when the lock is free.
func TestLockTaken(t *testing.T) {
	engine(t)
	j := newJob(t, "locktaken")
	j.write("lock.py", `import fcntl, os, time
f = open("file", "w")
fcntl.flock(f, fcntl.LOCK_EX)
open("ready", "w").close()
while not os.access("go", os.F_OK):
	time.sleep(0.01)
os._exit(7)
`)
	p := j.run("/usr/bin/python3", "lock.py")
	j.until("the program to be ready", func() bool { return j.exists("ready") })
	ctx := filepath.Join(j.dir, "ctx")
	save := j.command("cr_checkpoint", "--kill", "-f", ctx, strconv.Itoa(p.pid))
	j.silent(save, j.wait(save))
	j.wait(p)
	name := filepath.Join(j.dir, "file")
	file, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := unix.Flock(int(file.Fd()), unix.LOCK_SH); err != nil {
		t.Fatal(err)
	}
	sentence := "the job had the file " + name + " locked by flock(2), and process " + strconv.Itoa(os.Getpid()) + " "
	if said, status := j.told("--check", ctx); status != 1 || !strings.Contains(said, sentence) {
		t.Errorf("status %d, %q", status, said)
	}
	restart := j.command("cr_restart", ctx)
	end := j.wait(restart)
	stderr, _ := os.ReadFile(restart.stderr)
	if !end.Exited() || end.ExitStatus() != int(unix.EBUSY) || !strings.Contains(string(stderr), sentence) {
		t.Errorf("cr_restart: %s: %s", describe(end), stderr)
	}
	file.Close()
	j.write("go", "")
	j.ends(j.again(ctx), 7, "", "")
	j.nothing()
}

// TestStoppedTwice: a stopped process with a signal pending is saved once, and refused until
// it is continued. It gets the signal.
func TestStoppedTwice(t *testing.T) {
	engine(t)
	j := newJob(t, "stoppedtwice")
	j.write("signals.py", `import os, signal, time
got = []
signal.signal(signal.SIGUSR1, lambda *_: got.append(1))
open("ready", "w").close()
while not got:
	time.sleep(0.01)
os._exit(7)
`)
	p := j.run("/usr/bin/python3", "signals.py")
	j.until("the program to be ready", func() bool { return j.exists("ready") })
	pid := strconv.Itoa(p.pid)
	if err := unix.Kill(p.pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	j.until("the program to stop", func() bool { s := stat(p.pid); return s != nil && s.state == 'T' })
	if err := unix.Kill(p.pid, unix.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	save := j.command("cr_checkpoint", "-f", "ctx", pid)
	j.silent(save, j.wait(save))
	for range 2 {
		save := j.command("cr_checkpoint", "-f", "again", pid)
		end := j.wait(save)
		stderr, _ := os.ReadFile(save.stderr)
		if !end.Exited() || end.ExitStatus() != int(unix.EBUSY) || !strings.Contains(string(stderr), "kill -CONT "+pid) {
			t.Errorf("cr_checkpoint: %s: %s", describe(end), stderr)
		}
	}
	if err := unix.Kill(p.pid, unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	j.ends(p, 7, "", "")
	j.nothing()
}

// TestStoppedForTerminal: what is stopped in the background because it wants its terminal is
// refused, in words, and stays stopped.
func TestStoppedForTerminal(t *testing.T) {
	engine(t)
	for _, sig := range []unix.Signal{unix.SIGTTIN, unix.SIGTTOU} {
		j := newJob(t, "stoppedforterminal")
		p := j.start("sleep", []string{"/bin/sleep", "1000"}, nil)
		j.pid = p.pid
		stopped := func() bool { s := stat(p.pid); return s != nil && s.state == 'T' }
		if err := unix.Kill(p.pid, sig); err != nil {
			t.Fatal(err)
		}
		j.until("the program to stop", stopped)
		if said, status := j.asked(strconv.Itoa(p.pid)); status != 95 || !strings.Contains(said, fmt.Sprintf("process %d (sleep) is stopped because it is in the background", p.pid)) || !stopped() {
			t.Errorf("--check: status %d, %q", status, said)
		}
		j.fails(j.command("cr_checkpoint", "-f", "ctx", strconv.Itoa(p.pid)), 95, fmt.Sprintf("Checkpoint failed: Operation not supported\n"+
			"- process %d (sleep) is stopped because it is in the background and wants its terminal (SIGTTIN, SIGTTOU), and CRIU cannot save it so\n"+
			"- criu: SEIZE %[1]d: unsupported stop signal %d\n- bring it to the foreground, where Ctrl-Z may stop it\n", p.pid, int(sig)))
		if !stopped() {
			t.Errorf("it does not stay stopped")
		}
		_ = unix.Kill(p.pid, unix.SIGKILL)
		j.wait(p)
	}
}
