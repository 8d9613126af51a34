//go:build real

package real

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"blcr-cli/test/harness"
)

// TestKerndat: CRIU finds a cache of what the kernel can do at each start, once it has been
// asked whether it works, for root and for an ordinary user without XDG_RUNTIME_DIR, and
// also where /run is no tmpfs. Nothing of it is left in /run.
func TestKerndat(t *testing.T) {
	engine(t)
	for _, user := range []bool{false, true} {
		t.Run(fmt.Sprintf("user=%v", user), func(t *testing.T) {
			var j *job
			criu := os.Getenv("CR_CRIU")
			if user {
				criu = criuForUsers(t)
				j = newUserJob(t, "counter", criu)
				answers := fmt.Sprintf("/dev/shm/blcr-cli-%d", ordinary.Uid)
				t.Cleanup(func() { os.RemoveAll(answers) })
			} else {
				j = newJob(t, "counter")
			}
			// A criu that writes its log into a file, of which ours gets nothing.
			wrapper, logs := filepath.Join(j.dir, "criu"), filepath.Join(j.dir, "log")
			script := "#!/bin/sh\ncase $1 in dump|restore) set -- \"$@\" -v4 -o " + logs + ".$1;; esac\nexec " + criu + " \"$@\"\n"
			if err := harness.WriteProgram(wrapper, []byte(script), 0o755); err != nil {
				t.Fatal(err)
			}
			j.env = []string{"CR_CRIU=" + wrapper, "XDG_RUNTIME_DIR=", "HOME=" + j.dir}
			var before unix.Stat_t
			was := unix.Lstat("/run/criu.kdat", &before)
			j.launch()
			all := tree(j.pid)
			ctx := filepath.Join(j.dir, "ctx")
			j.checkpoint(ctx, "--kill", strconv.Itoa(j.pid))
			j.killed(all)
			j.restart(ctx)
			for _, verb := range []string{"dump", "restore"} {
				log, err := os.ReadFile(logs + "." + verb)
				if err != nil {
					t.Fatal(err)
				}
				if !strings.Contains(string(log), "Loaded kdat cache from") {
					t.Errorf("criu %s has found no cache:\n%.1500s", verb, log)
				}
			}
			if fd := fmt.Sprintf("/proc/%d/fd/187", j.pid); unix.Access(fd, unix.F_OK) == nil {
				t.Errorf("the job has %s", fd)
			}
			var after unix.Stat_t
			if err := unix.Lstat("/run/criu.kdat", &after); err != was || err == nil && after.Mode&unix.S_IFMT == unix.S_IFLNK {
				t.Errorf("/run/criu.kdat: %v before, %v after, mode %#o", was, err, after.Mode)
			}
			j.finish()
		})
	}
}
