//go:build real

package real

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// waits is the end of a program in Python that has done what a test is about: it writes a file,
// waits for another, calls ok(), and ends with 7 if that is true. It ends with 77 where the
// machine does not have what the program needs.
const waits = `
open("ready", "w").close()
while not os.access("go", os.F_OK):
	time.sleep(0.01)
os._exit(7 if ok() else 8)
`

// prepare has Python run a program that ends as waits.
func (j *job) prepare(text string) *process {
	j.t.Helper()
	j.write("program.py", "import fcntl, os, signal, socket, sys, time\nok = lambda: True\n"+
		"sys.excepthook = lambda *e: (sys.__excepthook__(*e), os._exit(77))\n"+text+waits)
	p := j.run("/usr/bin/python3", "program.py")
	j.until("the program to be ready", func() bool { s := stat(p.pid); return j.exists("ready") || s == nil || s.state == 'Z' })
	if !j.exists("ready") {
		end := j.wait(p)
		stderr, _ := os.ReadFile(p.stderr)
		j.t.Skipf("the program cannot run here: %s: %s", describe(end), stderr)
	}
	return p
}

// savedAndEnded saves a program that prepare has started, and that runs on, and has it end well.
func (j *job) savedAndEnded(p *process) (ctx string) {
	j.t.Helper()
	ctx = filepath.Join(j.dir, "ctx")
	save := j.command("cr_checkpoint", "-f", ctx, strconv.Itoa(p.pid))
	j.silent(save, j.wait(save))
	j.write("go", "")
	j.ends(p, 7, "", "")
	return ctx
}

// TestRefusedState: what CRIU cannot save, or not restore, is refused by --check as by a
// checkpoint, and the program runs on.
func TestRefusedState(t *testing.T) {
	engine(t)
	for _, test := range []struct {
		name, program string
		status        int
		says          string
	}{
		{"group", `s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
s.bind((0, 0))
s.setsockopt(270, 1, 33)`, 95, "has a netlink socket that listens to more groups than 32, or to one with a higher number open as descriptor 3"},
		{"unbound", `s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
s.setsockopt(270, 1, 1)`, 95, "has a netlink socket that listens to a group and was not bound open as descriptor 3"},
		{"credentials", `a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
b.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
a.send(b"abc")
ok = lambda: b.recv(9) == b"abc"`, 16, "has a UNIX socket with a message in its queue that says who has sent it"},
		{"reset", `a, b = socket.socketpair()
b.send(b"abc")
a.close() # with what it has not read
def ok():
	try:
		b.recv(9)
	except ConnectionResetError:
		return True`, 16, "has a socket open as descriptor 4 with an error that it has not read, and that criu would take"},
		{"overrun", `s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 2) # NETLINK_USERSOCK
s.bind((0, 0))
s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)
sender = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 2)
s.setsockopt(270, 1, 5) # NETLINK_ADD_MEMBERSHIP
for _ in range(9):
	try:
		sender.sendto(bytes(1000), (0, 1 << 4))
	except OSError:
		pass
def ok():
	try:
		s.recv(9)
	except OSError as e:
		return e.errno == 105 # ENOBUFS`, 16, "has a socket open as descriptor 3 with an error that it has not read, and that criu would take"},
		{"thread", `fd = os.pidfd_open(os.getpid(), os.O_EXCL)`, 95, "has a descriptor of a thread (pidfd_open(2) with PIDFD_THREAD)"},
		{"continued", `signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCONT])
os.kill(os.getpid(), signal.SIGCONT)
ok = lambda: signal.SIGCONT in signal.sigpending()`, 16, "has SIGCONT pending, which it blocks, and criu cannot restore that in a first process"},
		{"trap", `signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTRAP])
os.kill(os.getpid(), signal.SIGTRAP)
ok = lambda: signal.SIGTRAP in signal.sigpending()`, 16, "has a SIGTRAP pending"},
		{"pressure", `fd = os.open("/proc/pressure/cpu", os.O_RDWR | os.O_NONBLOCK)
os.write(fd, b"some 500000 2000000")`, 95, "watches the pressure on resources by /proc/pressure/cpu (descriptor 3)"},
		{"lease", `signal.signal(signal.SIGIO, lambda *_: os._exit(9))
f = open("file", "w")
f.write("12345678"); f.flush()
fcntl.fcntl(f, fcntl.F_SETLEASE, fcntl.F_WRLCK)
os.remove("file")
ok = lambda: fcntl.fcntl(f, fcntl.F_GETLEASE) == fcntl.F_WRLCK`, 95, "a removed file, with a lease for writing (F_SETLEASE), which criu breaks"},
		{"address", `s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_IP, 15, 1) # IP_FREEBIND
s.bind(("192.0.2.1", 0))`, 95, "has a socket open as descriptor 3 with the address 192.0.2.1, which this machine does not have"},
		{"watched link", `import ctypes
os.symlink("somewhere", "link")
libc = ctypes.CDLL(None)
assert libc.inotify_add_watch(libc.inotify_init1(0), b"link", 0x2000006) > 0 # IN_DONT_FOLLOW`, 95, "watches the symbolic link "},
		{"watched socket", `import ctypes
s = socket.socket(socket.AF_UNIX)
s.bind("socket")
libc = ctypes.CDLL(None)
assert libc.inotify_add_watch(libc.inotify_init1(0), b"socket", 6) > 0`, 95, "watches the UNIX socket "},
		{"time", `import ctypes
if ctypes.CDLL(None).unshare(0x80) != 0: # CLONE_NEWTIME
	raise OSError`, 95, "has made a time namespace for its children (unshare(2) with CLONE_NEWTIME)"},
	} {
		t.Run(test.name, func(t *testing.T) {
			j := newJob(t, "refusedstate")
			p := j.prepare(test.program)
			pid := strconv.Itoa(p.pid)
			if said, status := j.asked(pid); status != test.status || !strings.Contains(said, test.says) {
				t.Errorf("--check: status %d, %q", status, said)
			}
			save := j.command("cr_checkpoint", "--kill", "-f", "ctx", pid)
			end := j.wait(save)
			if stderr, _ := os.ReadFile(save.stderr); !end.Exited() || end.ExitStatus() != test.status || !strings.Contains(string(stderr), test.says) {
				t.Errorf("cr_checkpoint: %s: %s", describe(end), stderr)
			}
			j.noContext()
			j.write("go", "")
			j.ends(p, 7, "", "")
			j.nothing()
		})
	}
}

// TestWriteLease: a job with a lease for writing keeps it, and is not told to give it up, if it
// runs on after a checkpoint and if it is restarted.
func TestWriteLease(t *testing.T) {
	engine(t)
	j := newJob(t, "writelease")
	p := j.prepare(`signal.signal(signal.SIGIO, lambda *_: os._exit(9))
f = open("file", "w")
f.write("12345678"); f.flush()
fcntl.fcntl(f, fcntl.F_SETLEASE, fcntl.F_WRLCK)
ok = lambda: fcntl.fcntl(f, fcntl.F_GETLEASE) == fcntl.F_WRLCK`)
	ctx := j.savedAndEnded(p)
	j.ends(j.again(ctx), 7, "", "")
	j.nothing()
}

// TestRawSocket: a raw socket can be saved whatever its packets are, and --check says so.
func TestRawSocket(t *testing.T) {
	engine(t)
	j := newJob(t, "rawsocket")
	p := j.prepare(`s = socket.socket(socket.AF_INET, socket.SOCK_RAW, 132) # SCTP
ok = lambda: s.getsockopt(socket.SOL_SOCKET, 38) == 132 # SO_PROTOCOL`)
	if said, status := j.asked(strconv.Itoa(p.pid)); status != 0 {
		t.Errorf("--check: status %d, %q", status, said)
	}
	ctx := j.savedAndEnded(p)
	j.ends(j.again(ctx), 7, "", "")
	j.nothing()
}

// TestPortTaken: cr_info --check and a restart say that another program has the job's port.
func TestPortTaken(t *testing.T) {
	engine(t)
	j := newJob(t, "porttaken")
	ctx := j.savedAndKilled(j.prepare(`s = socket.socket()
s.bind(("127.0.0.1", 0))
s.listen()
open("port", "w").write(str(s.getsockname()[1]))`))
	address := "127.0.0.1:" + j.read("port")
	if said, status := j.told("--check", ctx); status != 0 {
		t.Errorf("free: status %d, %q", status, said)
	}
	other, err := net.Listen("tcp4", address)
	if err != nil {
		t.Fatal(err)
	}
	if said, status := j.told("--check", ctx); status != 1 || !strings.Contains(said, fmt.Sprintf("the network address %s of the job is in use", address)) {
		t.Errorf("taken: status %d, %q", status, said)
	}
	j.fails(j.command("cr_restart", ctx), int(unix.EADDRINUSE), "Restart failed: Address already in use\n...")
	other.Close()
	j.write("go", "")
	j.ends(j.again(ctx), 7, "", "")
	j.nothing()
}

// TestSocketOptions: what CRIU does not set again of sockets, or sets to something else.
func TestSocketOptions(t *testing.T) {
	engine(t)
	for _, test := range []struct{ name, program string }{
		{"filter", `import struct, ctypes
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("127.0.0.1", 0))
all = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0xffff)) # BPF_RET: accept
s.setsockopt(socket.SOL_SOCKET, 26, struct.pack("HP", 1, ctypes.addressof(all))) # SO_ATTACH_FILTER
s.setsockopt(socket.SOL_SOCKET, 44, 1) # SO_LOCK_FILTER
def ok():
	try:
		s.setsockopt(socket.SOL_SOCKET, 27, 0) # SO_DETACH_FILTER
	except PermissionError:
		return True`},
		{"reuse", `def pair(on):
	l = socket.socket()
	l.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, on)
	l.bind(("127.0.0.1", 0))
	l.listen()
	c = socket.create_connection(l.getsockname())
	return l, c, l.accept()[0]
off, on = pair(0), pair(1)
reuse = lambda list: [s.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) for s in list]
ok = lambda: reuse(off) == [0, 0, 0] and reuse(on) == [1, 0, 1]`},
		{"connected", `def connected(group):
	s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 2) # NETLINK_USERSOCK
	s.connect((0, group))
	return s
s, other = connected(0), connected(1 << 31)
ok = lambda: s.getpeername() == (0, 0) and other.getpeername() == (0, 1 << 31)`},
	} {
		t.Run(test.name, func(t *testing.T) {
			j := newJob(t, "socketoptions")
			p := j.prepare(test.program)
			ctx := j.savedAndEnded(p)
			j.ends(j.again(ctx), 7, "", "")
			j.nothing()
		})
	}
}

// TestEndedConnections: a job is restored also where it has made connections after it was saved,
// whose addresses the system keeps for a minute, and it has set no SO_REUSEADDR.
func TestEndedConnections(t *testing.T) {
	engine(t)
	for _, address := range []string{"127.0.0.1", "0.0.0.0", "::1", "::"} {
		t.Run(address, func(t *testing.T) {
			j := newJob(t, "endedconnections")
			p := j.prepare(fmt.Sprintf(`address = %q
family = socket.AF_INET6 if ":" in address else socket.AF_INET
def listen(address):
	l = socket.socket(family)
	l.bind((address, 0))
	l.listen()
	return l
l = listen(address)
def pair():
	c = socket.socket(family)
	c.connect(l.getsockname())
	a, _ = l.accept()
	return a, c
before = pair()
def ok():
	a, c = pair()
	a.send(b"x")
	ended = c.recv(1) == b"x"
	for s in a, c, *before: # a is the first to be closed: its address is kept
		s.close()
	return ended`, address))
			ctx := j.savedAndEnded(p)
			if said, status := j.told("--check", ctx); status != 0 {
				t.Errorf("cr_info --check: status %d, %q", status, said)
			}
			j.ends(j.again(ctx), 7, "", "")
			j.nothing()
		})
	}
}
