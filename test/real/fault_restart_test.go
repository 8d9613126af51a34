//go:build real

package real

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// newSleeper saves and ends a small job.
func newSleeper(t *testing.T) (j *job, ctx string) {
	t.Helper()
	return newEnded(t, "counter")
}

// newEnded saves and ends a program.
func newEnded(t *testing.T, program string) (j *job, ctx string) {
	t.Helper()
	engine(t)
	j = newJob(t, program)
	j.launch()
	ctx = filepath.Join(j.dir, "ctx")
	pids := tree(j.pid)
	j.checkpoint(ctx, "--kill", strconv.Itoa(j.pid))
	j.killed(pids)
	return j, ctx
}

// nothing checks that a failed restart has left nothing.
func (j *job) nothing() {
	j.t.Helper()
	begin, told := time.Now(), false
	j.until("processes to be gone", func() bool {
		helpers, job := j.helpers(), stat(j.pid)
		if !told && time.Since(begin) > patience/2 {
			told = true
			for _, pid := range append(helpers, j.pid) {
				j.t.Logf("still there: %d, %q, child of %v, in %s", pid, cmdline(pid), stat(pid), wchan(pid))
			}
		}
		return len(helpers) == 0 && job == nil
	})
	if left, _ := os.ReadDir(j.tmp); len(left) > 0 {
		j.t.Errorf("left in TMPDIR: %v", left)
	}
}

// TestFaultContext: what is no context, and what is one no more.
func TestFaultContext(t *testing.T) {
	j, ctx := newSleeper(t)
	good, err := os.ReadFile(ctx)
	if err != nil {
		t.Fatal(err)
	}
	const invalid = "Restart failed: Invalid argument\n- context: ..."
	bad := func(content []byte, status int, want string) {
		t.Helper()
		j.write("bad", string(content))
		j.fails(j.command("cr_restart", filepath.Join(j.dir, "bad")), status, want)
		j.nothing()
	}
	const empty = "Restart failed: Input/output error\n- the context is empty\n"
	bad(nil, 5, empty)
	const cut = "Restart failed: Input/output error\n- context: truncated: the "
	for _, n := range []int{1, 8, 64, 4095, 4096, 4097, len(good) / 2, len(good) - 64, len(good) - 1} {
		bad(good[:n], 5, cut+"...")
		// From a pipe, and as it was written into one.
		from := "head -c " + strconv.Itoa(n) + " " + ctx + " | "
		to := filepath.Join(bin, "cr_restart") + " -F 0"
		j.fails(j.start("sh", []string{"/bin/sh", "-c", from + to}, nil), 5, cut+"...")
	}
	j.fails(j.start("sh", []string{"/bin/sh", "-c", ": | " + filepath.Join(bin, "cr_restart") + " -F 0"}, nil), 5, empty)
	flip := func(at int) []byte {
		b := bytes.Clone(good)
		b[at] ^= 1 << rand.IntN(8)
		return b
	}
	for range 8 {
		bad(flip(rand.IntN(4096)), 22, invalid)
		bad(flip(len(good)-1-rand.IntN(64)), 22, invalid)
	}
	for _, image := range []string{"pstree.img", "files.img", "inventory.img", fmt.Sprintf("core-%d.img", j.pid), fmt.Sprintf("mm-%d.img", j.pid)} {
		// Its entry in the index, which has the length of its name before it.
		at := bytes.LastIndex(good, []byte(image))
		if at < 0 {
			t.Fatalf("no %s", image)
		}
		bad(flip(at), 22, invalid)
		extent := at + len(image)
		offset := 0
		for i := range 8 {
			offset |= int(good[extent+i]) << (8 * i)
		}
		bad(flip(offset), 22, invalid)
	}
	bad([]byte("hello, world\n"), 22, invalid)
	bad(append([]byte("C\x00\x00\x00R\x00\x00\x00"), make([]byte, 8192)...), 255, "Failed cr_init(): -1\n- this context was written by BLCR's kernel module, which is not there...")
	j.fails(j.command("cr_restart", "/dev/null"), 5, empty)
	none := filepath.Join(j.dir, "none")
	if err := os.Mkdir(none, 0o755); err != nil {
		t.Fatal(err)
	}
	j.fails(j.command("cr_restart", none), 21, "Restart failed: Is a directory\n- there is no context in it...")
	j.fails(j.command("cr_restart", "/nonexistent"), 255, "Failed to open(/nonexistent, O_RDONLY): No such file or directory\n")
	j.nothing()
	j.restart(ctx)
	j.finish()
}

// TestFaultRestartKilled ends cr_restart, or criu, while the job comes back: it
// is there and runs, or it is gone.
func TestFaultRestartKilled(t *testing.T) {
	j, ctx := newSleeper(t)
	for n := range 24 {
		j.rewind()
		keepClear(j.pid)
		p := j.command("cr_restart", ctx)
		time.Sleep(rand.N(150 * time.Millisecond))
		sig := []syscall.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGKILL}[n%3]
		to := p.pid
		if n%6 > 2 {
			to = -p.pid
		}
		_ = syscall.Kill(to, sig)
		end := j.wait(p)
		if !end.Signaled() || end.Signal() != sig {
			stderr, _ := os.ReadFile(p.stderr)
			t.Fatalf("%v: cr_restart ends so: %s\n%s", sig, describe(end), stderr)
		}
		if sig == unix.SIGKILL {
			// The job goes on without it, if it has begun to run.
			j.until("the job to run or be gone", func() bool { return stat(j.pid) == nil || j.beat() > 0 })
			if stat(j.pid) != nil {
				j.until("the job to be the only process", func() bool { return len(j.helpers()) == 0 })
				_ = syscall.Kill(j.pid, unix.SIGKILL)
			}
			j.forgetScratch()
		}
		j.nothing()
	}
	for range 8 {
		j.rewind()
		keepClear(j.pid)
		p := j.command("cr_restart", ctx)
		time.Sleep(rand.N(120 * time.Millisecond))
		for _, pid := range childrenOf(p.pid) {
			// Not one that is asked for its version, or what the kernel can do.
			if pid != j.pid && bytes.Contains(cmdline(pid), []byte("\x00restore\x00")) {
				_ = syscall.Kill(pid, unix.SIGKILL)
			}
		}
		j.until("the job to run, or the command to end", func() bool {
			select {
			case <-p.ended:
				return true
			default:
				return j.beat() > 0
			}
		})
		if j.beat() > 0 {
			_ = syscall.Kill(p.pid, unix.SIGTERM)
			j.wait(p)
		} else {
			j.fails(p, 5, "Restart failed: Input/output error\n- criu was killed by signal 9\n")
		}
		j.nothing()
	}
	j.rewind()
	j.restart(ctx)
	j.finish()
}

// TestFaultMissing: what the job needs is not there, and whose hook is run.
func TestFaultMissing(t *testing.T) {
	engine(t)
	hooks := []string{"--run-on-fail-temp=echo temp", "--run-on-fail-env=echo env", "--run-on-fail-perm=echo perm", "--run-on-fail-args=echo args", "--run-on-success=echo success"}
	for _, c := range []struct {
		name    string
		prepare string // $0 is the program, $1 its directory
		spoil   string
		status  int
		class   string
		text    string
	}{
		{"exe", `cp $0 $1/exe; exec $1/exe $1`, "rm exe", 2, "env", "Restart failed: No such file or directory\n- cannot open DIR/exe: No such file or directory\n..."},
		{"other", `cp $0 $1/exe; exec $1/exe $1`, "rm exe; cp /bin/true exe; chmod 755 exe", 116, "perm", "Restart failed: Stale file handle\n- DIR/exe is not the file that was saved: ..."},
		{"cwd", `mkdir $1/cwd; cd $1/cwd; exec $0 $1`, "rmdir cwd", 2, "env", "Restart failed: No such file or directory\n- cannot open DIR/cwd: No such file or directory\n..."},
		{"file", `exec $0 $1 3>$1/file`, "rm file", 2, "env", "Restart failed: No such file or directory\n- cannot open DIR/file: No such file or directory\n- cr_restart --relocate finds files elsewhere\n"},
		{"directory", `exec $0 $1 3>$1/file`, "rm file; mkdir file", 21, "env", "Restart failed: Is a directory\n- cannot open DIR/file: Is a directory\n- cr_restart --relocate finds files elsewhere\n"},
		{"no directory", `mkdir $1/sub; exec $0 $1 3>$1/sub/file`, "rm -r sub; : >sub", 20, "env", "Restart failed: Not a directory\n- cannot open DIR/sub/file: Not a directory\n- cr_restart --relocate finds files elsewhere\n"},
		{"loop", `exec $0 $1 3>$1/file`, "rm file; ln -s file file", 40, "env", "Restart failed: Too many levels of symbolic links\n- cannot open DIR/file: Too many levels of symbolic links\n- cr_restart --relocate finds files elsewhere\n"},
		{"cwd is a file", `mkdir $1/cwd; cd $1/cwd; exec $0 $1`, "rmdir cwd; : >cwd", 20, "env", "Restart failed: Not a directory\n- cannot enter DIR/cwd: Not a directory\n- criu: Can't change cwd: Not a directory\n- cr_restart --relocate finds files elsewhere\n"},
		{"context", `exec $0 $1`, "rm -f ctx", 255, "args", "Failed to open(DIR/ctx, O_RDONLY): No such file or directory\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			j := newJob(t, "counter")
			j.args = []string{"/bin/sh", "-c", c.prepare, j.args[0], j.dir}
			j.launch()
			ctx := filepath.Join(j.dir, "ctx")
			j.checkpoint(ctx, "--kill", strconv.Itoa(j.pid))
			j.killed([]int{j.pid})
			sh := j.start("sh", []string{"/bin/sh", "-c", c.spoil}, nil)
			j.silent(sh, j.wait(sh))
			p := j.command("cr_restart", append(hooks, ctx)...)
			j.fails(p, c.status, strings.ReplaceAll(c.text, "DIR", j.dir))
			if out, _ := os.ReadFile(p.stdout); string(out) != c.class+"\n" {
				t.Errorf("the hook says %q, want %s", out, c.class)
			}
			j.nothing()
		})
	}
}

// TestFaultFewFiles: CRIU may have too few files open to restore a process with a high
// descriptor. That is said beforehand, also when the process is saved.
func TestFaultFewFiles(t *testing.T) {
	j := newCaller(t)
	j.write("job.py", `
import os, time
os.dup2(0, 1000)
open("ready", "w").close()
while not os.path.exists("go"):
    time.sleep(0.01)
os.fstat(1000)
os._exit(7)
`)
	job := j.run("/usr/bin/python3", "job.py")
	j.until("the program to be ready", func() bool { return j.exists("ready") })
	pid, ctx := strconv.Itoa(job.pid), j.dir+"/ctx"
	limited := func(limit int, command string, args ...string) *process {
		set := []string{tool(t, "setpriv"), "--bounding-set", "-sys_resource", "--inh-caps", "-all", tool(t, "prlimit"), fmt.Sprintf("--nofile=%d", limit), filepath.Join(bin, command)}
		return j.start(command, append(set, args...), nil)
	}
	check := func(status int, p *process) {
		t.Helper()
		if end := j.wait(p); end != syscall.WaitStatus(status<<8) {
			t.Errorf("%s: %s, want exit status %d", p.name, describe(end), status)
		}
	}
	const needs = " has descriptor 1000 open, and criu needs a limit of 1152 open files to restore that, where it can have 1024 here\n- have root raise it for this shell, 'sudo prlimit --pid $$ --nofile=1152'\n"
	check(24, limited(1024, "cr_checkpoint", "--check", pid))
	j.fails(limited(1024, "cr_checkpoint", "-f", ctx, pid), 24, "Checkpoint failed: Too many open files\n- process "+pid+" (python3)"+needs+"...")
	if left, _ := filepath.Glob(j.dir + "/*ctx*"); left != nil {
		t.Errorf("left: %v", left)
	}
	check(0, limited(1152, "cr_checkpoint", "--check", pid))
	check(0, limited(1152, "cr_checkpoint", "-f", ctx, "--kill", pid))
	j.wait(job)
	check(1, limited(1024, "cr_info", "--check", ctx))
	j.fails(limited(1024, "cr_restart", "--limits-any", ctx), 24, "Restart failed: Too many open files\n- process "+pid+" of the job"+needs+"...")
	j.nothing()
	j.write("go", "")
	check(7, limited(1152, "cr_restart", "--limits-any", ctx))
}

// TestFaultFewProcesses: a control group allows fewer threads than the job has.
func TestFaultFewProcesses(t *testing.T) {
	group, allow := newPidsGroup(t)
	allow(40)
	j := newCaller(t)
	j.write("job.py", `
import threading, time
for _ in range(60):
    threading.Thread(target=time.sleep, args=(3600,)).start()
open("ready", "w").close()
`)
	p := j.run("/usr/bin/python3", "job.py")
	ctx := j.savedAndKilled(p)
	within := func(command string) *process {
		return j.start(command, []string{"/bin/sh", "-c", "echo $$ >" + group + "/cgroup.procs; exec " + bin + "/" + command + ` "$0"`, ctx}, nil)
	}
	p = within("cr_info --check")
	j.ends(p, 1, ctx+": the job has 61 processes and threads, and the control group ...", "")
	p = within("cr_restart")
	j.fails(p, 11, "Restart failed: Resource temporarily unavailable\n- the job has 61 processes and threads, and the control group ...")
	j.nothing()
}

// TestFaultInherited: nothing of how cr_restart was started changes the job.
func TestFaultInherited(t *testing.T) {
	engine(t)
	j := newJob(t, "counter")
	j.launch()
	before := j.properties()
	ctx := filepath.Join(j.dir, "ctx")
	j.checkpoint(ctx, "--kill", strconv.Itoa(j.pid))
	j.killed([]int{j.pid})
	keepClear(j.pid)
	j.proc = j.start("cr_restart", []string{"/bin/sh", "-c",
		`trap "" INT HUP QUIT TERM USR1 PIPE; ulimit -S -n 200; ulimit -S -s 4096; umask 077; cd /; exec nice -n 5 "$0" "$1" 5</dev/null 6>&1`,
		filepath.Join(bin, "cr_restart"), ctx}, nil)
	j.advances()
	after := j.properties()
	for what, was := range before {
		if after[what] != was {
			t.Errorf("%s is\n%s\nwas\n%s", what, after[what], was)
		}
	}
	j.finish()
}

// properties are what can be seen of a process from outside.
func (j *job) properties() map[string]string {
	all := map[string]string{}
	of := func(name string) string { return fmt.Sprintf("/proc/%d/%s", j.pid, name) }
	for _, name := range []string{"environ", "cmdline", "limits", "oom_score_adj", "loginuid"} {
		text, _ := os.ReadFile(of(name))
		all[name] = string(text)
	}
	for _, name := range []string{"cwd", "root", "exe", "ns/pid", "ns/mnt"} {
		all[name], _ = os.Readlink(of(name))
	}
	entries, _ := os.ReadDir(of("fd"))
	for _, e := range entries {
		to, _ := os.Readlink(of("fd/" + e.Name()))
		all["fd"] += e.Name() + " " + to + "\n"
	}
	status, _ := os.ReadFile(of("status"))
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		switch name {
		case "Name", "Umask", "Uid", "Gid", "Groups", "Threads", "SigBlk", "SigIgn", "SigCgt", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "TracerPid":
			all[name] = value
		}
	}
	if nice, err := unix.Getpriority(unix.PRIO_PROCESS, j.pid); err == nil {
		all["nice"] = strconv.Itoa(nice)
	}
	return all
}
