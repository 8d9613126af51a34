//go:build real

package real

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"blcr-cli/test/harness"
)

// asked runs cr_checkpoint --check and returns what it prints, and its exit status.
func (j *job) asked(args ...string) (said string, status int) {
	j.t.Helper()
	p := j.command("cr_checkpoint", append([]string{"--check"}, args...)...)
	end := j.wait(p)
	text, _ := os.ReadFile(p.stdout)
	if !end.Exited() {
		j.t.Fatalf("cr_checkpoint --check: %s", describe(end))
	}
	return string(text), end.ExitStatus()
}

// noContext checks that there is no context, and nothing that was to become one.
func (j *job) noContext() {
	j.t.Helper()
	for _, pattern := range []string{"/ctx*", "/.ctx*"} {
		if names, _ := filepath.Glob(j.dir + pattern); len(names) > 0 {
			j.t.Errorf("left: %v", names)
		}
	}
}

// TestCheck: --check says of a job that it can be saved, and leaves job and target alone.
func TestCheck(t *testing.T) {
	engine(t)
	j := newJob(t, "counter")
	j.launch()
	ctx := filepath.Join(j.dir, "ctx")
	said, status := j.asked("-f", ctx, strconv.Itoa(j.pid))
	if status != 0 || !strings.HasPrefix(said, "1 process with ") || !strings.Contains(said, " would be saved by criu ") {
		t.Errorf("status %d, %q", status, said)
	}
	j.noContext()
	j.advances()
	j.checkpoint(ctx, strconv.Itoa(j.pid))
	j.finish()
}

// TestCheckRefused: the status of --check is that of the checkpoint, which says the same.
func TestCheckRefused(t *testing.T) {
	engine(t)
	for _, kind := range []string{"shm", "userfaultfd", "io_uring", "linked", "files", "memory"} {
		t.Run(kind, func(t *testing.T) {
			j := newJob(t, "counter")
			j.hold(kind)
			id := strconv.Itoa(j.pid)
			said, status := j.asked(id)
			p := j.command("cr_checkpoint", "-f", filepath.Join(j.dir, "ctx"), id)
			end := j.wait(p)
			text, _ := os.ReadFile(p.stderr)
			if end != syscall.WaitStatus(status<<8) || status == 0 {
				t.Errorf("--check ends with %d, the checkpoint: %s", status, describe(end))
			}
			// The second line is the reason, and the last what to do.
			lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
			for _, line := range []string{lines[min(1, len(lines)-1)], lines[len(lines)-1]} {
				if !strings.Contains(said, strings.TrimPrefix(line, "- ")) {
					t.Errorf("--check says %q, without %q", said, line)
				}
			}
			_ = syscall.Kill(j.pid, syscall.SIGKILL)
			j.wait(j.proc)
		})
	}
}

// waitingChild makes a child, p, of a program of Python's.
const waitingChild = `
p = os.fork()
if p == 0:
    while True: time.sleep(1)
`

// strange is programs of Python's that become something that CRIU would not restore as
// it was, and then say so.
var strange = map[string]string{
	"thread's directory": `
import ctypes, threading
l = ctypes.CDLL(None)
def f():
    l.unshare(0x200); os.chdir("/usr"); ready()
threading.Thread(target=f).start()`,
	"thread's descriptors": `
import ctypes, threading
l = ctypes.CDLL(None)
def f():
    l.unshare(0x400); ready()
threading.Thread(target=f).start()`,
	"child's network": `
import ctypes
if os.fork() == 0:
    if ctypes.CDLL(None).unshare(0x40000000) == 0: ready()
os.wait()`,
	"child's mounts": `
import ctypes
if os.fork() == 0:
    if ctypes.CDLL(None).unshare(0x20000) == 0: ready()
os.wait()`,
	"file that signals a thread": `
import fcntl, struct, threading
def f():
    fcntl.fcntl(os.pipe()[0], 15, struct.pack("ii", 0, threading.get_native_id())); ready()
threading.Thread(target=f).start()`,
	"regular file that signals a thread": `
import fcntl, struct, threading
def f():
    fcntl.fcntl(os.open("file", os.O_CREAT | os.O_RDWR), 15, struct.pack("ii", 0, threading.get_native_id())); ready()
threading.Thread(target=f).start()`,
	"device that signals a thread": `
import fcntl, struct, threading
def f():
    fcntl.fcntl(os.open("/dev/zero", os.O_RDWR), 15, struct.pack("ii", 0, threading.get_native_id())); ready()
threading.Thread(target=f).start()`,
	"file of a thread": `
import threading
def f():
    os.open("/proc/self/task/%d/stat" % threading.get_native_id(), os.O_RDONLY); ready()
threading.Thread(target=f).start()`,
	"file of an ended thread": `
import threading
def f():
    os.open("/proc/self/task/%d/stat" % threading.get_native_id(), os.O_RDONLY)
t = threading.Thread(target=f)
t.start()
t.join()
ready()`,
	"child's descriptor": waitingChild + `os.open("/proc/%d/fdinfo/0" % p, os.O_RDONLY)
ready()`,
	"ended process's descriptor": waitingChild + `os.open("/proc/%d/fdinfo/0" % p, os.O_RDONLY)
os.kill(p, 9)
os.wait()
ready()`,
	"ended process's descriptors": waitingChild + `os.open("/proc/%d/fd" % p, os.O_RDONLY)
os.kill(p, 9)
os.wait()
ready()`,
	"watched file system": `
import ctypes
l = ctypes.CDLL(None)
if l.fanotify_mark(l.fanotify_init(0x200, 0), 0x101, ctypes.c_uint64(0x20), -100, b"/tmp") == 0: ready()`,
	"unmapped vDSO": `
import ctypes, signal
a, b = [int(n, 16) for l in open("/proc/self/maps") if "[vdso]" in l for n in l.split()[0].split("-")]
if ctypes.CDLL(None).munmap(ctypes.c_void_p(a), ctypes.c_size_t(b - a)) == 0:
    os.open(here + "/ready", os.O_CREAT) # open() asks for the time
    while True: signal.pause()`,
	"memfd": `
f = os.memfd_create("p", os.MFD_CLOEXEC)
os.write(f, open("/bin/sh", "rb").read())
os.execve("/proc/self/fd/%d" % f, ["sh", "-c", "echo >ready; while :; do sleep 1; done"], os.environ)`,
}

// TestPreflight: such a program is refused with 95, before anything is done to it, and
// --check says the same.
func TestPreflight(t *testing.T) {
	engine(t)
	python := harness.Tool(t, "/usr/bin/python3", "python3")
	for kind, source := range strange {
		t.Run(kind, func(t *testing.T) {
			j := newJob(t, "counter")
			j.write("strange.py", "import os, time\nhere = os.getcwd()\ndef ready():\n    open(here + '/ready', 'w').close()\n    while True: time.sleep(1)\n"+source)
			p := j.start("strange", []string{python, "strange.py"}, nil)
			j.readyOr(p, t.Skipf)
			j.refuses(p, 95, "process ")
		})
	}
}

// readyOr waits until a program has made the file "ready". If it ends before, it calls fail
// with how.
func (j *job) readyOr(p *process, fail func(format string, args ...any)) {
	j.t.Helper()
	j.until("the program to be ready", func() bool {
		select {
		case <-p.ended:
			text, _ := os.ReadFile(p.stderr)
			fail("it has ended: %s\n%s", describe(p.end), text)
		default:
		}
		return j.exists("ready")
	})
}

// refuses checks that --check and a checkpoint with --kill have that status and say that
// about a program, and that it runs on. It ends the program.
func (j *job) refuses(p *process, status int, text string) {
	j.t.Helper()
	said, checked := j.asked(strconv.Itoa(p.pid))
	if checked != status || !strings.HasPrefix(said, "process ") || !strings.Contains(said, text) {
		j.t.Errorf("--check: status %d, %q", checked, said)
	}
	save := j.command("cr_checkpoint", "--kill", "-f", filepath.Join(j.dir, "ctx"), strconv.Itoa(p.pid))
	end := j.wait(save)
	if stderr, _ := os.ReadFile(save.stderr); end != syscall.WaitStatus(status<<8) || !strings.Contains(string(stderr), text) {
		j.t.Errorf("cr_checkpoint: %s, %q", describe(end), stderr)
	}
	select {
	case <-p.ended:
		j.t.Errorf("the program has ended: %s", describe(p.end))
	default:
	}
	_ = syscall.Kill(-p.pid, syscall.SIGKILL)
	j.wait(p)
	j.noContext()
}

// refusedByCRIU is programs of Python's that CRIU itself refuses, with the status.
var refusedByCRIU = map[string]struct {
	status int
	source string
}{
	"packet pipe": {95, `os.pipe2(os.O_DIRECT)`},
	"pidfd":       {95, `os.pidfd_open(os.getppid())`},
	"tun device":  {95, `os.open("/dev/net/tun", os.O_RDWR)`},
	"misc device": {95, `os.open("/dev/loop-control", os.O_RDWR)`},
	"tty0":        {95, `os.open("/dev/tty0", os.O_RDWR | os.O_NOCTTY)`},
	"deep": {36, `
for n in range(20):
    os.mkdir("d" * 240)
    os.chdir("d" * 240)`},
	"deep file": {36, `
for n in range(16):
    os.mkdir("d" * 240)
    os.chdir("d" * 240)
n = 4095 - len(os.getcwd()) - 1
if n > 255:
    os.mkdir("e" * 200)
    os.chdir("e" * 200)
    n -= 201
os.open("f" * n, os.O_CREAT | os.O_RDWR)
os.chdir(here)`},
	"deep mapping": {36, `
import ctypes
for n in range(17):
    os.mkdir("d" * 240)
    os.chdir("d" * 240)
f = os.open("f", os.O_CREAT | os.O_RDWR)
os.truncate(f, 4096)
ctypes.CDLL(None).mmap(None, 4096, 3, 1, f, 0)
os.close(f)
os.chdir(here)`},
	"hash map": {95, `
import ctypes, struct
a = struct.pack("IIIII", 1, 4, 4, 1, 0) + bytes(100)
if ctypes.CDLL(None).syscall(321, 0, ctypes.create_string_buffer(a), len(a)) < 0: os._exit(1)`},
	"watched /proc": {95, `
import ctypes
l = ctypes.CDLL(None)
if l.inotify_add_watch(l.inotify_init(), b"/proc/self", 0x100) != 1: os._exit(1)`},
	"removed in memory": {95, `
import ctypes
l = ctypes.CDLL(None)
name = "/dev/shm/blcr-cli-watched-%d" % os.getpid()
f = os.open(name, os.O_CREAT | os.O_RDWR)
w = l.inotify_add_watch(l.inotify_init(), name.encode(), 0x100)
os.unlink(name)
if w != 1: os._exit(1)`},
	"huge memfd": {95, `
import ctypes
if ctypes.CDLL(None).memfd_create(b"h", 4) < 0: os._exit(1)`},
	"message queue": {95, `
import ctypes
name = b"/blcr-cli-%d" % os.getpid()
l = ctypes.CDLL(None)
if l.mq_open(name, os.O_CREAT | os.O_RDWR, 0o600, None) < 0: os._exit(1)
l.mq_unlink(name)`},
	"alarm timer": {95, `
import ctypes
if ctypes.CDLL(None).timerfd_create(8, 0) < 0: os._exit(1)`},
	"name of a socket": {95, `
import socket
s = socket.socket(socket.AF_UNIX)
s.bind("socket")
os.open("socket", os.O_PATH)`},
	"name of a FIFO": {95, `
os.mkfifo("fifo")
os.open("fifo", os.O_PATH)`},
	"MPTCP": {95, `
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)`},
	"VSOCK": {95, `
import socket
s = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)`},
	"corked": {16, `
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_UDP, 1, 1)`},
	"netlink": {16, `
import socket, struct
s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
s.bind((0, 0))
s.send(struct.pack("IHHII", 20, 18, 0x301, 1, 0) + bytes(4))`},
	"UDP message": {16, `
import socket
a, b = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for i in range(2))
a.bind(("127.0.0.1", 0))
b.sendto(b"x", a.getsockname())`},
	"inotify event": {16, `
import ctypes
l = ctypes.CDLL(None)
l.inotify_add_watch(l.inotify_init(), b".", 0x100)
open("created", "w").close()`},
	"core file": {16, `
import resource
resource.setrlimit(resource.RLIMIT_CORE, (1 << 20, 1 << 20))
p = os.fork()
if p == 0: os.abort()
if os.waitid(os.P_PID, p, os.WEXITED | os.WNOWAIT).si_code != os.CLD_DUMPED: raise SystemExit("no core file")`},
	"TCP urgent": {16, `
import socket
l = socket.create_server(("127.0.0.1", 0))
c = socket.create_connection(l.getsockname())
s, _ = l.accept()
s.send(b"x", socket.MSG_OOB)
import select
select.select([], [], [c])`},
	"terminal's output": {16, `
master, slave = os.openpty()
os.write(slave, b"last words")
os.close(slave)`},
	"empty message": {16, `
import socket
a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
a.send(b"")
a.send(b"x")`},
	"empty record": {16, `
import socket
a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
a.send(b"")`},
	"urgent byte": {16, `
import socket
a, b = socket.socketpair()
a.send(b"x", socket.MSG_OOB)`},
	"TCP pending": {16, `
import socket
l = socket.create_server(("127.0.0.1", 0))
c = socket.create_connection(l.getsockname())`},
	"UNIX pending": {16, `
import socket
l = socket.socket(socket.AF_UNIX)
l.bind(here + "/socket")
l.listen()
c = socket.socket(socket.AF_UNIX)
c.connect(here + "/socket")
c.send(b"x")`},
	"UNIX closed": {16, `
import socket
l = socket.socket(socket.AF_UNIX)
l.bind(here + "/socket")
l.listen()
c = socket.socket(socket.AF_UNIX)
c.connect(here + "/socket")
c.close()`},
}

// TestCheckAgrees: --check has the status of the checkpoint, which is that of CRIU's refusal.
func TestCheckAgrees(t *testing.T) {
	engine(t)
	python := harness.Tool(t, "/usr/bin/python3", "python3")
	for kind, c := range refusedByCRIU {
		t.Run(kind, func(t *testing.T) {
			j := newJob(t, "counter")
			j.write("refused.py", "import os, time\nhere = os.getcwd()\n"+c.source+"\nopen(here + '/ready', 'w').close()\nwhile True: time.sleep(1)\n")
			p := j.start("refused", []string{python, "refused.py"}, nil)
			j.readyOr(p, t.Skipf)
			j.refuses(p, c.status, "process ")
		})
	}
}
