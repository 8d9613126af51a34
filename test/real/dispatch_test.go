//go:build real

package real

import (
	"fmt"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"

	"blcr-cli/internal/ckpt"
)

// TestDispatch: a program with a thread whose system calls become signals, which would die of
// CRIU's, is refused with 95, and runs on.
func TestDispatch(t *testing.T) {
	engine(t)
	if why := linuxBefore(6, 4, "nobody is told which threads have that")(); why != "" || runtime.GOARCH != "amd64" {
		t.Skip(why)
	}
	for name, newJob := range map[string]func(t *testing.T) *job{
		"root": func(t *testing.T) *job { return newJob(t, "dispatch") },
		"user": func(t *testing.T) *job { return newUserJob(t, "dispatch", criuForUsers(t)) },
	} {
		t.Run(name, func(t *testing.T) {
			j := newJob(t)
			j.write("program.py", `import ctypes, os, signal, threading, time
libc = ctypes.CDLL(None)
selector = ctypes.c_char(b"\0")
signal.signal(signal.SIGSYS, lambda signal, frame: None)
def dispatch():
	assert libc.prctl(59, 1, 0, 0, ctypes.byref(selector)) == 0
	open("ready", "w").close()
	while selector.value == b"\0":
		time.sleep(0.01)
threading.Thread(target=dispatch).start()
while not os.access("go", os.F_OK):
	time.sleep(0.01)
os._exit(7)
`)
			p := j.run("/usr/bin/python3", "program.py")
			j.until("the program to be ready", func() bool { return j.exists("ready") })
			for range 3 {
				j.fails(j.command("cr_checkpoint", "--kill", "-f", filepath.Join(j.dir, "ctx"), strconv.Itoa(p.pid)), 95, fmt.Sprintf("Checkpoint failed: %s\n"+
					"- process %d (python3) gets its own system calls as signals (PR_SET_SYSCALL_USER_DISPATCH), and would die of those that criu has it make\n"+
					"- save it before it does that, or start it without that\n", ckpt.Strerror(95), p.pid))
			}
			j.noContext()
			j.write("go", "")
			j.ends(p, 7, "", "")
		})
	}
}
