//go:build real

package real

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"blcr-cli/internal/ckpt"
)

// TestCurrentTerminal: who has /dev/tty open is refused where CRIU cannot save that, with the
// name, and --check says the same.
func TestCurrentTerminal(t *testing.T) {
	engine(t)
	for _, test := range []struct {
		name    string
		program string // of the leader of the session; the terminal is 0 to 2
		whole   bool   // is saved with the other end of the terminal
		who     string // is refused: a file with its number; "" for nobody
	}{
		{"leader", `tty()`, false, ""},
		{"inherited", `tty(); below("child", False)`, false, ""},
		{"other end", `tty()`, true, "leader"},
		{"of another", `below("child", False, tty)`, false, "child"},
		{"foreground of another", `below("child", True, tty)`, false, "child"},
		{"background", `below("child", True); tty()`, false, "leader"},
		{"closed", `os.close(tty()); below("child", True)`, true, ""},
		{"lost", `
tty()
import signal
signal.signal(signal.SIGHUP, signal.SIG_IGN)
fcntl.ioctl(0, termios.TIOCNOTTY)
`, false, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			j := newJob(t, "devtty")
			j.write("tty.py", `import fcntl, os, signal, sys, termios, time
def tty():
	return os.open("/dev/tty", os.O_RDWR)
def note(name):
	with open(name, "w") as f:
		f.write(str(os.getpid()))
def below(name, foreground, first=lambda: None):
	done = os.pipe()
	if os.fork() == 0:
		if foreground:
			signal.signal(signal.SIGTTOU, signal.SIG_IGN)
			os.setpgid(0, 0)
			os.tcsetpgrp(0, os.getpid())
		first()
		note(name)
		os.write(done[1], b"x")
		time.sleep(1000)
	os.read(done[0], 1)
master, slave = os.openpty()
if os.fork() == 0:
	os.close(master)
	os.setsid()
	fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
	for n in range(3):
		os.dup2(slave, n)
	os.close(slave)
	`+strings.ReplaceAll(strings.TrimSpace(test.program), "\n", "\n\t")+`
	note("leader")
	os.rename("leader", "ready")
	os.symlink("ready", "leader")
	time.sleep(1000)
os.close(slave)
time.sleep(1000)
`)
			p := j.run("/usr/bin/python3", "tty.py")
			j.until("the program to be ready", func() bool { return j.exists("ready") && j.exists("leader") })
			root := j.read("leader")
			if test.whole {
				root = strconv.Itoa(p.pid)
			}
			ctx := filepath.Join(j.dir, "ctx")
			want, detail := 0, ""
			if test.who != "" {
				want = int(syscall.EOPNOTSUPP)
				detail = "- process " + j.read(test.who) + " (python3) has its terminal open by the name /dev/tty as descriptor "
			}
			said, status := j.asked("-f", ctx, root)
			if status != want || !strings.Contains("- "+said, detail) {
				t.Errorf("--check: status %d, %q", status, said)
			}
			save := j.command("cr_checkpoint", "--run", "-f", ctx, root)
			if want == 0 {
				j.silent(save, j.wait(save))
			} else {
				j.fails(save, want, "Checkpoint failed: "+ckpt.Strerror(syscall.EOPNOTSUPP)+"\n"+detail+"...")
			}
			// Killing the first process ends the session, by hanging up its terminal.
			pids := tree(p.pid)
			for _, pid := range pids {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
			j.wait(p)
			os.Remove(ctx)
		})
	}
}
