//go:build real

package real

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// savedAndKilled has a script saved with --kill, and waits until it is gone.
func (j *job) savedAndKilled(p *process) (ctx string) {
	j.t.Helper()
	j.until("the script to be ready", func() bool { return j.exists("ready") })
	ctx = filepath.Join(j.dir, "ctx")
	j.checkpoint(ctx, "--nosync", "--kill", strconv.Itoa(j.pid))
	if end := j.wait(p); !end.Signaled() || end.Signal() != unix.SIGKILL {
		j.t.Fatalf("after cr_checkpoint --kill: %s", describe(end))
	}
	keepClear(j.pid)
	return ctx
}

// diesOf checks that a cr_restart dies of the signal that it has been sent, and
// that nothing is left.
func (j *job) diesOf(p *process, sig syscall.Signal) {
	j.t.Helper()
	if end := j.wait(p); !end.Signaled() || end.Signal() != sig {
		stderr, _ := os.ReadFile(p.stderr)
		j.t.Fatalf("after signal %d: %s\n%s", int(sig), describe(end), stderr)
	}
	j.nothing()
}

// TestInterruptLarge: until the job runs, a signal to cr_restart ends the restart.
// The job never sees it. From then on the signal is the job's.
func TestInterruptLarge(t *testing.T) {
	j := newCaller(t)
	p := j.script("perl", `$SIG{TERM} = sub { open F, ">caught"; close F };
		$x = "x" x 75e7; # perl has it twice
		 open F, ">ready"; close F; sleep 1 while 1`)
	ctx := j.savedAndKilled(p)
	for _, sig := range []syscall.Signal{unix.SIGTERM, unix.SIGINT} {
		p = j.command("cr_restart", ctx)
		j.until("the job to be made", func() bool { return stat(j.pid) != nil })
		_ = unix.Kill(p.pid, sig)
		j.diesOf(p, sig)
		if j.exists("caught") {
			t.Fatal("the job got the signal")
		}
	}
	p = j.command("cr_restart", ctx)
	// A perl that does not sleep yet is one that criu still works on.
	j.until("the job to run", func() bool { s := stat(j.pid); return s != nil && comm(j.pid) == "perl" && j.tracer() == 0 })
	_ = unix.Kill(p.pid, unix.SIGTERM)
	j.until("the job to get the signal", func() bool { return j.exists("caught") })
	_ = unix.Kill(p.pid, unix.SIGUSR1)
	if end := j.wait(p); !end.Signaled() || end.Signal() != unix.SIGUSR1 {
		t.Errorf("the job died of SIGUSR1, cr_restart: %s", describe(end))
	}
	j.nothing()
}

// TestInterruptOpen: a restore that hangs in open(2), of a file on which another process has
// a lease, ends by every signal.
func TestInterruptOpen(t *testing.T) {
	j := newCaller(t)
	p := j.script("bash", `exec 5>out; >ready; while :; do sleep 0.1; done`)
	ctx := j.savedAndKilled(p)
	for _, sig := range []syscall.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT} {
		out, err := os.OpenFile(filepath.Join(j.dir, "out"), os.O_RDWR, 0)
		if err == nil {
			_, err = unix.FcntlInt(out.Fd(), unix.F_SETLEASE, unix.F_WRLCK)
		}
		if err != nil {
			t.Fatal(err)
		}
		p = j.command("cr_restart", ctx)
		j.until("the restore to hang", func() bool { return stat(j.pid) != nil && hangsInOpen(j.pid) })
		_ = unix.Kill(p.pid, sig)
		j.diesOf(p, sig)
		out.Close()
	}
	// Without a lease it comes back.
	p = j.command("cr_restart", ctx)
	j.until("the job to run", func() bool { return stat(j.pid) != nil && comm(j.pid) == "bash" && j.tracer() == 0 })
	_ = unix.Kill(p.pid, unix.SIGKILL)
	j.wait(p)
	_ = unix.Kill(j.pid, unix.SIGKILL)
	j.nothing()
}

// hangsInOpen reports whether a process waits in open(2) or openat(2).
func hangsInOpen(pid int) bool {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/syscall")
	if err != nil {
		return false
	}
	var number int
	for _, c := range text {
		if c < '0' || c > '9' {
			break
		}
		number = 10*number + int(c-'0')
	}
	return len(text) > 0 && text[0] >= '0' && text[0] <= '9' && (number == unix.SYS_OPEN || number == unix.SYS_OPENAT)
}

// TestKilledWhileHeld: cr_restart holds a program with threads until CRIU has let go of all
// of them. If it is killed meanwhile, the program runs on, and what was stopped when it was
// saved stays stopped.
func TestKilledWhileHeld(t *testing.T) {
	engine(t)
	j := newJob(t, "held")
	j.write("threads.py", `import os, signal, threading, time
child = os.fork()
if not child:
	os.kill(os.getpid(), signal.SIGSTOP)
	os._exit(0)
os.waitpid(child, os.WUNTRACED)
for i in range(8):
	threading.Thread(target=time.sleep, args=(10000,), daemon=True).start()
open("child", "w").write(str(child))
open("ready", "w").close()
while True:
	while not os.access("go", os.F_OK):
		time.sleep(0.01)
	os.rename("go", "went")
`)
	p := j.run("/usr/bin/python3", "threads.py")
	j.until("the program to be ready", func() bool { return j.exists("ready") })
	child, err := strconv.Atoi(j.read("child"))
	if err != nil {
		t.Fatal(err)
	}
	save := j.command("cr_checkpoint", "--kill", "-f", "ctx", strconv.Itoa(p.pid))
	j.silent(save, j.wait(save))
	j.wait(p)
	hits := 0
	for range 30 {
		keepClear(j.pid)
		p = j.command("cr_restart", "ctx")
		seen := j.heldOrRuns()
		_ = unix.Kill(p.pid, unix.SIGKILL)
		j.wait(p)
		j.until("CRIU to end", func() bool { return len(j.helpers()) == 0 })
		// Killed before it has told CRIU to go on, it leaves a job that has been killed.
		if s := stat(j.pid); seen && s != nil && s.state != 'Z' {
			hits++
			j.write("go", "")
			j.until("the program to run on", func() bool { return j.exists("went") })
			if s := stat(child); s == nil || s.state != 'T' {
				t.Errorf("its child, which was stopped, is %+v", s)
			}
		}
		for _, pid := range []int{j.pid, child} {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		_ = os.Remove(filepath.Join(j.dir, "went"))
		j.nothing()
		j.until("the child to be gone", func() bool { return stat(child) == nil })
		if hits == 3 {
			return
		}
	}
	t.Errorf("seen held %d times of 30", hits)
}

// heldOrRuns returns when the job has SIGSTOP pending or is stopped by it, or, false, when
// it runs.
func (j *job) heldOrRuns() bool {
	for begin := time.Now(); time.Since(begin) < patience; {
		if status, err := os.ReadFile("/proc/" + strconv.Itoa(j.pid) + "/status"); err == nil {
			_, pending, _ := strings.Cut(string(status), "\nShdPnd:\t")
			pending, _, _ = strings.Cut(pending, "\n")
			set, _ := strconv.ParseUint(pending, 16, 64)
			switch s := stat(j.pid); {
			case s == nil:
			case s.state == 'T' || set&(1<<(unix.SIGSTOP-1)) != 0:
				return true
			case s.state == 'S' && j.tracer() == 0 && len(j.helpers()) == 1:
				return false
			}
		}
	}
	return false
}
