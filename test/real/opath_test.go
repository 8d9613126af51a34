//go:build real

package real

import (
	"path/filepath"
	"strconv"
	"testing"
)

// TestProgramByPath: processes whose program is open with O_PATH, as it is for fexecve(3), are
// restored, with that descriptor as it was. CRIU has one file for both.
func TestProgramByPath(t *testing.T) {
	engine(t)
	j := newJob(t, "opath")
	j.write("opath.py", `
import os, time
program = os.open("/proc/self/exe", os.O_PATH)
child = os.fork()
open("ready" if child else "ready.child", "w").close()
while not os.access("go", os.F_OK):
    time.sleep(0.01)
flags = int([line for line in open("/proc/self/fdinfo/%d" % program) if line.startswith("flags:")][0].split()[1], 8)
right = flags & os.O_PATH != 0 and os.path.sameopenfile(program, os.open("/proc/self/exe", os.O_RDONLY))
if child:
    right = right and os.waitpid(child, 0)[1] == 0
os._exit(0 if right else 1)
`)
	p := j.run("/usr/bin/python3", "opath.py")
	j.until("both processes to be ready", func() bool { return j.exists("ready") && j.exists("ready.child") })
	ctx := filepath.Join(j.dir, "ctx")
	pids := tree(p.pid)
	if save := j.command("cr_checkpoint", "--kill", "-f", ctx, strconv.Itoa(p.pid)); j.wait(save) != 0 {
		t.Fatal("no checkpoint")
	}
	j.proc = p
	j.killed(pids)
	if said, status := j.told("--check", ctx); status != 0 {
		t.Errorf("cr_info --check: status %d, %q", status, said)
	}
	j.write("go", "")
	j.ends(j.again(ctx), 0, "", "")
}
