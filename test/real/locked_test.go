//go:build real

package real

import (
	"fmt"
	"path/filepath"
	"strconv"
	"testing"
)

// TestOutOfLocked: CRIU cannot map its code in a process that has locked as much as it may, and locks
// all that is mapped. The limit is named, and the program runs on.
func TestOutOfLocked(t *testing.T) {
	j := newUserJob(t, "locked", criuForUsers(t))
	j.write("locked.py", `
import ctypes, mmap, os, time
libc = ctypes.CDLL(None)
assert libc.mlockall(2) == 0  # MCL_FUTURE
memory = []
try:
    while True: memory.append(mmap.mmap(-1, 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
except OSError: pass
os.write(1, b"ready")
while True: time.sleep(0.01)
`)
	p := j.run("/bin/sh", "-c", "ulimit -l 2048; exec /usr/bin/python3 -S locked.py")
	j.until("the memory to be locked", func() bool { return j.read(filepath.Base(p.stdout)) == "ready" })
	pid, ctx := strconv.Itoa(p.pid), filepath.Join(j.dir, "ctx")
	j.fails(j.command("cr_checkpoint", "-f", ctx, pid), 11, fmt.Sprintf(
		"Checkpoint failed: Resource temporarily unavailable\n- process %[1]s (python3) may lock 2.0 MiB of memory (ulimit -l), and locks all that is mapped in it (mlockall(2)): criu needs a little more\n- criu: remote mmap() failed: Resource temporarily unavailable\n- have root raise that limit: prlimit --pid %[1]s --memlock=unlimited\n", pid))
	j.killAll(p)
}
