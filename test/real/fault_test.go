//go:build real

package real

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"blcr-cli/test/harness"

	"golang.org/x/sys/unix"
)

// What these tests have in common: something goes wrong, and then there is a
// clear error, nothing is lost, nothing is left behind, and the process that was
// to be saved has not noticed.

// victim is a job with an old context, which nothing may happen to.
type victim struct {
	*job
	ctx string
	old []byte
}

// newVictim starts a program with 64 MiB of memory that it checks, and saves it.
func newVictim(t *testing.T) *victim {
	t.Helper()
	engine(t)
	v := &victim{job: newJob(t, "big")}
	v.launch()
	// In a directory with nothing else.
	if err := os.Mkdir(filepath.Join(v.dir, "to"), 0o755); err != nil {
		t.Fatal(err)
	}
	v.ctx = filepath.Join(v.dir, "to", "ctx")
	v.checkpoint(v.ctx, strconv.Itoa(v.pid))
	v.note()
	return v
}

// note remembers the context as it is.
func (v *victim) note() {
	v.t.Helper()
	var err error
	if v.old, err = os.ReadFile(v.ctx); err != nil {
		v.t.Fatal(err)
	}
}

// intact checks that a failed checkpoint has left no trace. Others are files that
// may be beside the context.
func (v *victim) intact(others ...string) {
	v.t.Helper()
	v.until("processes to be gone", func() bool {
		return len(v.helpers()) == 0
	})
	if text, err := os.ReadFile(v.ctx); err != nil || !bytes.Equal(text, v.old) {
		v.t.Errorf("the old context is another: %v", err)
	}
	entries, _ := os.ReadDir(filepath.Dir(v.ctx))
	for _, e := range entries {
		if e.Name() != "ctx" && !slices.Contains(others, e.Name()) {
			v.t.Errorf("left: %s", e.Name())
		}
	}
	v.unharmed()
}

// unharmed checks that the program goes on, and nobody traces it.
func (v *victim) unharmed() {
	v.t.Helper()
	v.advances()
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", v.pid))
	if !strings.Contains(string(status), "\nTracerPid:\t0\n") {
		v.t.Errorf("the program is traced")
	}
}

// helpers are the processes of the job's commands.
func (j *job) helpers() []int {
	var found []int
	for _, pid := range pids() {
		if !j.descends(pid) && belongs(pid, j.marker()) {
			found = append(found, pid)
		}
	}
	return found
}

// descends reports whether a process is the job's root or descends from it.
func (j *job) descends(pid int) bool {
	for s := stat(pid); pid != j.pid; s = stat(pid) {
		if s == nil || s.ppid == 0 {
			return false
		}
		pid = s.ppid
	}
	return true
}

// workersGone waits until nobody is left of a command that was killed.
func (j *job) workersGone() {
	j.t.Helper()
	for range 2 { // one that is just being executed shows no environment
		j.until("the worker to end", func() bool { return len(j.helpers()) == 0 })
		time.Sleep(50 * time.Millisecond)
	}
}

// forgetScratch removes what a command that was killed has left for a later run to
// remove, which does so only after a minute.
func (j *job) forgetScratch() {
	names, _ := filepath.Glob(j.tmp + "/blcr-cli-*")
	for _, name := range names {
		os.RemoveAll(name)
	}
}

// fails checks how a command has failed; its stderr has to be want, or to begin
// so where want ends in "...".
func (j *job) fails(p *process, status int, want string) {
	j.t.Helper()
	end := j.wait(p)
	stderr, _ := os.ReadFile(p.stderr)
	if end != syscall.WaitStatus(status<<8) {
		j.t.Errorf("%s: %s, want exit status %d", p.name, describe(end), status)
	}
	begin, open := strings.CutSuffix(want, "...")
	if string(stderr) != want && (!open || !strings.HasPrefix(string(stderr), begin)) {
		j.t.Errorf("%s says %q, want %q", p.name, stderr, want)
	}
}

// shell runs a command by a shell; $0 is the job's pid, $1 its context.
func (v *victim) shell(script string) *process {
	v.t.Helper()
	return v.start("sh", []string{"/bin/sh", "-c", `PATH="` + bin + `:$PATH"; ` + script, strconv.Itoa(v.pid), v.ctx}, nil)
}

// TestFaultFull: the new context does not fit.
func TestFaultFull(t *testing.T) {
	v := newVictim(t)
	small := filepath.Join(v.dir, "small")
	if err := os.Mkdir(small, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("small", small, "tmpfs", 0, "size=20m"); err != nil {
		t.Skip(err)
	}
	defer unix.Unmount(small, unix.MNT_DETACH)
	ctx := filepath.Join(small, "ctx")
	if err := os.WriteFile(ctx, []byte("old"), 0o400); err != nil {
		t.Fatal(err)
	}
	const full = "Checkpoint failed: No space left on device\n- writing '"
	for _, args := range [][]string{nil, {"--kill"}, {"--term"}, {"--backup"}, {"-S", "10"}} {
		v.fails(v.command("cr_checkpoint", append(args, "-f", ctx, strconv.Itoa(v.pid))...), 28, full+ctx[:len(ctx)-3]+".ctx.tmp': No space left on device\n- the file system "+small+" (tmpfs) has 20 MiB free, of 20 MiB, and the context takes some 6...")
		if text, _ := os.ReadFile(ctx); string(text) != "old" {
			t.Errorf("the old file is %q", text)
		}
		if entries, _ := os.ReadDir(small); len(entries) != 1 {
			t.Errorf("left: %v", entries)
		}
		v.intact()
	}
	v.fails(v.command("cr_checkpoint", "--kill", "-d", filepath.Join(small, "dir"), strconv.Itoa(v.pid)), 28, "Checkpoint failed: No space left on device\n...")
	if entries, _ := os.ReadDir(small); len(entries) != 1 {
		t.Errorf("left: %v", entries)
	}
	v.intact()
	v.fails(v.shell(`exec cr_checkpoint --kill -F 1 $0 >/dev/full`), 28, full+"<fd1>': No space left on device\n")
	v.intact()
	v.finish()
}

// TestFaultDestination: other destinations that end too early.
func TestFaultDestination(t *testing.T) {
	v := newVictim(t)
	const large = "Checkpoint failed: File too large\n..."
	for _, option := range []string{"-f", "-d"} {
		check := v.shell(`ulimit -f 10000; exec cr_checkpoint --check ` + option + ` "$1.new" $0`)
		if end := v.wait(check); end != 27<<8 {
			t.Errorf("%s --check: %s", option, describe(end))
		}
	}
	v.fails(v.shell(`ulimit -f 10000; exec cr_checkpoint --kill -f "$1" $0`), 27, large)
	v.intact()
	v.fails(v.shell(`ulimit -f 10000; exec cr_checkpoint --kill -d "$1.dir" $0`), 27, large)
	v.intact()
	v.fails(v.shell(`{ cr_checkpoint --kill -F 1 $0; echo $? >status; } | head -c 100 >/dev/null; exit $(cat status)`), 32, "Checkpoint failed: Broken pipe\n- writing '<fd1>': Broken pipe\n")
	v.intact()
	v.fails(v.shell(`mkfifo fifo; head -c 1000000 fifo >/dev/null & exec cr_checkpoint --clobber --kill -f fifo $0`), 32, "Checkpoint failed: Broken pipe\n- writing 'fifo': Broken pipe\n")
	v.intact()
	v.fails(v.command("cr_checkpoint", "--kill", "-F", "77", strconv.Itoa(v.pid)), 22, "Checkpoint failed: Invalid argument\n- descriptor 77 is not open\n")
	v.intact()
	v.finish()
}

// TestFaultTime: the time limit, with a reader that does not read.
func TestFaultTime(t *testing.T) {
	v := newVictim(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	begin := time.Now()
	p := v.start("cr_checkpoint", []string{filepath.Join(bin, "cr_checkpoint"), "--time", "1", "--kill", "-F", "3", strconv.Itoa(v.pid)}, nil, w.Fd())
	w.Close()
	v.fails(p, 62, "Checkpoint failed: Timer expired\n")
	if took := time.Since(begin); took > 4*time.Second {
		t.Errorf("it takes %v", took)
	}
	v.intact()

	// With a criu that somebody has stopped.
	p = v.command("cr_checkpoint", "--time", "1", "-f", v.ctx, strconv.Itoa(v.pid))
	var criu int
	v.until("criu to trace the program", func() bool { criu = v.tracer(); return criu != 0 })
	if err := syscall.Kill(criu, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	v.fails(p, 62, "Checkpoint failed: Timer expired\n")
	v.intact()
	v.finish()
}

// tracer is who traces the program, 0 for nobody.
func (j *job) tracer() int {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", j.pid))
	_, rest, _ := strings.Cut(string(status), "\nTracerPid:\t")
	line, _, _ := strings.Cut(rest, "\n")
	pid, _ := strconv.Atoi(line)
	return pid
}

// TestFaultScratch: a place for temporary files that is none does not matter, and
// what killed commands have left there goes.
func TestFaultScratch(t *testing.T) {
	v := newVictim(t)
	for _, dir := range []string{"/nonexistent/x", "/proc", "/dev/null", strings.Repeat("/long", 30)} {
		p := v.shell("TMPDIR=" + dir + ` exec cr_checkpoint -f "$1" $0`)
		v.silent(p, v.wait(p))
	}
	make := func(name string, age time.Duration) string {
		path := filepath.Join(v.tmp, name)
		then := time.Now().Add(-age)
		for _, err := range []error{os.Mkdir(path, 0o700), os.WriteFile(filepath.Join(path, "x"), nil, 0o600), os.Chtimes(path, then, then)} {
			if err != nil {
				t.Fatal(err)
			}
		}
		return path
	}
	stale, used := make("blcr-cli-1", time.Hour), make("blcr-cli-2", time.Hour)
	fresh, other := make("blcr-cli-3", 0), make("blcr-cli-x", time.Hour)
	lock, err := os.Open(used)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	v.checkpoint(v.ctx, strconv.Itoa(v.pid))
	lock.Close()
	if _, err := os.Stat(stale); err == nil {
		t.Errorf("%s is still there", stale)
	}
	for _, path := range []string{used, fresh, other} {
		if err := os.Remove(filepath.Join(path, "x")); err != nil {
			t.Error(err)
		}
		os.Remove(path)
	}
	v.note()
	v.intact()
	v.finish()
}

// TestFaultSignals ends cr_checkpoint by a signal at any moment.
func TestFaultSignals(t *testing.T) {
	v := newVictim(t)
	for _, sig := range []syscall.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT} {
		for n := range 12 {
			p := v.command("cr_checkpoint", "-f", v.ctx, strconv.Itoa(v.pid))
			time.Sleep(rand.N(200 * time.Millisecond))
			to := []int{p.pid}
			switch n % 3 {
			case 1: // as Ctrl-C does
				to = []int{-p.pid}
			case 2: // as a batch system does: criu, too
				to = tree(p.pid)
			}
			for _, pid := range to {
				_ = syscall.Kill(pid, sig)
			}
			end := v.wait(p)
			stderr, _ := os.ReadFile(p.stderr)
			switch {
			case sig == unix.SIGQUIT && bytes.HasPrefix(stderr, []byte("SIGQUIT: quit\n")) && !bytes.Contains(stderr, []byte("main.main(")):
				// In the first moments it is the Go runtime that answers.
			case len(stderr) > 0:
				t.Errorf("%v: %s, and says: %s", sig, describe(end), stderr)
			case end == 0:
				v.note()
			case !end.Signaled() || end.Signal() != sig:
				t.Errorf("%v: cr_checkpoint ends so: %s", sig, describe(end))
			}
			v.intact()
			if left, _ := os.ReadDir(v.tmp); len(left) > 0 || t.Failed() {
				t.Fatalf("%v, round %d; left in TMPDIR: %v", sig, n, left)
			}
		}
	}
	v.finish()
}

// newPidsGroup makes a control group, by its directory, and returns what sets how many threads
// it allows. The test is skipped where there is no hierarchy for that.
func newPidsGroup(t *testing.T) (group string, allow func(most int)) {
	t.Helper()
	group = fmt.Sprintf("/sys/fs/cgroup/pids/realtest.%d.%s", os.Getpid(), t.Name())
	if err := os.Mkdir(group, 0o755); err != nil {
		t.Skipf("no control group for pids here: %v", err)
	}
	t.Cleanup(func() { _ = os.Remove(group) })
	return group, func(most int) {
		t.Helper()
		if err := os.WriteFile(group+"/pids.max", []byte(strconv.Itoa(most)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestFaultThreads: the Go runtime ends the process that does the work where it may start no
// thread. Nothing is left behind.
func TestFaultThreads(t *testing.T) {
	group, allow := newPidsGroup(t)
	v := newVictim(t)
	for most := 5; most < 14; most++ {
		allow(most)
		if end := v.wait(v.shell(`echo $$ >` + group + `/cgroup.procs; exec cr_checkpoint -f "$1" $0`)); end == 0 {
			v.note()
		}
		v.workersGone()
		v.intact()
		v.forgetScratch()
	}
	v.finish()
}

// TestFaultKilled kills parts of cr_checkpoint at any moment. (Not criu, which
// may be at work in the program just then.)
func TestFaultKilled(t *testing.T) {
	v := newVictim(t)
	for n := range 16 {
		p := v.command("cr_checkpoint", "-f", v.ctx, strconv.Itoa(v.pid))
		time.Sleep(rand.N(200 * time.Millisecond))
		kids := childrenOf(p.pid)
		for _, pid := range kids {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		if n%2 == 1 {
			_ = syscall.Kill(p.pid, syscall.SIGKILL)
		}
		end := v.wait(p)
		if n%2 == 0 && end != 0 {
			v.fails(p, 1, "child killed by signal 9 (Killed)\n...")
		}
		v.workersGone()
		// It is the old one or the new one, and complete.
		v.note()
		if at := len(v.old) - 64; at < 64<<20 || !bytes.HasPrefix(v.old[at:], []byte("\x00END\r\n\x1a\n")) {
			t.Fatalf("round %d: what is left of the context, %d bytes, is not complete", n, len(v.old))
		}
		v.intact(".ctx.tmp", ".ctx.old") // of which the next run takes care
		v.forgetScratch()
	}
	v.checkpoint(v.ctx, strconv.Itoa(v.pid))
	v.note()
	v.intact()
	v.finish()
}

// TestFaultKilledCriu kills criu at any moment of a dump, as the administrator may. The
// program must not die of SIGPIPE, neither by its memory nor by a message of criu's code
// in it. (It may die of SIGTRAP: see DIFFERENCES.md.)
func TestFaultKilledCriu(t *testing.T) {
	v := newVictim(t)
	killed, lost, pipes := 0, 0, 0
	for round := range 60 {
		p := v.command("cr_checkpoint", "--nosync", "-f", v.ctx, strconv.Itoa(v.pid))
		criu := 0
		v.until("criu to trace the program", func() bool {
			select {
			case <-p.ended:
				return true
			default:
				criu = v.tracer()
				return criu != 0
			}
		})
		// Most of the dump is a transfer of memory.
		time.Sleep(rand.N(40 * time.Millisecond))
		if criu != 0 && v.tracer() == criu && syscall.Kill(criu, syscall.SIGKILL) == nil {
			killed++
		}
		v.wait(p)
		select {
		case <-v.proc.ended:
		case <-time.After(50 * time.Millisecond):
			v.note()
			v.unharmed()
			continue
		}
		switch {
		case v.proc.end.Signaled() && v.proc.end.Signal() == unix.SIGTRAP:
			lost++
		case v.proc.end.Signaled() && v.proc.end.Signal() == unix.SIGPIPE:
			pipes++
		default:
			t.Fatalf("round %d: the program has ended: %s", round, describe(v.proc.end))
		}
		for _, name := range []string{"ready", "beat"} {
			os.Remove(filepath.Join(v.dir, name))
		}
		v.launch()
	}
	const counts = "criu was killed %d times; the program ended %d times of SIGTRAP, %d times of SIGPIPE"
	t.Logf(counts, killed, lost, pipes)
	if killed < 20 || lost > killed/4 || pipes > killed/30 {
		t.Errorf(counts, killed, lost, pipes)
	}
	v.checkpoint(v.ctx, strconv.Itoa(v.pid))
	v.note()
	v.intact()
	v.finish()
}

// TestFaultSuspended: Ctrl-Z takes effect when the program runs on, and not while it is
// frozen.
func TestFaultSuspended(t *testing.T) {
	v := newVictim(t)
	for _, again := range []bool{false, true} { // continued before it takes effect
		p := v.command("cr_checkpoint", "-f", v.ctx, strconv.Itoa(v.pid))
		v.until("criu to trace the program", func() bool { return v.tracer() != 0 })
		_ = syscall.Kill(-p.pid, unix.SIGTSTP)
		if again {
			_ = syscall.Kill(-p.pid, unix.SIGCONT)
		} else {
			v.until("criu to let go", func() bool { return v.tracer() == 0 })
			v.advances()
			v.until("cr_checkpoint to be stopped", func() bool { s := stat(p.pid); return s != nil && s.state == 'T' })
			_ = syscall.Kill(-p.pid, unix.SIGCONT)
			v.until("cr_checkpoint to end", func() bool {
				_ = syscall.Kill(-p.pid, unix.SIGCONT) // its other process may stop only now
				select {
				case <-p.ended:
					return true
				default:
					return false
				}
			})
		}
		v.silent(p, v.wait(p))
		v.note()
		v.intact()
	}
	v.finish()
}

// TestFaultTwice: two checkpoints of one program at the same time.
func TestFaultTwice(t *testing.T) {
	v := newVictim(t)
	one := v.command("cr_checkpoint", "-f", v.ctx, strconv.Itoa(v.pid))
	criu := 0
	v.until("criu to trace the program", func() bool { criu = v.tracer(); return criu != 0 })
	// It does not end before the others have begun.
	if err := unix.Kill(criu, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	same := v.command("cr_checkpoint", "-f", v.ctx, strconv.Itoa(v.pid))
	other := v.command("cr_checkpoint", "-f", v.ctx+"2", strconv.Itoa(v.pid))
	v.fails(same, 16, "Unable to open file '"+filepath.Join(v.dir, "to")+"/.ctx.tmp': Device or resource busy\nFailed to open checkpoint file '"+v.ctx+"'\n")
	v.fails(other, 16, fmt.Sprintf("Checkpoint failed: Device or resource busy\n- process %d is being saved ...", v.pid))
	if err := unix.Kill(criu, unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	v.silent(one, v.wait(one))
	v.note()
	v.intact()
	v.finish()
}

// TestFaultCriu: a criu that is none.
func TestFaultCriu(t *testing.T) {
	v := newVictim(t)
	// It passes for one until it is to do something.
	write := func(name, does string) string {
		path := filepath.Join(v.dir, name)
		script := "#!/bin/sh\ncase $1 in dump|restore) ;; *) echo Version: 4.2; exit 0;; esac\n" + does
		if err := harness.WriteProgram(path, []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, c := range []struct {
		does   string
		status int
		text   string
	}{
		{"exit 0", 5, "Input/output error\n- criu failed with exit status 0 and does not say why\n"},
		{"exit 3", 5, "Input/output error\n- criu failed with exit status 3 and does not say why\n"},
		{"head -c 1000000 /dev/urandom; exit 0", 5, "Input/output error\n- criu failed with exit status 0 and does not say why\n"},
		{"echo 'Error (criu/x.c:1): Cannot: Permission denied'; exit 1", 13, "Permission denied\n- criu: Cannot: Permission denied\n"},
		{"kill -9 $$", 5, "Input/output error\n- criu was killed by signal 9\n"},
	} {
		criu := write("criu"+strconv.Itoa(c.status), c.does)
		v.fails(v.shell("CR_CRIU="+criu+` exec cr_checkpoint --kill -f "$1" $0`), c.status, "Checkpoint failed: "+c.text)
		v.intact()
		v.fails(v.shell("CR_CRIU="+criu+` exec cr_restart --no-restore-pid "$1"`), c.status, "Restart failed: "+c.text)
		v.intact()
	}
	v.fails(v.shell("CR_CRIU="+write("sleeps", "exec sleep 1000")+` exec cr_checkpoint --time 1 --kill -f "$1" $0`), 62, "Checkpoint failed: Timer expired\n")
	for _, criu := range []string{"/nonexistent", "/bin/false"} {
		v.fails(v.shell("CR_CRIU="+criu+` exec cr_checkpoint --kill -f "$1" $0`), 38, "Checkpoint failed: support missing from kernel\n- CR_CRIU="+criu+": ...")
		v.fails(v.shell("CR_CRIU="+criu+` exec cr_restart "$1"`), 255,
			"Failed cr_init(): -1\n- this context was written by the criu engine, which cannot be used here\n- CR_CRIU="+criu+": ...")
	}
	v.intact()
	v.finish()
}

// TestFaultFewFilesSave: cr_checkpoint may open too few files for CRIU, at all or for this job,
// which --check foretells.
func TestFaultFewFilesSave(t *testing.T) {
	j := newCaller(t)
	j.write("job.py", `
import time
files = [open("/dev/null") for _ in range(200)]
open("ready", "w").close()
while True:
    time.sleep(3600)
`)
	p := j.run("/usr/bin/python3", "job.py")
	j.until("the program to be ready", func() bool { return j.exists("ready") })
	pid := strconv.Itoa(p.pid)
	for _, c := range []struct {
		limit int
		said  string
	}{
		{15, "Failed cr_init(): Too many open files\n- a process may have 15 files open here (ulimit -n), at most 15 (ulimit -Hn)\n..."},
		{150, "Checkpoint failed: Too many open files\n- process " + pid + " (python3) has descriptor 202 open, and criu needs a limit of 256 open files to restore that, where it can have 150 here\n..."},
	} {
		limited := fmt.Sprintf(`ulimit -n %d; exec setpriv --bounding-set -sys_resource --inh-caps -all "$0" "$@"`, c.limit)
		with := func(args ...string) *process {
			return j.start("cr_checkpoint", append([]string{"/bin/sh", "-c", limited, filepath.Join(bin, "cr_checkpoint")}, args...), nil)
		}
		j.fails(with("-f", j.dir+"/ctx", pid), 24, c.said)
		if end := j.wait(with("--check", pid)); end != 24<<8 {
			t.Errorf("ulimit -n %d: --check: %s, want exit status 24", c.limit, describe(end))
		}
		if _, err := os.Lstat(j.dir + "/ctx"); !os.IsNotExist(err) {
			t.Errorf("ulimit -n %d: a context is left: %v", c.limit, err)
		}
	}
	j.killAll(p)
}

// TestFewThreads: where a checkpoint or a restart may start too few threads it is refused before
// anything is begun, which --check foretells. The Go runtime ended the program with a trace, in the
// midst of it.
func TestFewThreads(t *testing.T) {
	group, allow := newPidsGroup(t)
	j, ctx := newSleeper(t)
	within := func(command string, args ...string) *process {
		return j.start(command, append([]string{"/bin/sh", "-c", `echo $$ >` + group + `/cgroup.procs; exec "$0" "$@"`, filepath.Join(bin, command)}, args...), nil)
	}
	p := j.run("/bin/sleep", "1000")
	pid := strconv.Itoa(p.pid)
	for _, most := range []int{9, 11, 13, 15, 17} {
		allow(most)
		for _, args := range [][]string{{"--check"}, {"-f", j.dir + "/few"}} {
			if end := j.wait(within("cr_checkpoint", append(args, pid)...)); end != 11<<8 {
				t.Errorf("%d threads: cr_checkpoint %s: %s, want exit status 11", most, args[0], describe(end))
			}
		}
		if left, _ := filepath.Glob(j.dir + "/*few*"); left != nil {
			t.Errorf("%d threads: left: %v", most, left)
		}
		j.fails(within("cr_restart", ctx), 11, "Restart failed: Resource temporarily unavailable\n...")
		if end := j.wait(within("cr_info", "--check", ctx)); end != 1<<8 {
			t.Errorf("%d threads: cr_info --check: %s, want exit status 1", most, describe(end))
		}
	}
	allow(60)
	if end := j.wait(within("cr_checkpoint", "--check", pid)); end != 0 {
		t.Errorf("60 threads: cr_checkpoint --check: %s", describe(end))
	}
	j.killAll(p)
}
