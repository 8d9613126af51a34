//go:build real

package real

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Sessions, process groups and terminals of a job that joins cr_restart's, as it does
// without --restore-sid.

// savedPython starts a program of Python's, saves and ends it when it is ready, and tells it to go
// on when it is restarted.
func (j *job) savedPython(program string) {
	j.t.Helper()
	p := j.run("/usr/bin/python3", program)
	j.until("the program to be ready", func() bool { return j.exists("ready") })
	save := j.command("cr_checkpoint", "--kill", "-f", "ctx", strconv.Itoa(p.pid))
	j.silent(save, j.wait(save))
	j.wait(p)
	j.write("go", "")
}

// TestOwnTerminal: a program on a pseudo terminal of the job's own, as under script(1), is
// still interrupted by it, and ends when it is closed.
func TestOwnTerminal(t *testing.T) {
	engine(t)
	for _, option := range []string{"", "--no-restore-pid", "--restore-sid"} {
		t.Run("way"+option, func(t *testing.T) {
			j := newJob(t, "ownterminal")
			j.write("terminal.py", `import os, pty, signal, sys, time
child, master = pty.fork()
if child == 0:
	signal.signal(signal.SIGINT, lambda *_: print("interrupted", flush=True))
	signal.signal(signal.SIGHUP, lambda *_: os._exit(5))
	print("begun", flush=True)
	while True:
		time.sleep(0.01)
def until(text):
	got = b""
	while text not in got:
		got += os.read(master, 100)
until(b"begun")
open("ready", "w").close()
while not os.path.exists("go"):
	time.sleep(0.01)
os.write(master, b"\x03")
until(b"interrupted")
os.close(master)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
`)
			j.savedPython("terminal.py")
			args := []string{"ctx"}
			if option != "" {
				args = []string{option, "ctx"}
			}
			j.ends(j.command("cr_restart", args...), 5, "", "")
			j.nothing()
		})
	}
}

// TestSessionsBelow: sessions below one that is kept come back, however they have come to be.
func TestSessionsBelow(t *testing.T) {
	engine(t)
	for _, test := range []struct {
		name, program string
		kept          bool
	}{
		{"leader", "leader()", true},
		{"leader below a leader", "leader(); below(os.setsid)", true},
		{"born before the second", "leader(); below(lambda: below(lambda: None) or os.setsid())", true},
		{"born before the first", "below(lambda: None); leader()", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			j := newJob(t, "below")
			j.write("terminal.py", `import fcntl, os, sys, termios, time
master, slave = os.openpty()
def leader():
	os.setsid()
	fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
def stay():
	while not os.path.exists("end"):
		time.sleep(0.01)
	os._exit(0)
def below(first):
	done = os.pipe()
	if os.fork() == 0:
		first()
		os.write(done[1], b"x")
		stay()
	os.read(done[0], 1)
child = os.fork()
if child == 0:
	`+test.program+`
	open("ready", "w").close()
	while not os.path.exists("go"):
		time.sleep(0.01)
	try:
		os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
		has = True
	except OSError:
		has = False
	open("end", "w").close()
	os._exit(5 if has else 6)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
`)
			j.savedPython("terminal.py")
			want := 6
			if test.kept {
				want = 5
			}
			j.ends(j.command("cr_restart", "ctx"), want, "", "")
			j.nothing()
		})
	}
}

// TestLateSession: a child that was started before its parent has made a session cannot have the
// older session again, which is said, and the job is restored without that.
func TestLateSession(t *testing.T) {
	engine(t)
	j := newJob(t, "latesession")
	j.write("late.py", `import os, sys, time
child = os.fork()
if child == 0:
	older = os.fork()
	if older != 0:
		os.setsid()
		open("ready", "w").close()
	while not os.path.exists("go"):
		time.sleep(0.01)
	os._exit(0)
os.waitpid(child, 0)
sys.exit(5)
`)
	j.savedPython("late.py")
	j.fails(j.command("cr_restart", "--restore-sid", "ctx"), int(unix.EOPNOTSUPP), "Restart failed: Operation not supported\n- a process was started by one that has made a session (setsid(2)) afterwards...")
	j.write("go", "")
	j.ends(j.command("cr_restart", "ctx"), 5, "", "")
	j.nothing()
}

// TestTakenTerminal: a pseudo terminal of the job's own is another one if its number is in
// use, or much higher than any that is.
func TestTakenTerminal(t *testing.T) {
	engine(t)
	for _, test := range []struct {
		name           string
		before, beside int // terminals that there are when it is made, and when it is restored
	}{
		{"in use", 0, 3},
		{"high", 60, 0},
		{"the same", 0, 0},
		{"in use meanwhile", 0, 0},
		{"in use without a name", 0, 0},
	} {
		for _, option := range []string{"--restore-pid", "--no-restore-pid"} {
			t.Run(test.name+option, func(t *testing.T) {
				j := newJob(t, "taken")
				j.write("terminal.py", fmt.Sprintf(`import os, pty, sys, time
others = [os.openpty() for _ in range(%d)]
master, slave = os.openpty()
hung, gone = os.openpty() # one of which the other end is closed
os.close(hung)
for m, s in others:
	os.close(m)
	os.close(s)
child = os.fork()
if child == 0:
	os.setsid()
	os.close(os.open(os.ttyname(slave), os.O_RDWR)) # it controls this one now
open("ready", "w").close()
while not os.path.exists("go"):
	time.sleep(0.01)
if child == 0:
	line = os.read(slave, 100)
	tty = os.open("/dev/tty", os.O_RDWR)
	os.write(tty, b"got " + line + os.fstat(slave).st_rdev.to_bytes(4, "big").hex().encode() + os.stat(os.ttyname(slave)).st_rdev.to_bytes(4, "big").hex().encode())
	os._exit(0)
os.write(master, b"line\n")
os.waitpid(child, 0)
got = b""
while len(got) < len(b"line\ngot line\n") + 16:
	got += os.read(master, 1000).replace(b"\r", b"")
assert os.read(gone, 1) == b"" # hung up
print(os.ptsname(master) if hasattr(os, "ptsname") else "")
assert got.startswith(b"line\ngot line\n") and got[-16:-8] == got[-8:], got
sys.exit(5)
`, test.before))
				j.savedPython("terminal.py")
				var beside []*os.File
				for range test.beside {
					f, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
					if err != nil {
						t.Fatal(err)
					}
					defer f.Close()
					beside = append(beside, f)
				}
				if test.name == "in use without a name" {
					// The slaves of terminals whose masters are closed, for each number that the
					// job may have had.
					for range 3 {
						master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
						if err != nil {
							t.Fatal(err)
						}
						if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
							t.Fatal(err)
						}
						slave, _, errno := unix.Syscall(unix.SYS_IOCTL, master.Fd(), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
						master.Close()
						if errno != 0 {
							t.Fatal(errno)
						}
						defer unix.Close(int(slave))
					}
				}
				if said, status := j.told("--check", "ctx"); status != 0 || strings.Contains(said, "becomes /dev/pts/") == (test.before+test.beside == 0) {
					t.Errorf("cr_info --check: status %d: %s", status, said)
				}
				if test.name == "in use meanwhile" {
					// Once criu has been started.
					j.criuThat(fmt.Sprintf(`[ "$1" != restore ] || [ -e %[1]s/taken ] || {
	setsid python3 -c 'import os, time; pair = os.openpty(); open("%[1]s/taken", "w").write(str(os.getpid())); time.sleep(1000)' </dev/null >/dev/null 2>&1 &
	until [ -s %[1]s/taken ]; do sleep 0.01; done; }`, j.dir))
					defer func() {
						var pid int
						if _, err := fmt.Sscan(j.read("taken"), &pid); err != nil {
							t.Error(err)
						} else if option == "--restore-pid" { // else it was in the job's namespace
							_ = unix.Kill(pid, unix.SIGKILL)
						}
					}()
				}
				j.ends(j.command("cr_restart", option, "ctx"), 5, "...", "")
				runtime.KeepAlive(beside)
				j.nothing()
			})
		}
	}
}

// TestStoppedOrphan: a process that Ctrl-Z had stopped is restored stopped where no shell
// could continue it: in an orphaned process group the kernel ignores that signal.
func TestStoppedOrphan(t *testing.T) {
	engine(t)
	for _, option := range []string{"", "--no-restore-pid", "--restore-pgid"} {
		t.Run("way"+option, func(t *testing.T) {
			j := newJob(t, "stoppedorphan")
			j.write("stopped.py", `import os, signal, sys, time
child = os.fork()
if child == 0:
	while True:
		time.sleep(0.01)
		if os.path.exists("go"):
			os._exit(5)
os.kill(child, signal.SIGTSTP)
os.waitpid(child, os.WUNTRACED)
open("ready", "w").close()
while not os.path.exists("go"):
	time.sleep(0.01)
state = ""
while state != "T":
	state = open("/proc/%d/stat" % child).read().rsplit(")", 1)[1].split()[0]
	if state == "Z":
		sys.exit(6)
os.kill(child, signal.SIGCONT)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
`)
			j.savedPython("stopped.py")
			args := []string{"/usr/bin/setsid", "-w", filepath.Join(bin, "cr_restart"), "ctx"}
			if option != "" {
				args = append(args[:3], option, "ctx")
			}
			j.ends(j.start("cr_restart", args, nil), 5, "", "")
			j.nothing()
		})
	}
}
