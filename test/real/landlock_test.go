//go:build real

package real

import (
	"fmt"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/test/harness"
)

// confining executes a program that may not make directories.
const confining = `
import ctypes, os, struct, sys
libc = ctypes.CDLL(None)
rules = libc.syscall(444, struct.pack('Q', 1 << 7), 8, 0)
assert rules >= 0 and libc.prctl(38, 1, 0, 0, 0) == 0 and libc.syscall(446, rules, 0) == 0
os.close(rules)
os.execv(sys.argv[1], sys.argv[1:])`

// TestLandlock: a program that has confined itself is refused with 95, and runs on. One
// that has only given up new privileges is saved and restored.
func TestLandlock(t *testing.T) {
	engine(t)
	const version = 1 // LANDLOCK_CREATE_RULESET_VERSION
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, version); errno != 0 {
		t.Skipf("this kernel has no Landlock: %v", errno)
	}
	python := harness.Tool(t, "/usr/bin/python3", "python3")
	for name, newJob := range map[string]func(t *testing.T) *job{
		"root": func(t *testing.T) *job { return newJob(t, "counter") },
		"user": func(t *testing.T) *job { return newUserJob(t, "counter", criuForUsers(t)) },
	} {
		t.Run(name+" confined", func(t *testing.T) {
			j := newJob(t)
			j.args = append([]string{python, "-c", confining}, j.args...)
			j.launch()
			ctx := filepath.Join(j.dir, "ctx")
			for range 3 {
				j.fails(j.command("cr_checkpoint", "--kill", "-f", ctx, strconv.Itoa(j.pid)), 95, fmt.Sprintf("Checkpoint failed: %s\n"+
					"- process %d (counter) has confined itself by Landlock, which criu does not save: it would not be confined after a restart\n"+
					"- save it before it does that, or start it without that\n", ckpt.Strerror(95), j.pid))
			}
			j.noContext()
			j.advances()
			j.finish()
		})
		t.Run(name+" free", func(t *testing.T) {
			j := newJob(t)
			j.args = append([]string{tool(t, "setpriv"), "--no-new-privs"}, j.args...)
			j.launch()
			ctx := filepath.Join(j.dir, "ctx")
			j.checkpoint(ctx, strconv.Itoa(j.pid))
			j.advances()
			j.goBack(ctx)
			j.finish()
		})
	}
}
