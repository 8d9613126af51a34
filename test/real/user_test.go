//go:build real

package real

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"blcr-cli/test/harness"
)

// ordinary is the user as which the tests in this file run the programs and the
// commands: nobody, without any capability.
var ordinary = syscall.Credential{Uid: 65534, Gid: 65534}

// notForUsers are the programs that an ordinary user cannot run, save or restore, with
// the reason.
var notForUsers = map[string]string{
	"credentials": "it sets its groups, which takes root",
	"inotify":     "to find the name of a watched file takes CAP_DAC_READ_SEARCH; it is refused",
	"tcp":         "to save a TCP connection takes CAP_NET_ADMIN; it is refused",
	"zombie":      "to save it a second time is refused: TestZombieRestored",
}

// TestProgramsAsUser takes each program through the cycles as an ordinary user, with a
// criu that has the capability cap_checkpoint_restore and no other. The bounding set
// lacks two capabilities, as in a container, so that criu has one to drop that it cannot.
func TestProgramsAsUser(t *testing.T) {
	criu := criuForUsers(t)
	for _, p := range programs {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			if why := notForUsers[p.name]; why != "" && os.Getenv("REALTEST_KNOWN") == "" {
				t.Skip(why)
			}
			if p.cannot != nil {
				if why := p.cannot(); why != "" {
					t.Skip(why)
				}
			}
			j := newUserJob(t, p.name, criu)
			j.launch()
			for n := range *cycles {
				j.cycle(p, n)
			}
			if p.runOn {
				j.goOn(p)
			}
			j.finish()
		})
	}
}

// TestGroupsChanged: a user whose supplementary groups have changed since restores a
// job, which then has the new ones.
func TestGroupsChanged(t *testing.T) {
	j := newUserJob(t, "counter", criuForUsers(t))
	j.cred = &syscall.Credential{Uid: ordinary.Uid, Gid: ordinary.Gid, Groups: []uint32{7, 9}}
	j.launch()
	for _, groups := range [][]uint32{{8}, nil, {7, 8, 1000000}} {
		all := tree(j.pid)
		ctx := filepath.Join(j.dir, "ctx")
		j.checkpoint(ctx, "--clobber", "--kill", strconv.Itoa(j.pid))
		j.killed(all)
		j.cred = &syscall.Credential{Uid: ordinary.Uid, Gid: ordinary.Gid, Groups: groups}
		j.restart(ctx)
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", j.pid))
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(status), "\nGroups:")
		line, _, _ := strings.Cut(rest, "\n")
		if got, want := strings.Fields(line), strings.Fields(strings.Trim(fmt.Sprint(groups), "[]")); !slices.Equal(got, want) {
			t.Errorf("groups %q, want %q", got, want)
		}
	}
	j.finish()
}

// TestClocksBehind: a job that has seen later clocks than this machine's is refused for
// a user with its old pids, as the clocks would go back. Nothing is left behind. With new
// pids its clocks go on from there, more than once.
func TestClocksBehind(t *testing.T) {
	criu := criuForUsers(t)
	j := newUserJob(t, "clocks", criu)
	// The other machine is a time namespace, in which criu is as well.
	become := []string{tool(t, "setpriv"), "--reuid", fmt.Sprint(ordinary.Uid), "--regid", fmt.Sprint(ordinary.Gid), "--clear-groups", "--inh-caps", "-all"}
	j.cred = nil
	j.args = slices.Concat([]string{tool(t, "unshare"), "-T", "--monotonic", "1000000", "--boottime", "1000000"}, become, j.args)
	j.launch()
	for _, name := range []string{j.proc.stdout, j.proc.stderr} {
		if err := os.Chown(name, int(ordinary.Uid), int(ordinary.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	ctx := filepath.Join(j.dir, "ctx")
	all := tree(j.pid)
	there := slices.Concat([]string{tool(t, "nsenter"), "--time", "--target", fmt.Sprint(j.pid)}, become)
	p := j.wrapped(there, "cr_checkpoint", "--kill", "-f", ctx, fmt.Sprint(j.pid))
	j.silent(p, j.wait(p))
	j.killed(all)
	j.cred = &ordinary
	j.fails(j.command("cr_restart", ctx), 95, "Restart failed: Operation not supported\n"+
		"- this machine has been up for ...")
	j.nothing()
	if said, status := j.told("--check", ctx); status != 1 || !strings.Contains(said, "cr_restart --no-restore-pid gives it") {
		t.Errorf("cr_info --check: %d\n%s", status, said)
	}
	j.makesNamespaces()
	inner := j.pid
	for n := range 3 {
		j.rewind()
		j.proc = j.command("cr_restart", "--no-restore-pid", ctx)
		j.advances()
		j.until("the job to be cr_restart's only child", func() bool { return len(childrenOf(j.proc.pid)) == 1 })
		root := childrenOf(j.proc.pid)[0]
		if timeOf(t, root) == timeOf(t, os.Getpid()) || innerPid(t, root) != inner {
			t.Error("the job has not got a time namespace and a pid namespace")
		}
		if n < 2 {
			all := tree(root)
			j.checkpoint(ctx, "--clobber", "--kill", strconv.Itoa(root))
			j.killed(all)
		}
	}
	j.finish()
}

// TestLimitsAbove: limits that a user cannot have are refused by their names, unless lower
// ones are allowed. A hard limit alone is no obstacle.
func TestLimitsAbove(t *testing.T) {
	j := newUserJob(t, "counter", criuForUsers(t))
	prlimit := tool(t, "prlimit")
	j.args = append([]string{prlimit, "--nofile=400:500"}, j.args...)
	j.launch()
	for _, c := range []struct {
		hard   int // of cr_restart
		option []string
		want   string // the limits of the job
	}{
		{450, nil, "400 450"},
		{300, nil, ""},
		{300, []string{"--limits-any"}, "300 300"},
	} {
		all := tree(j.pid)
		ctx := filepath.Join(j.dir, "ctx")
		if c.option == nil {
			j.checkpoint(ctx, "--clobber", "--kill", strconv.Itoa(j.pid))
			j.killed(all)
		}
		restarter := []string{prlimit, fmt.Sprintf("--nofile=%d:%d", c.hard, c.hard)}
		j.rewind()
		p := j.wrapped(restarter, "cr_restart", append(c.option, ctx)...)
		if c.want == "" {
			j.fails(p, 1, "Restart failed: Operation not permitted\n"+
				"- limits of the job are above the hard limits of this cr_restart: nofile was 400 and can be 300\n...")
			j.nothing()
			continue
		}
		j.proc = p
		j.advances()
		limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", j.pid))
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(limits), "Max open files")
		if got := strings.Fields(rest)[:2]; strings.Join(got, " ") != c.want {
			t.Errorf("limits of open files %q, want %s", got, c.want)
		}
	}
	j.finish()
}

// TestEndedWriterAsUser: what is in a pipe whose writer has ended is there after a restart,
// although a user is not shown whether another process has its other end.
func TestEndedWriterAsUser(t *testing.T) {
	j := newUserJob(t, "counter", criuForUsers(t))
	j.args = []string{"/bin/sh", "-c", `
		echo "$$ 0" >ready.new && mv ready.new ready
		echo words | {
			n=0
			while [ ! -e finish ]; do
				n=$((n + 1))
				printf '%020d\n' $n >beat.new && mv beat.new beat
				sleep .02
			done
			read -r word
			[ "$word" = words ] || { echo "read '$word'" >wrong; exit 1; }
			exit 42
		}`}
	j.launch()
	ctx := filepath.Join(j.dir, "ctx")
	for range 2 {
		all := tree(j.pid)
		j.checkpoint(ctx, "--clobber", "--kill", strconv.Itoa(j.pid))
		j.killed(all)
		j.restart(ctx)
	}
	j.finish()
}

// TestZombieRestored: how a zombie ended that CRIU has restored for a user is shown to
// root only, so a second save is refused.
func TestZombieRestored(t *testing.T) {
	j := newUserJob(t, "zombie", criuForUsers(t))
	j.launch()
	all := tree(j.pid)
	ctx := filepath.Join(j.dir, "ctx")
	j.checkpoint(ctx, "--kill", strconv.Itoa(j.pid))
	j.killed(all)
	j.restart(ctx)
	j.fails(j.command("cr_checkpoint", "-f", filepath.Join(j.dir, "again"), strconv.Itoa(j.pid)), 95,
		"Checkpoint failed: Operation not supported\n- process ...")
	j.finish()
}

// TestNewPidsAsUser: a user's job gets new pids, in a user namespace, and can be saved
// from outside of that again.
func TestNewPidsAsUser(t *testing.T) {
	criu := criuForUsers(t)
	for _, name := range []string{"counter", "threads", "shell.sh"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j := newUserJob(t, name, criu)
			j.makesNamespaces()
			j.launch()
			ctx := filepath.Join(j.dir, "ctx")
			root := j.pid
			for range 3 {
				all := tree(root)
				j.checkpoint(ctx, "--clobber", "--kill", strconv.Itoa(root))
				j.killed(all)
				j.rewind()
				j.proc = j.command("cr_restart", "--no-restore-pid", ctx)
				j.advances()
				j.until("the job to be cr_restart's only child", func() bool { return len(childrenOf(j.proc.pid)) == 1 })
				root = childrenOf(j.proc.pid)[0]
				if inner := innerPid(t, root); inner != j.pid {
					t.Errorf("the job is process %d in its namespace, and was %d", inner, j.pid)
				}
			}
			j.finish()
		})
	}
}

// TestRemovedMappingAgain: a user's job with new pids that has a removed file mapped cannot be
// saved again, and is told so by --check as well.
func TestRemovedMappingAgain(t *testing.T) {
	python := harness.Tool(t, "/usr/bin/python3", "python3")
	for _, open := range []string{`os.open("file", os.O_RDWR | os.O_CREAT)`, `os.memfd_create("file")`} {
		j := newUserJob(t, "counter", criuForUsers(t))
		j.makesNamespaces()
		j.write("mapped.py", `import mmap, os, time
f = `+open+`
os.truncate(f, 4096)
m = mmap.mmap(f, 4096)
os.close(f)
if os.path.exists("file"):
	os.unlink("file")
_ = open("ready", "w").close()
while True: time.sleep(1)
`)
		p := j.run(python, "mapped.py")
		j.readyOr(p, t.Fatalf)
		ctx := filepath.Join(j.dir, "context")
		save := j.command("cr_checkpoint", "--kill", "-f", ctx, strconv.Itoa(p.pid))
		j.silent(save, j.wait(save))
		j.wait(p)
		restart := j.command("cr_restart", "--no-restore-pid", ctx)
		root := 0
		j.until("the job to be cr_restart's only child", func() bool {
			all := childrenOf(restart.pid)
			if len(all) == 1 {
				root = all[0]
			}
			return len(all) == 1 && comm(root) == "python3"
		})
		id := strconv.Itoa(root)
		said, status := j.asked(id)
		const why = "mapped, which has no name any more, and criu may not open it in the user namespace"
		if status != 95 || !strings.Contains(said, why) {
			t.Errorf("--check: status %d, %q", status, said)
		}
		j.fails(j.command("cr_checkpoint", "-f", "again", id), 95, "Checkpoint failed: Operation not supported\n- process "+id+" (python3) has ...")
		_ = syscall.Kill(root, syscall.SIGKILL)
		j.wait(restart)
	}
}

// makesNamespaces skips a test where the ordinary user can make no user namespace.
func (j *job) makesNamespaces() {
	j.t.Helper()
	able := j.start("unshare", []string{tool(j.t, "unshare"), "--user", "--map-current-user", "--pid", "--fork", "--mount-proc", "true"}, &ordinary)
	if end := j.wait(able); end != 0 {
		text, _ := os.ReadFile(able.stderr)
		j.t.Skipf("users make no user namespaces here: %s %s", describe(end), text)
	}
}

// innerPid is the pid that a process has in its own pid namespace.
func innerPid(t *testing.T, pid int) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "\nNSpid:")
	line, _, _ := strings.Cut(rest, "\n")
	numbers := strings.Fields(line)
	inner, err := strconv.Atoi(numbers[len(numbers)-1])
	if err != nil {
		t.Fatal(err)
	}
	return inner
}

// newUserJob makes a job of the ordinary user.
func newUserJob(t *testing.T, name, criu string) *job {
	t.Helper()
	j := newJob(t, name)
	j.cred = &ordinary
	j.env = []string{"CR_CRIU=" + criu, "XDG_RUNTIME_DIR=" + filepath.Join(scratch, "runtime"), "HOME=" + j.dir}
	for _, dir := range []string{j.dir, j.tmp} {
		if err := os.Chown(dir, int(ordinary.Uid), int(ordinary.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	return j
}

// criuForUsers is a copy of the criu of "make criu", with what "make criu-for-users"
// gives it.
func criuForUsers(t *testing.T) string {
	t.Helper()
	dir, err := userCriu()
	if err != nil {
		harness.Missing(t, "no criu for users: %v", err)
	}
	return filepath.Join(dir, "criu")
}

var userCriu = sync.OnceValues(func() (string, error) {
	runtime := filepath.Join(scratch, "runtime")
	if err := os.Mkdir(runtime, 0o700); err != nil {
		return "", err
	}
	if err := os.Chown(runtime, int(ordinary.Uid), int(ordinary.Gid)); err != nil {
		return "", err
	}
	dir := filepath.Join(scratch, "criu")
	if err := run("cp", "-RP", filepath.Dir(os.Getenv("CR_CRIU"))+"/.", dir); err != nil {
		return "", err
	}
	get := exec.Command("../../packaging/criu/get-criu", "--for-users", dir)
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "CR_CRIU=") {
			get.Env = append(get.Env, v)
		}
	}
	out, err := get.CombinedOutput()
	if err != nil {
		return "", &exec.Error{Name: string(out), Err: err}
	}
	return dir, nil
})

// beyondUsers is programs of Python's that root starts, and that become the ordinary
// user's with something that this user could not have again, or that criu may not save for
// it. What they do as that user is in the string later.
var beyondUsers = map[string]struct {
	program string
	status  int
	said    string
}{
	"own file, mode changed": {`later = 'f = os.open("f", os.O_RDWR | os.O_CREAT, 0o600); os.write(f, b"content"); os.fchmod(f, 0o400)'`, 13, "may not open it again to read and write"},
	"mapped, mode changed":   {`later = 'import ctypes; f = os.open("f", os.O_RDWR | os.O_CREAT, 0o600); os.truncate(f, 4096); ctypes.CDLL(None).mmap(None, 4096, 3, 1, f, 0); os.close(f); os.chmod("f", 0o400)'`, 13, "/f mapped, and"},
	"log of root's":          {`os.dup2(os.open("log", os.O_WRONLY | os.O_CREAT, 0o644), 11)`, 13, "/log open as descriptor 11, and user nobody may not open it again to write"},
	"directory of root's":    {`os.mkdir("d", 0o700); inherit(os.open("d", os.O_RDONLY))`, 13, "may not open it again to read"},
	"working directory":      {`os.mkdir("d", 0o700); there = "d"`, 13, "works in "},
	"FIFO":                   {`os.mkfifo("fifo", 0o600); inherit(os.open("fifo", os.O_RDWR))`, 13, "/fifo open as descriptor "},
	"O_NOATIME":              {`open("f", "w").close(); os.chmod("f", 0o644); inherit(os.open("f", os.O_RDONLY | os.O_NOATIME))`, 1, "with O_NOATIME"},
	"removed, mode changed":  {`later = 'f = os.open("f", os.O_RDWR | os.O_CREAT, 0o600); os.write(f, b"content"); os.fchmod(f, 0); os.unlink("f")'`, 13, "has the removed file "},
	"removed file of root's": {`inherit(os.open("f", os.O_RDWR | os.O_CREAT, 0o600)); os.chmod("f", 0o666); os.unlink("f")`, 1, "which belongs to root"},
	"removed device":         {`os.mknod("d", 0o20666, os.makedev(1, 3)); os.chmod("d", 0o666); inherit(os.open("d", os.O_RDWR)); os.unlink("d")`, 1, "has the removed device "},
	"TCP connection":         {`later = 'import socket; s = socket.create_server(("127.0.0.1", 0)); c = socket.create_connection(s.getsockname()); a = s.accept()'`, 1, "has a TCP connection: to save one takes the capability CAP_NET_ADMIN"},
	"TCP socket, refused":    {`later = 'import socket; s = socket.create_server(("127.0.0.1", 0)); port = s.getsockname()[1]; s.close(); c = socket.socket(); c.setblocking(False); c.connect_ex(("127.0.0.1", port)); import select; select.select([], [c], [])'`, 1, "has a TCP connection: to save one takes the capability CAP_NET_ADMIN"},
	"TCP socket, reset":      {`later = 'import socket, struct; s = socket.create_server(("127.0.0.1", 0)); c = socket.create_connection(s.getsockname()); a = s.accept()[0]; a.setsockopt(1, 13, struct.pack("ii", 1, 0)); a.close()'`, 1, "has a TCP connection: to save one takes the capability CAP_NET_ADMIN"},
	"TCP port":               {`s = socket.socket(); s.bind(("127.0.0.1", 1023)); s.listen(); inherit(s.fileno())`, 13, "with the port 1023"},
	"raw socket":             {`s = socket.socket(socket.AF_INET, socket.SOCK_RAW, 1); inherit(s.fileno())`, 1, "which takes CAP_NET_RAW"},
	"packet socket":          {`s = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM); inherit(s.fileno())`, 1, "which takes CAP_NET_RAW"},
	"mark":                   {`s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.setsockopt(socket.SOL_SOCKET, 36, 5); inherit(s.fileno())`, 1, "with the mark 5 (SO_MARK)"},
	"UNIX socket of root's":  {`os.mkdir("d", 0o755); s = socket.socket(socket.AF_UNIX); s.bind(os.path.abspath("d/s")); s.listen(); inherit(s.fileno())`, 13, "may not make again in that directory"},
	"not to be traced":       {`later = 'import ctypes; ctypes.CDLL(None).prctl(4, 0)'`, 1, "may not be traced by user nobody"},
	"thread of root's":       {`become = ["/bin/true"]; import ctypes, threading; libc = ctypes.CDLL(None); there = threading.Event(); threading.Thread(target=lambda: (there.set(), threading.Event().wait())).start(); there.wait(); libc.syscall(116, 0, 0); [libc.syscall(n, 65534, 65534, 65534) for n in (119, 117)]; libc.prctl(4, 1); open("ready", "w").close(); threading.Event().wait()`, 1, "its thread "},
	"thread with a filter":   {`later = 'import ctypes, struct, threading; l = ctypes.CDLL(None); done = threading.Event(); b = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0x7fff0000)); threading.Thread(target=lambda: (l.prctl(38, 1, 0, 0, 0), l.prctl(22, 2, ctypes.create_string_buffer(struct.pack("HxxxxxxP", 1, ctypes.addressof(b)))), done.set(), threading.Event().wait())).start(); done.wait()'`, 1, "has a filter of system calls"},
	"relative UNIX socket":   {`os.mkdir("d", 0o755); there = "d"; os.chdir("d"); s = socket.socket(socket.AF_UNIX); s.bind("s"); s.listen(); inherit(s.fileno()); os.chdir("..")`, 13, "/d/s, which user nobody may not make again in that directory"},
	"memfd of root's":        {`inherit(os.memfd_create("m"))`, 1, "which belongs to root"},
	"lost UNIX socket":       {`later = 'import socket; s = socket.socket(socket.AF_UNIX); s.bind("s"); s.listen(); os.chdir("/")'`, 95, "with a relative name that is not below its working directory any more"},
	"watched by inotify":     {`later = 'import ctypes; l = ctypes.CDLL(None); assert l.inotify_add_watch(l.inotify_init(), os.environ["HERE"].encode(), 0x400) == 1'`, 95, "watches a file by inotify"},
	"watched by fanotify":    {`later = 'import ctypes; l = ctypes.CDLL(None); assert l.fanotify_mark(l.fanotify_init(0x200, 0), 1, ctypes.c_uint64(0x20), -100, os.environ["HERE"].encode()) == 0'`, 95, "watches a file by fanotify"},
	"capabilities":           {`become += ["--inh-caps", "+chown", "--ambient-caps", "+chown"]`, 1, "it has capabilities"},
	"filter of system calls": {`later = 'import ctypes, struct; l = ctypes.CDLL(None); b = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0x7fff0000)); l.prctl(38, 1, 0, 0, 0); l.prctl(22, 2, ctypes.create_string_buffer(struct.pack("HxxxxxxP", 1, ctypes.addressof(b))))'`, 1, "has a filter of system calls"},
	"network of root's":      {`become = ["unshare", "--net"] + become`, 1, "is in another network namespace than cr_checkpoint"},
}

// TestRefusedAsUser: such a program is refused, before anything is done to it, and --check
// says the same.
func TestRefusedAsUser(t *testing.T) {
	criu := criuForUsers(t)
	python := harness.Tool(t, "/usr/bin/python3", "python3")
	tool(t, "setpriv")
	for kind, c := range beyondUsers {
		t.Run(kind, func(t *testing.T) {
			j := newUserJob(t, "counter", criu)
			j.write("beyond.py", fmt.Sprintf(`
import os, socket, sys
def inherit(fd): os.set_inheritable(fd, True); keep.append(fd)
keep, later, there = [], "", "."
become = ["setpriv", "--reuid", "%d", "--regid", "%d", "--clear-groups"]
%s
os.environ["HERE"] = os.getcwd()
os.chdir(there)
os.execvp(become[0], become + ["--", "%s", "-c", """
import os, time
open(os.environ["HERE"] + "/running", "w").close()
""" + later + """
open(os.environ["HERE"] + "/ready", "w").close()
while True: time.sleep(1)
"""])`, ordinary.Uid, ordinary.Gid, c.program, python))
			p := j.start("beyond", []string{python, "beyond.py"}, &syscall.Credential{})
			for _, name := range []string{p.stdout, p.stderr} {
				if err := os.Chown(name, int(ordinary.Uid), int(ordinary.Gid)); err != nil {
					t.Fatal(err)
				}
			}
			j.readyOr(p, t.Fatalf)
			j.refuses(p, c.status, c.said)
		})
	}
}

// notToBeSeen is the same for what --check does not see, with how the request fails before it
// ends the job.
var notToBeSeen = map[string]string{
	"shared memory": `libc.mmap(None, 4096, 3, 1, os.open("/dev/zero", os.O_RDWR | os.O_CLOEXEC), 0); become()`,
}

// TestOwnersAsUser: what only a dump shows to be another user's ends the request, and not the
// job. A watched file in one of the places where CRIU looks for names is saved.
func TestOwnersAsUser(t *testing.T) {
	criu := criuForUsers(t)
	python := harness.Tool(t, "/usr/bin/python3", "python3")
	for kind, source := range notToBeSeen {
		t.Run(kind, func(t *testing.T) {
			j := newUserJob(t, "counter", criu)
			j.write("owner.py", fmt.Sprintf(`
import ctypes, os, socket, time
libc = ctypes.CDLL(None)
here = os.getcwd()
def become():
    os.setgroups([]); os.setresgid(%[1]d, %[1]d, %[1]d); os.setresuid(%[1]d, %[1]d, %[1]d); libc.prctl(4, 1)
%[2]s
open("ready", "w").close()
while True: time.sleep(1)
`, ordinary.Uid, source))
			p := j.start("owner", []string{python, "owner.py"}, &syscall.Credential{})
			for _, name := range []string{p.stdout, p.stderr} {
				if err := os.Chown(name, int(ordinary.Uid), int(ordinary.Gid)); err != nil {
					t.Fatal(err)
				}
			}
			j.readyOr(p, t.Fatalf)
			for _, into := range []string{"-f", "-d"} {
				j.fails(j.command("cr_checkpoint", "--kill", into, "ctx", strconv.Itoa(p.pid)), 1, "Checkpoint failed: Operation not permitted\n- the job has ...")
			}
			if s := stat(p.pid); s == nil || s.state == 'Z' {
				t.Errorf("the program has ended")
			}
			_ = syscall.Kill(p.pid, syscall.SIGKILL)
			j.wait(p)
			j.noContext()
		})
	}
	t.Run("watched", func(t *testing.T) {
		j := newUserJob(t, "counter", criu)
		j.write("watched.py", `
import ctypes, os, time
l = ctypes.CDLL(None)
assert l.inotify_add_watch(l.inotify_init(), b"/etc/passwd", 0x100) == 1
open("ready", "w").close()
while True: time.sleep(1)
`)
		p := j.run(python, "watched.py")
		j.readyOr(p, t.Fatalf)
		if said, status := j.asked(strconv.Itoa(p.pid)); status != 0 {
			t.Errorf("--check: status %d, %q", status, said)
		}
		save := j.command("cr_checkpoint", "--kill", "-f", "ctx", strconv.Itoa(p.pid))
		j.silent(save, j.wait(save))
		j.wait(p)
	})
}

// TestSocketWithoutName: a user's UNIX socket whose name was removed, or is another file's, is
// there again, and the file is left alone.
func TestSocketWithoutName(t *testing.T) {
	python := harness.Tool(t, "/usr/bin/python3", "python3")
	for _, into := range []string{"-f", "-d"} {
		j := newUserJob(t, "counter", criuForUsers(t))
		j.write("lost.py", `import os, socket, time
here = os.getcwd()
names, all = [here + "/removed", here + "/other", here + "/d/e/lost"], []
os.makedirs("d/e")
for name in names:
	all.append(socket.socket(socket.AF_UNIX))
	all[-1].bind(name)
	all[-1].listen()
	os.unlink(name)
os.removedirs("d/e")
open("other", "w").write("other")
open("ready", "w").close()
while not os.access("go", os.F_OK):
	time.sleep(0.01)
assert [s.getsockname() for s in all] == names
assert open("other").read() == "other" and not os.path.exists("removed") and not os.path.exists("d")
os._exit(7)
`)
		p := j.run(python, "lost.py")
		j.readyOr(p, t.Fatalf)
		if said, status := j.asked(strconv.Itoa(p.pid)); status != 0 {
			t.Errorf("--check: status %d, %q", status, said)
		}
		ctx := filepath.Join(j.dir, "ctx")
		save := j.command("cr_checkpoint", "--kill", into, ctx, strconv.Itoa(p.pid))
		j.silent(save, j.wait(save))
		j.wait(p)
		if said, status := j.told("--check", ctx); status != 0 {
			t.Errorf("cr_info --check: status %d, %q", status, said)
		}
		j.write("go", "")
		j.ends(j.again(into, ctx), 7, "", "")
	}
}

// TestLogOfRoot: a program whose standard output is a log that root has opened is saved for
// its user, who cannot have that again, but another one by --keep-stdio.
func TestLogOfRoot(t *testing.T) {
	criu := criuForUsers(t)
	tool(t, "setpriv")
	j := newUserJob(t, "counter", criu)
	j.write("log", "")
	log := filepath.Join(j.dir, "log")
	if err := os.Chown(log, 0, 0); err != nil {
		t.Fatal(err)
	}
	p := j.start("sh", []string{"/bin/sh", "-c", fmt.Sprintf(`exec >log 2>&1; exec setpriv --reuid %d --regid %d --clear-groups sleep 1000`, ordinary.Uid, ordinary.Gid)}, &syscall.Credential{})
	j.pid = p.pid
	j.until("the program to run", func() bool { return comm(p.pid) == "sleep" })
	save := j.command("cr_checkpoint", "--kill", "-f", "ctx", strconv.Itoa(p.pid))
	j.silent(save, j.wait(save))
	j.wait(p)
	p = j.command("cr_restart", "ctx")
	j.fails(p, 13, "Restart failed: Permission denied\n- cannot open "+log+": Permission denied\n...")
	if said, _ := os.ReadFile(p.stderr); !strings.Contains(string(said), "cr_restart --keep-stdio") {
		t.Errorf("cr_restart does not say what helps: %q", said)
	}
	p = j.command("cr_restart", "--keep-stdio", "ctx")
	j.until("the program to run", func() bool { return comm(j.pid) == "sleep" })
	if err := syscall.Kill(j.pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	j.ends(p, 128+int(syscall.SIGTERM), "", "")
}

// TestForeseeAsUser: what a user may not have again since the checkpoint is said by
// cr_info --check, as by cr_restart. When it may, the job is restarted.
func TestForeseeAsUser(t *testing.T) {
	criu := criuForUsers(t)
	python := harness.Tool(t, "/usr/bin/python3", "python3")
	for kind, c := range map[string]struct {
		have, what string
		mode       os.FileMode // which forbids it; 0 for another owner, as of what is mapped the mode is compared
	}{
		"file":        {`f = os.open("what", os.O_RDWR | os.O_CREAT, 0o600)`, "cannot open ", 0o400},
		"mapped":      {`f = os.open("what", os.O_RDWR | os.O_CREAT, 0o600); os.truncate(f, 4096); ctypes.CDLL(None).mmap(None, 4096, 1, 1, f, 0); os.close(f)`, "cannot open ", 0},
		"FIFO":        {`os.mkfifo("what", 0o600); f = os.open("what", os.O_RDONLY | os.O_NONBLOCK)`, "cannot open ", 0o400},
		"directory":   {`os.mkdir("what", 0o700); f = os.open("what", os.O_RDONLY)`, "cannot open ", 0o300},
		"there":       {`os.mkdir("what", 0o700); os.chdir("what")`, "cannot open ", 0o300},
		"UNIX socket": {`os.mkdir("what", 0o700); s = socket.socket(socket.AF_UNIX); s.bind(here + "/what/s"); s.listen()`, "which user nobody may not make again in that directory", 0o500},
	} {
		t.Run(kind, func(t *testing.T) {
			j := newUserJob(t, "counter", criu)
			j.args = []string{python, "-c", fmt.Sprintf(`
import ctypes, os, socket, time
here = os.getcwd()
%s
def put(name, text):
    with open(here + "/new", "w") as f: f.write(text)
    os.rename(here + "/new", here + "/" + name)
n = 0
put("ready", "%%d 0\n" %% os.getpid())
while not os.path.exists(here + "/finish"):
    n += 1
    put("beat", "%%020d\n" %% n)
    time.sleep(.02)
os._exit(42)`, c.have)}
			j.launch()
			ctx := filepath.Join(j.dir, "ctx")
			all := tree(j.pid)
			j.checkpoint(ctx, "--kill", strconv.Itoa(j.pid))
			j.killed(all)
			what := filepath.Join(j.dir, "what")
			before, err := os.Stat(what)
			switch {
			case err != nil:
			case c.mode == 0:
				err = os.Chown(what, 0, 0)
			default:
				err = os.Chmod(what, c.mode)
			}
			if err != nil {
				t.Fatal(err)
			}
			if said, status := j.told("--check", ctx); status != 1 || !strings.Contains(said, c.what) {
				t.Errorf("cr_info --check: %d, %q", status, said)
			}
			p := j.command("cr_restart", ctx)
			if end := j.wait(p); !end.Exited() || end.ExitStatus() == 0 || end.ExitStatus() == 42 {
				t.Errorf("cr_restart: %s", describe(end))
			}
			j.nothing()
			if err := os.Chown(what, int(ordinary.Uid), int(ordinary.Gid)); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(what, before.Mode()); err != nil {
				t.Fatal(err)
			}
			if said, status := j.told("--check", ctx); status != 0 {
				t.Errorf("cr_info --check: %d, %q", status, said)
			}
			j.restart(ctx)
			j.finish()
		})
	}
}

// TestCapabilitiesAsUser: a user's job is restored whose bounding set, securebits and
// inheritable capabilities are others than those of cr_restart.
func TestCapabilitiesAsUser(t *testing.T) {
	criu := criuForUsers(t)
	for _, option := range []string{"--bounding-set=-chown", "--securebits=+noroot", "--inh-caps=+chown"} {
		t.Run(option, func(t *testing.T) {
			j := newUserJob(t, "counter", criu)
			j.cred = nil
			j.args = slices.Concat([]string{tool(t, "setpriv"), option, "--reuid", fmt.Sprint(ordinary.Uid), "--regid", fmt.Sprint(ordinary.Gid), "--clear-groups"}, j.args)
			j.launch()
			for _, name := range []string{j.proc.stdout, j.proc.stderr} {
				if err := os.Chown(name, int(ordinary.Uid), int(ordinary.Gid)); err != nil {
					t.Fatal(err)
				}
			}
			j.cred = &ordinary
			ctx := filepath.Join(j.dir, "ctx")
			for n := range 2 {
				all := tree(j.pid)
				j.checkpoint(ctx, "--clobber", "--kill", strconv.Itoa(j.pid))
				j.killed(all)
				if said, status := j.told("--check", ctx); status != 0 || n == 0 && !strings.Contains(said, "what only root may set becomes that of cr_restart: ") {
					t.Errorf("cr_info --check: %d, %q", status, said)
				}
				j.restart(ctx)
			}
			j.finish()
		})
	}
}

// TestLibraryReplaced: a user's job that has a library of root's mapped, which root has
// replaced since, as an update does, is restored: the old one is made again elsewhere, as
// the user's own.
func TestLibraryReplaced(t *testing.T) {
	j := newUserJob(t, "counter", criuForUsers(t))
	system := t.TempDir()
	for dir := system; dir != "/" && dir != os.TempDir(); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	program := filepath.Join(system, "program")
	copyProgram := func() {
		text, err := os.ReadFile(j.args[0])
		if err == nil {
			err = os.WriteFile(program+".new", text, 0o755)
		}
		if err == nil {
			err = os.Rename(program+".new", program)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	copyProgram()
	old := j.args
	j.args = append([]string{program}, old[1:]...)
	j.launch()
	j.args = old
	copyProgram()
	for range 2 {
		all := tree(j.pid)
		ctx := filepath.Join(j.dir, "ctx")
		j.checkpoint(ctx, "--clobber", "--kill", strconv.Itoa(j.pid))
		j.killed(all)
		j.restart(ctx)
	}
	entries, err := os.ReadDir(system)
	if err != nil || len(entries) != 1 {
		t.Errorf("beside the program are %v, %v", entries, err)
	}
	j.finish()
}

// TestHungUp: terminals that have hung up are restored as such, also for a user who may not
// open the device that CRIU takes. Not beside other tests, whose terminals need their numbers.
func TestHungUp(t *testing.T) {
	for _, j := range []*job{newJob(t, "hung"), newUserJob(t, "hung", criuForUsers(t))} {
		j.launch()
		for n := range *cycles {
			j.cycle(program{}, n)
		}
		j.finish()
	}
}

// TestOtherGroup: a process of the same user, but with another group, may not be saved with this
// one, nor be restarted; with its own group both succeed.
func TestOtherGroup(t *testing.T) {
	engine(t)
	j := newUserJob(t, "counter", criuForUsers(t))
	other := syscall.Credential{Uid: ordinary.Uid, Gid: 12345, Groups: []uint32{ordinary.Gid}}
	j.cred = &other
	j.launch()
	pid, ctx := strconv.Itoa(j.pid), filepath.Join(j.dir, "ctx")
	j.cred = &ordinary
	says := fmt.Sprintf("process %s (counter) has the group %d and not ", pid, other.Gid)
	if said, status := j.asked(pid); status != 1 || !strings.Contains(said, says) {
		t.Errorf("--check: status %d, %q", status, said)
	}
	save := j.command("cr_checkpoint", "--kill", "-f", ctx, pid)
	end := j.wait(save)
	if stderr, _ := os.ReadFile(save.stderr); !end.Exited() || end.ExitStatus() != 1 || !strings.Contains(string(stderr), says) {
		t.Errorf("cr_checkpoint: %s: %s", describe(end), stderr)
	}
	j.noContext()
	j.cred = &other
	all := tree(j.pid)
	j.checkpoint(ctx, "--kill", pid)
	j.killed(all)
	j.cred = &ordinary
	says = fmt.Sprintf("process %s had the primary group %d", pid, other.Gid)
	if said, status := j.told("--check", ctx); status != 1 || !strings.Contains(said, says) {
		t.Errorf("cr_info --check: status %d, %q", status, said)
	}
	restart := j.command("cr_restart", ctx)
	if end := j.wait(restart); !end.Exited() || end.ExitStatus() != 1 {
		t.Errorf("cr_restart: %s", describe(end))
	}
	j.cred = &other
	j.restart(ctx)
	j.finish()
}

// TestWorkingDirectoryAsUser: a user's commands work where that user may search the working
// directory only, or not even that, as after sudo(8), if the context is elsewhere.
func TestWorkingDirectoryAsUser(t *testing.T) {
	engine(t)
	for _, mode := range []os.FileMode{0o711, 0o700} {
		t.Run(fmt.Sprintf("%o", mode), func(t *testing.T) {
			j := newUserJob(t, "counter", criuForUsers(t))
			// No answer of this criu's has been remembered there.
			runtime := j.private("runtime", &ordinary, 0o700)
			j.env = append(j.env, "XDG_RUNTIME_DIR="+runtime)
			j.launch()
			there := j.private("there", &syscall.Credential{}, mode)
			// Root changes to the directory, and becomes the user there.
			j.cred = nil
			by := []string{"/bin/sh", "-c", `cd "$0" && exec "$@"`, there, tool(t, "setpriv"),
				"--reuid", fmt.Sprint(ordinary.Uid), "--regid", fmt.Sprint(ordinary.Gid), "--clear-groups"}
			ctx, pid := filepath.Join(j.dir, "ctx"), strconv.Itoa(j.pid)
			for _, args := range [][]string{
				{"cr_checkpoint", "--check", "-f", ctx, pid},
				{"cr_checkpoint", "--kill", "-f", ctx, pid},
				{"cr_info", "--check", ctx},
			} {
				p := j.wrapped(by, args[0], args[1:]...)
				if end := j.wait(p); end != 0 {
					stderr, _ := os.ReadFile(p.stderr)
					t.Fatalf("%v: %s: %s", args, describe(end), stderr)
				}
			}
		})
	}
}
