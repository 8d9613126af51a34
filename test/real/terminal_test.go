//go:build real

package real

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// typed is a job on a terminal, which is typed to.
type typed struct {
	*job
	screen *terminal
	before int // what was seen up to the last line that was typed
}

// onNew starts a command on a new terminal, and notes the terminal's modes before and
// after it.
func (y *typed) onNew(command string) *process {
	y.t.Helper()
	y.screen, y.before = newTerminal(y.t), 0
	return y.on(y.screen, "stty -g >before\n"+command+"\nstatus=$?; stty -g >after; (exit $status)")
}

// types types text, and waits until an answer to it is seen.
func (y *typed) types(text, answer string) {
	y.t.Helper()
	y.before = len(y.screen.seen())
	fmt.Fprint(y.screen, text)
	y.until(fmt.Sprintf("%q on the terminal", answer), func() bool { return strings.Contains(y.screen.seen()[y.before:], answer) })
}

// moves saves the job and restarts it on another terminal.
func (y *typed) moves(p *process) *process {
	y.t.Helper()
	y.root()
	ctx := y.dir + "/ctx"
	y.checkpoint(ctx, "--kill", fmt.Sprint(y.pid))
	y.wait(p)
	keepClear(y.pid)
	p = y.onNew("cr_restart ctx")
	y.until("the job to run", func() bool {
		job := stat(y.pid)
		return job != nil && comm(job.ppid) == "cr_restart" && slices.Equal(childrenOf(job.ppid), []int{y.pid})
	})
	return p
}

// left checks how cr_restart has ended, and that its terminal is as it was.
func (y *typed) left(p *process, status string) {
	y.t.Helper()
	y.wait(p)
	if got := y.read("status"); got != status+"\n" {
		y.t.Errorf("status %s, want %s", got, status)
	}
	if before, after := y.read("before"), y.read("after"); before != after || before == "" {
		y.t.Errorf("the terminal's modes are %q, were %q", after, before)
	}
	y.nothing()
}

// TestShellOnTerminal: a shell with job control goes on, on another terminal, with
// what it has in the foreground.
func TestShellOnTerminal(t *testing.T) {
	engine(t)
	for _, shell := range []string{"bash --norc --noprofile -i", "dash -i", "zsh -f -i"} {
		for _, foreground := range []bool{false, true} {
			name, _, _ := strings.Cut(shell, " ")
			t.Run(fmt.Sprintf("%s/foreground=%v", name, foreground), func(t *testing.T) {
				if _, err := exec.LookPath(name); err != nil {
					t.Skip(err)
				}
				if name == "dash" && foreground {
					// It has /dev/tty open. CRIU saves that only if the leader of the
					// session is in the tree, and in the foreground.
					t.Skip("CRIU cannot save it")
				}
				y := &typed{job: newCaller(t)}
				p := y.onNew("PS1='> ' HISTFILE= exec " + shell)
				y.types("X=fine; echo $$ >pid; echo \"<$X>\"\n", "<fine>")
				if foreground {
					y.types("cat\n", "cat")
					y.root()
					y.until("cat to run", func() bool {
						children := childrenOf(y.pid)
						return len(children) == 1 && comm(children[0]) == "cat" && stat(children[0]).state == 'S'
					})
				}
				again := 2
				if name == "dash" {
					again = 1
				}
				for range again {
					p = y.moves(p)
					if foreground {
						// Once as it is typed, once from cat.
						y.types("word\n", "word\nword\n")
					}
				}
				if foreground {
					fmt.Fprint(y.screen, "\x04")
				}
				for i := range 3 {
					y.types(fmt.Sprintf("/bin/echo $X-%d\n", i), fmt.Sprintf("fine-%d", i))
				}
				// Ctrl-C ends what is in the foreground, and neither shell nor cr_restart.
				fmt.Fprint(y.screen, "/bin/sleep 1000 | /bin/sleep 1000\n")
				// By then they have the terminal, and end of Ctrl-C.
				y.until("the foreground to run", func() bool {
					children := childrenOf(y.pid)
					return len(children) == 2 && comm(children[0]) == "sleep" && comm(children[1]) == "sleep"
				})
				// What is typed before it is ready again may be dropped.
				y.types("\x03", "> ")
				y.types("/bin/echo \"again $X\"\n", "again fine")
				fmt.Fprint(y.screen, "exit 7\n")
				y.left(p, "7")
			})
		}
	}
}

// TestModes: a program that reads single characters reads single characters on
// another terminal as well, if it had its own in the foreground.
func TestModes(t *testing.T) {
	engine(t)
	y := &typed{job: newCaller(t)}
	y.write("program", `
import os, sys, termios, tty
open("pid", "w").write(str(os.getpid()))
mine = termios.tcgetattr(0)
tty.setraw(0)
print("ready", end="\r\n", flush=True)
while True:
    c = os.read(0, 1).decode()
    print("<" + c + ">", end="\r\n", flush=True)
    if c == "q":
        break
termios.tcsetattr(0, termios.TCSANOW, mine)
sys.exit(7)
`)
	p := y.onNew("/usr/bin/python3 program")
	y.until("the program to be ready", func() bool { return strings.Contains(y.screen.seen(), "ready") })
	for range 2 {
		p = y.moves(p)
		y.types("a", "<a>")
	}
	if strings.Contains(y.screen.seen(), "a<") {
		t.Errorf("what is typed is echoed: %q", y.screen.seen())
	}
	y.types("q", "<q>")
	y.left(p, "7")
	_ = os.Remove(y.dir + "/program")
}
