//go:build real

package real

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// engine skips a test in a dry run.
func engine(t *testing.T) {
	t.Helper()
	if dry {
		t.Skip("REALTEST_DRY is set")
	}
}

// TestManyCycles takes one process through many cycles in a row, and leaves
// nothing at all behind.
func TestManyCycles(t *testing.T) {
	engine(t)
	many := 200
	if testing.Short() {
		many = 20
	}
	if n, err := strconv.Atoi(os.Getenv("REALTEST_CYCLES")); err == nil {
		many = n
	}
	j := newJob(t, "counter")
	j.launch()
	before := len(descriptors())
	for n := range many {
		j.cycle(program{}, n)
		for _, pattern := range []string{"stdout.*", "stderr.*"} {
			names, _ := filepath.Glob(filepath.Join(j.dir, pattern))
			for _, name := range names {
				// The commands' are checked, the program still has its own.
				if strings.Contains(name, ".cr_checkpoint.") {
					_ = os.Remove(name)
				}
			}
		}
		if got := len(descriptors()); got != before {
			t.Fatalf("cycle %d: %d descriptors are open, before it were %d: %v", n, got, before, descriptors())
		}
		if left, _ := os.ReadDir(j.tmp); len(left) > 0 {
			t.Fatalf("cycle %d: left in TMPDIR: %v", n, left)
		}
		if t.Failed() {
			t.Fatalf("at cycle %d", n)
		}
	}
	j.finish()
}

// TestConcurrent saves a hundred processes at the same time.
func TestConcurrent(t *testing.T) {
	engine(t)
	many := 100
	if testing.Short() {
		many = 20
	}
	jobs := make([]*job, many)
	for i := range jobs {
		jobs[i] = newJob(t, "counter")
		jobs[i].launch()
	}
	ctx := func(j *job) string { return filepath.Join(j.dir, "ctx") }
	commands := make([]*process, many)
	for i, j := range jobs {
		commands[i] = j.command("cr_checkpoint", "--run", strconv.Itoa(j.pid), "-f", ctx(j))
	}
	failed := 0
	for i, p := range commands {
		// All share two processors: the last may take a while.
		select {
		case <-p.ended:
		case <-time.After(4 * patience):
			t.Fatalf("%s (pid %d) does not end", p.name, p.pid)
		}
		stderr, _ := os.ReadFile(p.stderr)
		if p.end != 0 || len(stderr) > 0 {
			failed++
			t.Errorf("job %d: %s: %s", i, describe(p.end), stderr)
		}
	}
	if failed > 0 {
		t.Fatalf("%d of %d checkpoints have failed", failed, many)
	}
	for _, j := range jobs {
		j.advances()
	}
	for _, j := range jobs {
		_ = syscall.Kill(j.pid, syscall.SIGKILL)
		j.killed([]int{j.pid})
		j.rewind()
	}
	for ; len(jobs) > 0; jobs = jobs[10:] {
		for _, j := range jobs[:10] {
			keepClear(j.pid)
			j.proc = j.command("cr_restart", ctx(j))
		}
		for _, j := range jobs[:10] {
			j.advances()
			j.inspect(nil)
			j.finish()
		}
	}
}

// TestTorn saves a program that writes to all its memory all the time, while it
// goes on: into a file, compressed, and with a reader of the context that is slow.
func TestTorn(t *testing.T) {
	engine(t)
	repeat := 5
	if testing.Short() {
		repeat = 2
	}
	for n := range 3 * repeat {
		j := newJob(t, "torn")
		j.launch()
		ctx := filepath.Join(j.dir, "ctx")
		switch n % 3 {
		case 0:
			j.tornThroughPipe(ctx)
		case 1:
			j.checkpoint(ctx, "--run", strconv.Itoa(j.pid))
		case 2:
			j.checkpoint(ctx, "--run", "--compress", strconv.Itoa(j.pid))
		}
		j.advances()
		j.goBack(ctx)
		j.finish()
		if t.Failed() {
			t.Fatalf("time %d of %d", n+1, 3*repeat)
		}
	}
}

// tornThroughPipe saves the job into a pipe that is read slowly.
func (j *job) tornThroughPipe(ctx string) {
	t := j.t
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p := j.start("cr_checkpoint", []string{filepath.Join(bin, "cr_checkpoint"), "--run", "-F", "3", strconv.Itoa(j.pid)}, nil, w.Fd())
	w.Close()
	size, err := slowly(r, ctx)
	r.Close()
	if err != nil {
		t.Fatal(err)
	}
	j.silent(p, j.wait(p))
	if size < 4096*4096 {
		t.Fatalf("the context is of %d bytes only", size)
	}
}

// slowly copies what comes into a file, 16 MiB in a second.
func slowly(r *os.File, name string) (size int, err error) {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o400)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := r.Read(buf)
		if n == 0 {
			if err != nil && err.Error() != "EOF" {
				return size, err
			}
			return size, nil
		}
		size += n
		if _, err := f.Write(buf[:n]); err != nil {
			return size, err
		}
		time.Sleep(time.Duration(n) * time.Second / (16 << 20))
	}
}

// TestExit: cr_restart ends as the job does, and leaves no core file.
func TestExit(t *testing.T) {
	engine(t)
	for _, how := range []string{"exit 0", "exit 7", "exit 255", "signal TERM", "signal KILL", "signal SEGV", "signal ABRT", "kill TERM"} {
		t.Run(strings.ReplaceAll(how, " ", "-"), func(t *testing.T) {
			t.Parallel()
			j := newJob(t, "ender")
			j.launch()
			ctx := filepath.Join(j.dir, "ctx")
			j.checkpoint(ctx, "--kill", strconv.Itoa(j.pid))
			j.killed([]int{j.pid})
			j.restart(ctx)
			kind, arg, _ := strings.Cut(how, " ")
			var want syscall.WaitStatus
			if kind == "exit" {
				n, _ := strconv.Atoi(arg)
				want = syscall.WaitStatus(n << 8)
			} else {
				sig := unix.SignalNum("SIG" + arg)
				want = syscall.WaitStatus(sig)
				arg = strconv.Itoa(int(sig))
			}
			if kind == "kill" { // cr_restart passes it on to the job
				if err := syscall.Kill(j.proc.pid, unix.SIGTERM); err != nil {
					t.Fatal(err)
				}
			} else {
				j.write("end-by.new", kind+" "+arg+"\n")
				if err := os.Rename(j.dir+"/end-by.new", j.dir+"/end-by"); err != nil {
					t.Fatal(err)
				}
			}
			if end := j.wait(j.proc); end != want {
				t.Errorf("cr_restart ends so: %s (%#x), want %#x", describe(end), int(end), int(want))
			}
			if text, _ := os.ReadFile(j.proc.stderr); len(text) > 0 {
				t.Errorf("stderr: %s", text)
			}
			if stat(j.pid) != nil {
				t.Errorf("the job is still there")
			}
			if names, _ := filepath.Glob(j.dir + "/core*"); len(names) > 0 {
				t.Errorf("left: %v", names)
			}
		})
	}
}

// handled is what the program spin has noted: its counts at the signals.
func (j *job) handled(n int) []string {
	j.t.Helper()
	j.until(fmt.Sprintf("the handler to run %d times", n), func() bool { return len(strings.Fields(j.read("handled"))) >= n })
	return strings.Fields(j.read("handled"))
}

// TestSignals: what signal there is to be after a checkpoint or a restart comes
// before the program runs on.
func TestSignals(t *testing.T) {
	engine(t)

	// A program that does nothing but count notes its count when the signal
	// comes. That is the same after the checkpoint and after the restart: in
	// neither case has it gone on before.
	t.Run("first", func(t *testing.T) {
		t.Parallel()
		j := newJob(t, "spin")
		j.proc = j.start("program", j.args, nil)
		j.pid = j.proc.pid
		j.until("the program to be ready", func() bool { return j.exists("ready") })
		ctx := filepath.Join(j.dir, "ctx")
		j.checkpoint(ctx, "-S", strconv.Itoa(int(unix.SIGUSR1)), strconv.Itoa(j.pid))
		j.handled(1)
		_ = syscall.Kill(j.pid, syscall.SIGKILL)
		j.killed([]int{j.pid})
		for n := 2; n <= 3; n++ {
			keepClear(j.pid)
			j.proc = j.command("cr_restart", "-S", "10", ctx)
			counts := j.handled(n)
			if counts[n-1] != counts[0] {
				t.Errorf("counts at the signal: after the checkpoint %s, after restart %d %s", counts[0], n-1, counts[n-1])
			}
			_ = syscall.Kill(j.pid, syscall.SIGKILL)
			j.killed([]int{j.pid})
		}
	})

	t.Run("stop", func(t *testing.T) {
		t.Parallel()
		j := newJob(t, "counter")
		j.launch()
		ctx := filepath.Join(j.dir, "ctx")
		j.checkpoint(ctx, "--stop", strconv.Itoa(j.pid))
		j.stands()
		// And goes on by the signal of another checkpoint.
		j.checkpoint(ctx+"2", "--cont", strconv.Itoa(j.pid))
		j.advances()
		_ = syscall.Kill(j.pid, syscall.SIGKILL)
		j.killed([]int{j.pid})
		j.rewind()

		// The first one was taken when it was running.
		j.restart(ctx)
		_ = syscall.Kill(j.pid, syscall.SIGKILL)
		j.killed([]int{j.pid})
		j.rewind()
		keepClear(j.pid)
		j.proc = j.command("cr_restart", "--stop", ctx)
		j.stands()
		if j.beat() != 0 {
			t.Errorf("the program went on before it was stopped")
		}
		_ = syscall.Kill(j.proc.pid, syscall.SIGCONT) // it may be stopped as well
		_ = syscall.Kill(j.pid, syscall.SIGCONT)
		j.advances()
		j.inspect(nil)
		j.finish()
	})

	t.Run("term", func(t *testing.T) {
		t.Parallel()
		j := newJob(t, "counter")
		j.launch()
		ctx := filepath.Join(j.dir, "ctx")
		j.checkpoint(ctx, "--term", strconv.Itoa(j.pid))
		if end := j.wait(j.proc); !end.Signaled() || end.Signal() != unix.SIGTERM {
			t.Fatalf("after --term the program ends so: %s", describe(end))
		}
		j.restart(ctx)
		j.finish()
	})
}

// stands waits until the job is stopped, and sees that it stays so.
func (j *job) stands() {
	j.t.Helper()
	j.until("the program to be stopped", func() bool { s := stat(j.pid); return s != nil && s.state == 'T' })
	before := j.read("beat")
	time.Sleep(100 * time.Millisecond)
	if after := j.read("beat"); after != before {
		j.t.Errorf("stopped, it goes on from %q to %q", before, after)
	}
}

// TestPidTaken: a restart while the original is still there.
func TestPidTaken(t *testing.T) {
	engine(t)
	j := newJob(t, "counter")
	j.launch()
	ctx := filepath.Join(j.dir, "ctx")
	j.checkpoint(ctx, "--run", strconv.Itoa(j.pid))
	p := j.command("cr_restart", ctx)
	end := j.wait(p)
	stderr, _ := os.ReadFile(p.stderr)
	if end != 16<<8 {
		t.Errorf("cr_restart: %s, want exit status 16", describe(end))
	}
	lines := bytes.Split(bytes.TrimSpace(stderr), []byte("\n"))
	if first := fmt.Sprintf("- found pid %d in use", j.pid); string(lines[0]) != first {
		t.Errorf("first line of stderr is %q, want %q", lines[0], first)
	}
	rest := fmt.Sprintf("\nRestart failed: Device or resource busy\n- it is that of process %d (counter)\n- cr_restart --no-restore-pid restarts the job with new pids beside it\n", j.pid)
	if !bytes.HasSuffix(stderr, []byte(rest)) {
		t.Errorf("stderr is %q, want %q at its end", stderr, rest)
	}
	j.advances()
	j.finish()
}

// TestRefused: what cannot be saved, and what is said then.
func TestRefused(t *testing.T) {
	engine(t)
	const kernelThread = 0x00200000 // PF_KTHREAD
	nobody := &syscall.Credential{Uid: 65534, Gid: 65534}
	for _, c := range []struct {
		name   string
		id     func(j *job) int
		cred   *syscall.Credential
		status int
		text   string
	}{
		{"nonexistent", func(*job) int { return freePid() }, nil, 3, "Checkpoint failed: no processes checkpointed\n"},
		{"kernel", func(*job) int { return 2 }, nil, 1, "Operation not permitted\n"},
		{"foreign", func(j *job) int { return j.pid }, nobody, 1, "Operation not permitted\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if s := stat(2); c.name == "kernel" && (s == nil || s.flags&kernelThread == 0) {
				t.Skip("no kernel threads are to be seen here")
			}
			j := newJob(t, "counter")
			j.launch()
			if err := os.Chmod(j.dir, 0o1777); err != nil {
				t.Fatal(err)
			}
			ctx := filepath.Join(j.dir, "ctx")
			p := j.start("cr_checkpoint", []string{filepath.Join(bin, "cr_checkpoint"), "-f", ctx, strconv.Itoa(c.id(j))}, c.cred)
			end := j.wait(p)
			stderr, _ := os.ReadFile(p.stderr)
			if c.cred != nil && end == syscall.WaitStatus(unix.ENOSYS)<<8 {
				// Ordinary users cannot use CRIU here at all.
				c.text = "Checkpoint failed: support missing from kernel\n"
			} else if end != syscall.WaitStatus(c.status<<8) {
				t.Errorf("cr_checkpoint: %s, want exit status %d", describe(end), c.status)
			}
			if !strings.Contains(string(stderr), c.text) {
				t.Errorf("stderr is %q, without %q", stderr, c.text)
			}
			for _, pattern := range []string{"/ctx*", "/.ctx*"} {
				if names, _ := filepath.Glob(j.dir + pattern); len(names) > 0 {
					t.Errorf("left: %v", names)
				}
			}
			j.advances()
			j.finish()
		})
	}
}

// freePid is a pid that nobody has, and that is not the next in turn either.
func freePid() int {
	used := map[int]bool{}
	for _, pid := range pids() {
		used[pid] = true
	}
	for pid := 32000; ; pid-- {
		if !used[pid] {
			return pid
		}
	}
}

// TestKilledChild: the first thing that a job does is to kill a child with threads.
func TestKilledChild(t *testing.T) {
	j := newCaller(t)
	j.write("child.py", `
import threading, time
for _ in range(200):
    threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()
open("ready", "w").close()
time.sleep(3600)
`)
	j.write("go.sh", `exec 2>/dev/null
/usr/bin/python3 child.py &
until [ -e ready ]; do sleep 0.05; done
: >begun
until [ -e go ]; do :; done
kill -KILL $!
wait $!
[ $? = 137 ] && exit 7
`)
	p := j.run("/bin/bash", "go.sh")
	j.until("the script to wait", func() bool { return j.exists("begun") })
	ctx := j.savedAndKilled(p)
	j.write("go", "")
	for range 5 {
		j.ends(j.again(ctx), 7, "", "")
	}
	j.nothing()
}
