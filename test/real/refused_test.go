//go:build real

package real

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
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

// TestLockLost: somebody else gets the lock of fcntl(2) that CRIU loses, as the file is mapped,
// before the job can take it again. The job does not run without it.
func TestLockLost(t *testing.T) {
	engine(t)
	j := newJob(t, "locklost")
	j.write("lock.py", `import fcntl, mmap, os, time
f = open("file", "w+b")
f.truncate(4096)
m = mmap.mmap(f.fileno(), 4096)
fcntl.lockf(f, fcntl.LOCK_EX)
open("ready", "w").close()
while True:
	time.sleep(0.001)
	os.access("go", os.F_OK) and os.rename("go", "went")
`)
	ctx := j.savedAndKilled(j.run("/usr/bin/python3", "lock.py"))
	j.write("go", "")
	for range 20 {
		file, err := os.OpenFile(filepath.Join(j.dir, "file"), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		var over atomic.Bool
		got := make(chan bool)
		go func() {
			for !over.Load() {
				held := unix.Flock_t{Type: unix.F_WRLCK}
				if unix.FcntlFlock(file.Fd(), unix.F_OFD_GETLK, &held) == nil && held.Type != unix.F_UNLCK {
					got <- unix.FcntlFlock(file.Fd(), unix.F_OFD_SETLKW, &unix.Flock_t{Type: unix.F_WRLCK}) == nil
					return
				}
			}
			got <- false
		}()
		keepClear(j.pid)
		restart := j.command("cr_restart", ctx)
		j.until("the restart to fail, or the job to run", func() bool { return j.exists("went") || ended(restart.pid) })
		if j.exists("went") { // it was faster
			_ = unix.Kill(j.pid, unix.SIGKILL)
		}
		end := j.wait(restart)
		over.Store(true)
		locked := <-got
		file.Close()
		if j.exists("went") {
			if err := os.Rename(filepath.Join(j.dir, "went"), filepath.Join(j.dir, "go")); err != nil {
				t.Fatal(err)
			}
			continue
		}
		stderr, _ := os.ReadFile(restart.stderr)
		if want := " cannot lock the file " + j.dir + "/file again by fcntl(2)"; !locked || !end.Exited() || end.ExitStatus() != int(unix.EBUSY) || !strings.Contains(string(stderr), want) {
			t.Errorf("cr_restart: %s: %s", describe(end), stderr)
		}
		j.nothing()
		return
	}
	t.Error("the job was faster each time")
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
