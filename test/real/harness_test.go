//go:build real

package real

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
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

// patience is how long anything may take.
const patience = harness.Patience

// process is a child of this one.
type process struct {
	name           string
	pid            int
	stdout, stderr string // files
	end            syscall.WaitStatus
	ended          chan struct{} // closed when end is known
}

// job is one of the programs, running or saved, and everything about it.
type job struct {
	t    *testing.T
	name string
	dir  string // the program's directory
	tmp  string // TMPDIR of the commands
	args []string
	with []string            // options of cr_checkpoint, of every one
	pid  int                 // of its root, the same all its life
	cred *syscall.Credential // of the program and the commands; nil for this process's
	env  []string            // more for them

	proc    *process // the root if it was not restarted, else its cr_restart
	comm    string
	cmdline []byte
	runs    int
}

// marker finds all processes of a job: it is in their environment.
func (j *job) marker() string { return "REALTEST_JOB=" + j.dir }

func newJob(t *testing.T, name string) *job {
	t.Helper()
	j := &job{t: t, name: name, dir: filepath.Join(scratch, strings.ReplaceAll(t.Name(), "/", "_"))}
	for i := 0; ; i++ {
		dir := fmt.Sprintf("%s.%d", j.dir, i)
		if err := os.Mkdir(dir, 0o755); err == nil {
			j.dir = dir
			break
		} else if !errors.Is(err, fs.ErrExist) {
			t.Fatal(err)
		}
	}
	j.tmp = j.dir + ".tmp"
	if err := os.Mkdir(j.tmp, 0o1777); err != nil {
		t.Fatal(err)
	}
	switch {
	case strings.HasSuffix(name, ".sh"):
		j.args = []string{"/bin/sh", absolute("programs/" + name), j.dir}
	case strings.HasSuffix(name, ".py"):
		j.args = []string{"/usr/bin/python3", absolute("programs/" + name), j.dir}
	default:
		j.args = []string{filepath.Join(progs, name), j.dir}
	}
	t.Cleanup(func() {
		if t.Failed() {
			j.explain()
		}
		if left := killMarked(j.marker(), time.Second); len(left) > 0 && !t.Failed() {
			t.Errorf("processes are left: %v", left)
		}
		if left, _ := os.ReadDir(j.tmp); len(left) > 0 {
			t.Errorf("left in TMPDIR: %v", left)
		}
		os.RemoveAll(j.dir)
		os.RemoveAll(j.tmp)
	})
	return j
}

func absolute(path string) string {
	abs, err := filepath.Abs(path)
	if err != nil {
		panic(err)
	}
	return abs
}

// explain says what there is to be said about a failure.
func (j *job) explain() {
	names, _ := filepath.Glob(j.dir + "/*")
	for _, name := range names {
		base := filepath.Base(name)
		if base == "wrong" || strings.HasPrefix(base, "stdout") || strings.HasPrefix(base, "stderr") {
			if text, err := os.ReadFile(name); err == nil && len(text) > 0 {
				j.t.Logf("%s: %s", base, bytes.TrimSpace(text))
			}
		}
	}
}

// start starts a program as a child of this process, in its own process group,
// with no descriptor leading outside. extra are descriptors from 3 on.
func (j *job) start(name string, args []string, cred *syscall.Credential, extra ...uintptr) *process {
	j.t.Helper()
	j.runs++
	if cred == nil {
		cred = j.cred
	}
	p := &process{
		name:   name,
		stdout: fmt.Sprintf("%s/stdout.%s.%d", j.dir, name, j.runs),
		stderr: fmt.Sprintf("%s/stderr.%s.%d", j.dir, name, j.runs),
		ended:  make(chan struct{}),
	}
	files := []uintptr{}
	for _, f := range []struct {
		name string
		mode int
	}{{"/dev/null", os.O_RDONLY}, {p.stdout, os.O_WRONLY | os.O_CREATE | os.O_TRUNC}, {p.stderr, os.O_WRONLY | os.O_CREATE | os.O_TRUNC}} {
		file, err := os.OpenFile(f.name, f.mode, 0o666)
		if err != nil {
			j.t.Fatal(err)
		}
		defer file.Close()
		if cred != nil && f.mode != os.O_RDONLY {
			// The file of that user, who opens it again.
			_ = file.Chown(int(cred.Uid), int(cred.Gid))
		}
		files = append(files, file.Fd())
	}
	env := slices.DeleteFunc(os.Environ(), func(s string) bool {
		name, _, _ := strings.Cut(s, "=")
		return name == "TMPDIR" || name == "CR_ENGINE" ||
			slices.ContainsFunc(j.env, func(ours string) bool { return strings.HasPrefix(ours, name+"=") })
	})
	children.Lock()
	pid, err := syscall.ForkExec(args[0], args, &syscall.ProcAttr{
		Dir:   j.dir,
		Env:   slices.Concat(env, []string{j.marker(), "TMPDIR=" + j.tmp}, j.env),
		Files: append(files, extra...),
		Sys:   &syscall.SysProcAttr{Setpgid: true, Credential: cred},
	})
	if err == nil {
		p.pid = pid
		children.of[pid] = p
	}
	children.Unlock()
	if err != nil {
		j.t.Fatalf("%s: %v", args[0], err)
	}
	select {
	case started <- struct{}{}:
	default:
	}
	return p
}

// wait waits for the end of a process.
func (j *job) wait(p *process) syscall.WaitStatus {
	j.t.Helper()
	select {
	case <-p.ended:
		return p.end
	case <-time.After(patience):
		j.t.Fatalf("%s (pid %d) does not end\n%s", p.name, p.pid, j.processes())
		panic("not reached")
	}
}

func wchan(pid int) string {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stack", pid))
	return strings.Join(strings.Fields(string(text)), " ")
}

// until waits for something to become true.
func (j *job) until(what string, is func() bool) {
	j.t.Helper()
	for begin := time.Now(); !is(); time.Sleep(2 * time.Millisecond) {
		if j.exists("wrong") {
			j.t.Fatalf("waiting for %s: the program has found something wrong", what)
		}
		if time.Since(begin) > patience {
			j.t.Fatalf("waited %v in vain for %s\n%s", patience, what, j.processes())
		}
	}
}

// processes describes those of the job and its tools, for when one does not go on.
func (j *job) processes() string {
	var lines strings.Builder
	for _, pid := range pids() {
		s := stat(pid)
		if s == nil || pid != j.pid && !belongs(pid, j.marker()) {
			continue
		}
		status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		fmt.Fprintf(&lines, "%d %q: %c, child of %d, in %s\n", pid, comm(pid), s.state, s.ppid, wchan(pid))
		for _, line := range strings.Split(string(status), "\n") {
			if strings.HasPrefix(line, "Sig") || strings.HasPrefix(line, "ShdPnd") || strings.HasPrefix(line, "TracerPid") {
				fmt.Fprintf(&lines, "\t%s\n", line)
			}
		}
	}
	return lines.String()
}

func (j *job) exists(name string) bool {
	_, err := os.Lstat(filepath.Join(j.dir, name))
	return err == nil
}

func (j *job) write(name, text string) {
	j.t.Helper()
	if err := harness.WriteProgram(filepath.Join(j.dir, name), []byte(text), 0o644); err != nil {
		j.t.Fatal(err)
	}
}

func (j *job) read(name string) string {
	text, _ := os.ReadFile(filepath.Join(j.dir, name))
	return string(text)
}

// beat is the program's counter.
func (j *job) beat() int {
	n, _ := strconv.Atoi(strings.TrimSpace(j.read("beat")))
	return n
}

// rewind makes the counter that is seen 0, for a restart to an earlier one. The
// file stays as long as it is: it may have been open.
func (j *job) rewind() {
	j.t.Helper()
	j.write("beat", fmt.Sprintf("%020d\n", 0))
}

// launch starts the program and waits until it is ready; it returns how many
// kinds of damage it knows.
func (j *job) launch() int {
	j.t.Helper()
	j.proc = j.start("program", j.args, nil)
	j.pid = j.proc.pid
	j.until("the program to be ready", func() bool {
		select {
		case <-j.proc.ended:
			j.t.Fatalf("the program ends at its start: %s", describe(j.proc.end))
		default:
		}
		return j.exists("ready")
	})
	var pid, kinds int
	if _, err := fmt.Sscan(j.read("ready"), &pid, &kinds); err != nil || pid != j.pid {
		j.t.Fatalf("the program's file ready is %q, its pid %d", j.read("ready"), j.pid)
	}
	j.advances()
	j.comm, j.cmdline = comm(j.pid), cmdline(j.pid)
	return kinds
}

// advances waits until the program has gone on some rounds.
func (j *job) advances() {
	j.t.Helper()
	from := j.beat()
	j.until("the program to go on", func() bool {
		select {
		case <-j.proc.ended:
			j.t.Fatalf("%s ends: %s", j.proc.name, describe(j.proc.end))
		default:
		}
		return j.beat() >= from+2
	})
}

// checkpoint runs cr_checkpoint, which has to succeed without a word.
func (j *job) checkpoint(ctx string, args ...string) {
	j.t.Helper()
	p := j.command("cr_checkpoint", slices.Concat(j.with, args, []string{"-f", ctx})...)
	end := j.wait(p)
	// What a connection's timers send in just that moment may be sent again in the next.
	for tries := 0; tries < 5 && status(end) == 16 && strings.Contains(j.read(filepath.Base(p.stderr)), "in a TCP connection"); tries++ {
		p = j.command("cr_checkpoint", slices.Concat(j.with, args, []string{"-f", ctx})...)
		end = j.wait(p)
	}
	j.silent(p, end)
	st, err := os.Lstat(ctx)
	if err != nil {
		j.t.Fatal(err)
	}
	if st.Mode() != 0o400 {
		j.t.Errorf("mode of the context is %v", st.Mode())
	}
	if names, _ := filepath.Glob(filepath.Dir(ctx) + "/." + filepath.Base(ctx) + "*"); len(names) > 0 {
		j.t.Errorf("left beside the context: %v", names)
	}
}

func (j *job) command(name string, args ...string) *process {
	j.t.Helper()
	return j.start(name, append([]string{filepath.Join(bin, name)}, args...), nil)
}

// silent checks that a command has succeeded and said nothing.
func (j *job) silent(p *process, end syscall.WaitStatus) {
	j.t.Helper()
	stdout, _ := os.ReadFile(p.stdout)
	stderr, _ := os.ReadFile(p.stderr)
	if end != 0 {
		j.t.Fatalf("%s (pid %d): %s\n%s", p.name, p.pid, describe(end), stderr)
	}
	if len(stdout)+len(stderr) > 0 {
		j.t.Fatalf("%s is not silent:\nstdout: %s\nstderr: %s", p.name, stdout, stderr)
	}
}

// killed waits until the job has gone, all of it, so that its pids are free.
func (j *job) killed(pids []int) {
	j.t.Helper()
	if end := j.wait(j.proc); !end.Signaled() || end.Signal() != unix.SIGKILL {
		j.t.Fatalf("killed after the checkpoint, %s ends so: %s", j.proc.name, describe(end))
	}
	j.until("the job's processes to be gone", func() bool {
		return !slices.ContainsFunc(pids, func(pid int) bool { return stat(pid) != nil })
	})
}

// restart runs cr_restart in the background and waits until the job goes on.
func (j *job) restart(ctx string, args ...string) {
	j.t.Helper()
	before := j.beat()
	keepClear(j.pid)
	args = append(args, ctx)
	j.proc = j.command("cr_restart", args...)
	j.advances()
	if j.beat() < before {
		j.t.Errorf("the counter goes back from %d to %d", before, j.beat())
	}
	j.inspect(args)
}

// inspect looks at the restarted job from outside.
func (j *job) inspect(args []string) {
	j.t.Helper()
	root := stat(j.pid)
	if root == nil {
		j.t.Fatalf("there is no pid %d", j.pid)
	}
	if root.ppid != j.proc.pid {
		j.t.Errorf("parent of the job is %d, cr_restart is %d", root.ppid, j.proc.pid)
	}
	if got := comm(j.proc.pid); got != "cr_restart" {
		j.t.Errorf("cr_restart's name is %q", got)
	}
	// What did the restoring may have a moment to end.
	j.until("the job to be cr_restart's only child", func() bool {
		return slices.Equal(childrenOf(j.proc.pid), []int{j.pid})
	})
	if got := comm(j.pid); got != j.comm {
		j.t.Errorf("the job's name is %q, was %q", got, j.comm)
	}
	if got := cmdline(j.pid); !bytes.Equal(got, j.cmdline) {
		j.t.Errorf("the job's command line is %q, was %q", got, j.cmdline)
	}
	// In cr_restart's process group and session, unless it was to be in its own.
	if want := stat(j.proc.pid); want != nil {
		if root.session != want.session {
			j.t.Errorf("session of the job is %d, of cr_restart %d", root.session, want.session)
		}
		group := want.group
		if slices.Contains(args, "--restore-pgid") {
			group = j.pid
		}
		if root.group != group {
			j.t.Errorf("process group of the job is %d, want %d", root.group, group)
		}
	}
}

// finish has the program check everything and end.
func (j *job) finish() {
	j.t.Helper()
	j.write("finish", "")
	end := j.wait(j.proc)
	stderr, _ := os.ReadFile(j.proc.stderr)
	if !end.Exited() || end.ExitStatus() != 42 {
		j.t.Fatalf("%s ends so: %s\n%s%s", j.proc.name, describe(end), j.read("wrong"), stderr)
	}
	if len(stderr) > 0 {
		j.t.Errorf("stderr of %s: %s", j.proc.name, stderr)
	}
	if j.exists("wrong") {
		j.t.Errorf("wrong: %s", j.read("wrong"))
	}
}

func describe(end syscall.WaitStatus) string {
	switch {
	case end.Exited():
		return fmt.Sprintf("exit status %d", end.ExitStatus())
	case end.CoreDump():
		return unix.SignalName(end.Signal()) + " with a core file"
	default:
		return unix.SignalName(end.Signal())
	}
}

// procStat is what is asked for of /proc/PID/stat.
type procStat struct {
	state                byte
	ppid, group, session int
	flags                uint64
}

// stat is nil if there is no such process.
func stat(pid int) *procStat {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	var s procStat
	var tty, tpgid int
	_, rest, _ := strings.Cut(string(text[bytes.LastIndexByte(text, ')'):]), " ")
	if _, err := fmt.Sscanf(rest, "%c %d %d %d %d %d %d", &s.state, &s.ppid, &s.group, &s.session, &tty, &tpgid, &s.flags); err != nil {
		return nil
	}
	return &s
}

func comm(pid int) string {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	return strings.TrimSpace(string(text))
}

func cmdline(pid int) []byte {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return text
}

// pids are all there are.
func pids() []int {
	var all []int
	names, _ := filepath.Glob("/proc/[0-9]*")
	for _, name := range names {
		if pid, err := strconv.Atoi(filepath.Base(name)); err == nil {
			all = append(all, pid)
		}
	}
	return all
}

func childrenOf(parent int) []int {
	var found []int
	for _, pid := range pids() {
		if s := stat(pid); s != nil && s.ppid == parent {
			found = append(found, pid)
		}
	}
	return found
}

// tree is a process and all its descendants.
func tree(root int) []int {
	found := []int{root}
	for _, child := range childrenOf(root) {
		found = append(found, tree(child)...)
	}
	return found
}

// belongs reports whether a process is one of the job with that marker, or of any job
// of the tests for "": by its environment, or, for a criu, which has none of ours, by
// the directory of its socket, which is in the job's TMPDIR.
func belongs(pid int, marker string) bool {
	const temporary = ".tmp/blcr-cli-"
	inEnviron, inArgs := marker+"\x00", strings.TrimPrefix(marker, "REALTEST_JOB=")+temporary
	if marker == "" {
		inEnviron, inArgs = "REALTEST_JOB="+scratch+"/", scratch+"/"
	}
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil {
		return false
	}
	args := string(cmdline(pid))
	return bytes.Contains(env, []byte(inEnviron)) || strings.Contains(args, inArgs) && strings.Contains(args, temporary)
}

// killMarked ends the processes that belong to a job, all of the tests' for "", and
// says which these were. They have some time to go by themselves.
func killMarked(marker string, grace time.Duration) []string {
	var found []string
	for begin := time.Now(); time.Since(begin) < 5*time.Second; time.Sleep(10 * time.Millisecond) {
		alive := false
		for _, pid := range pids() {
			if pid == os.Getpid() || !belongs(pid, marker) {
				continue
			}
			alive = true
			if time.Since(begin) < grace {
				continue
			}
			found = append(found, fmt.Sprintf("%d (%s)", pid, comm(pid)))
			_ = syscall.Kill(pid, syscall.SIGKILL)
			_ = syscall.Kill(pid, syscall.SIGCONT)
		}
		if !alive {
			break
		}
	}
	return slices.Compact(found)
}

// keepClear sees to it that pid, which is free for the moment, is not given to
// somebody else: pids are given in turn, and after many cycles it is its turn.
func keepClear(pid int) {
	const name = "/proc/sys/kernel/ns_last_pid"
	text, err := os.ReadFile(name)
	if err != nil {
		return // a kernel without
	}
	if last, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && last < pid+100 && last > pid-1000 {
		_ = os.WriteFile(name, []byte(strconv.Itoa(pid+100)), 0o644)
	}
}
