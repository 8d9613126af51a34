//go:build real

package real

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Where a job was saved is not always where it is restarted: control groups,
// namespaces, capabilities, terminals.

// wrapped starts a command by another program, such as setpriv.
func (j *job) wrapped(by []string, name string, args ...string) *process {
	j.t.Helper()
	return j.start(name, append(append(by[:len(by):len(by)], filepath.Join(bin, name)), args...), nil)
}

// tool finds a program of util-linux.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skip(err)
	}
	return path
}

// savedAndBack saves and kills a job and restarts it, twice.
func (j *job) savedAndBack() {
	j.t.Helper()
	for n := range 2 {
		ctx := fmt.Sprintf("%s/ctx.%d", j.dir, n)
		before := tree(j.pid)
		j.checkpoint(ctx, "--kill", j.id(n))
		j.killed(before)
		j.restart(ctx)
	}
	j.finish()
}

// group makes a control group of version 2, or one of the controller pids of
// version 1.
func group(t *testing.T, name string) string {
	t.Helper()
	for _, dir := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/pids"} {
		if _, err := os.Stat(dir + "/cgroup.procs"); err != nil {
			continue
		}
		dir = filepath.Join(dir, name)
		if err := os.Mkdir(dir, 0o755); err == nil {
			t.Cleanup(func() {
				for unix.Rmdir(dir) == unix.EBUSY {
					_, _ = unix.Poll(nil, 10)
				}
			})
			return dir
		}
	}
	t.Skip("no control groups to be had")
	return ""
}

// TestControlGroups: a job comes back in the control groups of its cr_restart,
// whatever it was in.
func TestControlGroups(t *testing.T) {
	engine(t)
	for _, name := range []string{"threads", "shell.sh"} {
		t.Run("namespace/"+name, func(t *testing.T) {
			t.Parallel()
			j := newJob(t, name)
			j.args = append([]string{tool(t, "unshare"), "-C"}, j.args...)
			j.launch()
			j.savedAndBack()
		})
		t.Run("group/"+name, func(t *testing.T) {
			t.Parallel()
			dir := group(t, fmt.Sprintf("realtest-%d-%s", os.Getpid(), name))
			j := newJob(t, name)
			j.launch()
			// Not its children of that moment, if it has any: they are in two then.
			if err := os.WriteFile(dir+"/cgroup.procs", []byte(strconv.Itoa(j.pid)), 0); err != nil {
				t.Fatal(err)
			}
			j.savedAndBack()
		})
	}
	t.Run("both", func(t *testing.T) {
		dir := group(t, fmt.Sprintf("realtest-%d-both", os.Getpid()))
		j := newJob(t, "threads")
		enter := fmt.Sprintf(`echo 0 >%s/cgroup.procs && exec %s -C "$@"`, dir, tool(t, "unshare"))
		j.args = append([]string{"/bin/sh", "-c", enter, "sh"}, j.args...)
		j.launch()
		j.savedAndBack()
	})
}

// TestGroupWithoutMemory: a job is not restarted in a control group that is not allowed the memory
// of one of its processes, of which the kernel would kill it or cr_restart. That is said beforehand.
func TestGroupWithoutMemory(t *testing.T) {
	j, ctx := newEnded(t, "big")
	dir, limit := memoryGroup(t, fmt.Sprintf("realtest-%d-memory", os.Getpid()))
	within := []string{"/bin/sh", "-c", `echo $$ >` + dir + `/cgroup.procs && exec "$@"`, "sh"}
	says := fmt.Sprintf("process %d had 64 MiB in memory, and the control group %s may have 48 MiB (%s)", j.pid, filepath.Join("/", filepath.Base(dir)), filepath.Base(limit))
	set := func(most string) {
		if err := os.WriteFile(limit, []byte(most), 0); err != nil {
			t.Fatal(err)
		}
	}
	set("48M")
	p := j.wrapped(within, "cr_info", "--check", ctx)
	end := j.wait(p)
	if said, _ := os.ReadFile(p.stdout); end != 1<<8 || !strings.Contains(string(said), says) {
		t.Errorf("cr_info --check: %s, %q", describe(end), said)
	}
	p = j.wrapped(within, "cr_restart", ctx)
	end = j.wait(p)
	if said, _ := os.ReadFile(p.stderr); end != 12<<8 || !strings.Contains(string(said), "- "+says) {
		t.Errorf("cr_restart: %s, %q", describe(end), said)
	}
	set("512M")
	keepClear(j.pid)
	j.proc = j.wrapped(within, "cr_restart", ctx)
	j.advances()
	j.finish()
}

// memoryGroup makes a control group with the controller memory, and returns its directory and
// the file with its limit.
func memoryGroup(t *testing.T, name string) (dir, limit string) {
	t.Helper()
	for _, at := range []struct{ dir, limit string }{
		{"/sys/fs/cgroup/memory", "memory.limit_in_bytes"}, {"/sys/fs/cgroup", "memory.max"}, {"/sys/fs/cgroup/unified", "memory.max"},
	} {
		dir := filepath.Join(at.dir, name)
		if unix.Access(at.dir+"/cgroup.procs", unix.F_OK) != nil || os.Mkdir(dir, 0o755) != nil {
			continue
		}
		t.Cleanup(func() {
			for unix.Rmdir(dir) == unix.EBUSY {
				_, _ = unix.Poll(nil, 10)
			}
		})
		if limit := filepath.Join(dir, at.limit); unix.Access(limit, unix.F_OK) == nil {
			return dir, limit
		}
	}
	t.Skip("no control groups for memory to be had")
	return "", ""
}

// TestBoundingSet: what is missing from the bounding set of the job, and of
// cr_restart as well, need not be dropped, which takes a capability.
func TestBoundingSet(t *testing.T) {
	engine(t)
	j := newJob(t, "threads")
	less := []string{tool(t, "setpriv"), "--bounding-set", "-setpcap,-sys_nice"}
	j.args = append(less, j.args...)
	j.launch()
	ctx := j.dir + "/ctx"
	before := tree(j.pid)
	j.checkpoint(ctx, "--kill", strconv.Itoa(j.pid))
	j.killed(before)
	keepClear(j.pid)
	j.proc = j.wrapped(less, "cr_restart", ctx)
	j.advances()
	j.inspect([]string{ctx})
	j.finish()
}

// TestAttributes: what a job has set for itself is so again with new pids, and
// where cr_restart itself was started otherwise.
func TestAttributes(t *testing.T) {
	engine(t)
	j := newJob(t, "attributes")
	j.launch()
	ctx := j.dir + "/ctx"
	before := tree(j.pid)
	j.checkpoint(ctx, "--kill", strconv.Itoa(j.pid))
	j.killed(before)
	by := []string{tool(t, "setarch"), "--addr-no-randomize", tool(t, "ionice"), "-c", "2", "-n", "1"}
	j.proc = j.wrapped(by, "cr_restart", "--no-restore-pid", ctx)
	j.advances()
	j.finish()
}

// TestHugePages: private huge pages are restored, with as many as the machine has to
// have for that.
func TestHugePages(t *testing.T) {
	engine(t)
	const name = "/proc/sys/vm/nr_hugepages"
	before, err := os.ReadFile(name)
	if err != nil {
		t.Skip(err)
	}
	had, _ := strconv.Atoi(strings.TrimSpace(string(before)))
	if err := os.WriteFile(name, []byte(strconv.Itoa(had+4)), 0); err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { _ = os.WriteFile(name, before, 0) })
	if now, _ := os.ReadFile(name); strings.TrimSpace(string(now)) != strconv.Itoa(had+4) {
		t.Skip("this machine has no memory for huge pages")
	}
	j := newJob(t, "hugepages")
	j.launch()
	ctx := j.dir + "/ctx"
	for n, with := range []string{"-f", "-d"} {
		before := tree(j.pid)
		if with == "-f" {
			j.checkpoint(ctx, "--kill", j.id(n))
		} else {
			p := j.command("cr_checkpoint", "--kill", "-d", ctx+".d", j.id(n))
			j.silent(p, j.wait(p))
		}
		j.killed(before)
		if with == "-f" {
			j.restart(ctx)
		} else {
			j.proc = j.command("cr_restart", "-d", ctx+".d")
			j.advances()
		}
		if left, _ := os.ReadDir(j.tmp); len(left) > 0 {
			t.Errorf("left in TMPDIR: %v", left)
		}
	}
	j.finish()
}

// TestMountNamespace: a job with a mount namespace of its own is refused from outside,
// and saved from inside, with files that were opened outside. It is restarted outside.
func TestMountNamespace(t *testing.T) {
	engine(t)
	j := newJob(t, "offsets")
	// The standard streams are files of the machine's namespace.
	private := j.dir + "/private"
	if err := os.Mkdir(private, 0o755); err != nil {
		t.Fatal(err)
	}
	unshare := tool(t, "unshare")
	j.args = append([]string{unshare, "--mount", "/bin/sh", "-c", "mount -t tmpfs none " + private + ` && exec "$@"`, "sh"}, j.args...)
	j.launch()
	ctx := j.dir + "/ctx"
	p := j.command("cr_checkpoint", "-f", ctx, strconv.Itoa(j.pid))
	end := j.wait(p)
	said, _ := os.ReadFile(p.stderr)
	if !end.Exited() || end.ExitStatus() != int(unix.EOPNOTSUPP) || !strings.Contains(string(said), "nsenter --mount --target "+strconv.Itoa(j.pid)) {
		t.Errorf("from outside: %s, %s", describe(end), said)
	}
	j.advances()
	inside := []string{tool(t, "nsenter"), "--mount", "--target", strconv.Itoa(j.pid)}
	before := tree(j.pid)
	p = j.wrapped(inside, "cr_checkpoint", "--kill", "-f", ctx, strconv.Itoa(j.pid))
	j.silent(p, j.wait(p))
	j.killed(before)
	j.restart(ctx)
	if link, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/1", j.pid)); err != nil || !strings.HasPrefix(link, j.dir+"/stdout.program") {
		t.Errorf("standard output is %q, %v", link, err)
	}
	j.savedAndBack()
}

// TestVolatile: what is on a tmpfs that only a job's mount namespace has is refused from
// inside, and saved if something keeps the namespace, for a restart in there.
func TestVolatile(t *testing.T) {
	for kind, script := range map[string]string{
		"file":      `exec 3>"$0/f"; cd /`,
		"directory": `mkdir "$0/d" && cd "$0/d"`,
		"mapping":   `cp /bin/sh "$0/sh"; cd /; exec "$0/sh" -c 'echo >"$0/../ready"; while :; do sleep 1; done' "$0"`,
	} {
		t.Run(kind, func(t *testing.T) {
			j := newCaller(t)
			private := j.dir + "/private"
			if err := os.Mkdir(private, 0o755); err != nil {
				t.Fatal(err)
			}
			p := j.run(tool(t, "unshare"), "--mount", "/bin/sh", "-c", `mount -t tmpfs none "$0" && `+script+`; echo >"$0/../ready"; while :; do sleep 1; done`, private)
			j.until("the script to be ready", func() bool { return j.exists("ready") })
			ctx := j.dir + "/ctx"
			enter := func(pid int) []string { return []string{tool(t, "nsenter"), "--mount", "--target", strconv.Itoa(pid)} }
			asked := j.wrapped(enter(p.pid), "cr_checkpoint", "--kill", "-f", ctx, strconv.Itoa(p.pid))
			end := j.wait(asked)
			said, _ := os.ReadFile(asked.stderr)
			if end != 95<<8 || !strings.Contains(string(said), private) || !strings.Contains(string(said), "sleep infinity") {
				t.Errorf("%s: %s", describe(end), said)
			}
			j.noContext()
			keeper := j.start("sleep", append(enter(p.pid), "/bin/sleep", "1000"), nil)
			j.until("the namespace to be kept", func() bool {
				name, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", keeper.pid))
				want, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", p.pid))
				return err == nil && name == want
			})
			asked = j.wrapped(enter(p.pid), "cr_checkpoint", "--kill", "-f", ctx, strconv.Itoa(p.pid))
			j.silent(asked, j.wait(asked))
			j.wait(p)
			keepClear(p.pid)
			r := j.wrapped(enter(keeper.pid), "cr_restart", "--term", ctx)
			if end := j.wait(r); !end.Signaled() || end.Signal() != unix.SIGTERM {
				text, _ := os.ReadFile(r.stderr)
				t.Errorf("cr_restart: %s, %s", describe(end), text)
			}
			_ = unix.Kill(keeper.pid, unix.SIGKILL)
			j.wait(keeper)
		})
	}
}

// TestRelocatedSocket: a job whose directory has moved listens in the new one.
func TestRelocatedSocket(t *testing.T) {
	j := newCaller(t)
	if err := os.Mkdir(j.dir+"/a", 0o755); err != nil {
		t.Fatal(err)
	}
	j.write("program", `
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.bind(sys.argv[1])
s.listen(3)
open("ready", "w").close()
s.accept()[0].send(b"here")
`)
	p := j.run("/usr/bin/python3", "program", j.dir+"/a/s")
	ctx := j.savedAndKilled(p)
	if err := os.Mkdir(j.dir+"/b", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(j.dir + "/a"); err != nil {
		t.Fatal(err)
	}
	p = j.command("cr_restart", "--relocate", j.dir+"/a="+j.dir+"/b", ctx)
	var text []byte
	j.until("an answer in the new directory", func() bool {
		conn, err := net.Dial("unix", j.dir+"/b/s")
		if err != nil {
			return false
		}
		defer conn.Close()
		text, _ = io.ReadAll(conn)
		return string(text) == "here"
	})
	j.silent(p, j.wait(p))
}

// TestLoggerGone: a job that was connected to a datagram socket with a name goes on if
// that is not there, and cannot send; if it is there, it can.
func TestLoggerGone(t *testing.T) {
	j := newCaller(t)
	listen := func() *net.UnixConn {
		_ = os.Remove(j.dir + "/log")
		c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: j.dir + "/log", Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	logger := listen()
	j.write("program", `
import os, socket, sys, time
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.setblocking(False)
s.connect(sys.argv[1])
while not os.path.exists("end"):
    try:
        s.send(b"x")
        said = "sent"
    except BlockingIOError:
        said = "sent"
    except OSError:
        said = "failed"
    os.symlink(said, "said.new") # unlike a file, it is never open
    os.rename("said.new", "said")
    open("ready", "w").close()
    time.sleep(0.01)
`)
	p := j.run("/usr/bin/python3", "program", j.dir+"/log")
	ctx := j.savedAndKilled(p)
	logger.Close() // its name stays
	for _, c := range []struct {
		what, said string
		prepare    func()
	}{
		{"a name without a logger", "failed", func() {}},
		{"no name", "failed", func() { _ = os.Remove(j.dir + "/log") }},
		{"a logger", "sent", func() { logger = listen() }},
	} {
		c.prepare()
		_ = os.Remove(j.dir + "/end")
		keepClear(j.pid)
		p = j.command("cr_restart", ctx)
		// What it says first it may have found out before it was saved.
		for range 2 {
			_ = os.Remove(j.dir + "/said")
			j.until("the job to send", func() bool { return j.exists("said") })
		}
		if got, err := os.Readlink(j.dir + "/said"); got != c.said {
			t.Errorf("with %s it says %q, %v", c.what, got, err)
		}
		j.write("end", "")
		j.silent(p, j.wait(p))
	}
	logger.Close()
}
