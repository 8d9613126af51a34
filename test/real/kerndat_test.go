//go:build real

package real

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"blcr-cli/test/harness"
)

// lendScript saves and restarts a job. As root it does where /run is no tmpfs, which it
// sees alone.
const lendScript = `
[ $(id -u) != 0 ] || mount --bind run /run || exit
sh -c 'while [ ! -e go ]; do sleep 0.01; done; [ -e /proc/self/fd/187 ] && exit 6; exit 5' &
cr_checkpoint --kill -f ctx $! || exit
wait $!
echo >go
exec cr_restart ctx
`

// TestKerndat: CRIU finds a cache of what the kernel can do at each start, once it has been
// asked whether it works, for root where /run is no tmpfs, and for an ordinary user without
// XDG_RUNTIME_DIR. Nothing of it is left in /run, and none of it in the job.
func TestKerndat(t *testing.T) {
	engine(t)
	for _, user := range []bool{false, true} {
		t.Run(fmt.Sprintf("user=%v", user), func(t *testing.T) {
			criu := os.Getenv("CR_CRIU")
			var j *job
			var args []string
			if user {
				criu = criuForUsers(t)
				j = newUserJob(t, "lend", criu)
				answers := fmt.Sprintf("/dev/shm/blcr-cli-%d", ordinary.Uid)
				t.Cleanup(func() { os.RemoveAll(answers) })
			} else {
				j = newJob(t, "lend")
				args = []string{tool(t, "unshare"), "--mount"}
			}
			run := filepath.Join(j.dir, "run")
			if err := os.Mkdir(run, 0o755); err != nil {
				t.Fatal(err)
			}
			// A criu that writes its log into a file, of which ours gets nothing.
			wrapper, logs := filepath.Join(j.dir, "criu"), filepath.Join(j.dir, "log")
			script := "#!/bin/sh\ncase $1 in dump|restore) set -- \"$@\" -v4 -o " + logs + ".$1;; esac\nexec " + criu + " \"$@\"\n"
			if err := harness.WriteProgram(wrapper, []byte(script), 0o755); err != nil {
				t.Fatal(err)
			}
			j.env = []string{"CR_CRIU=" + wrapper, "XDG_RUNTIME_DIR=", "HOME=" + j.dir, "PATH=" + bin + ":" + os.Getenv("PATH")}
			j.ends(j.start("lend", append(args, "/bin/sh", "-c", lendScript), nil), 5, "", "")
			for _, verb := range []string{"dump", "restore"} {
				log, err := os.ReadFile(logs + "." + verb)
				if err != nil {
					t.Fatal(err)
				}
				if !strings.Contains(string(log), "Loaded kdat cache from") {
					t.Errorf("criu %s has found no cache:\n%.1500s", verb, log)
				}
			}
			if left, err := filepath.Glob(run + "/criu.kdat"); err != nil || len(left) > 0 {
				t.Errorf("left: %q, %v", left, err)
			}
		})
	}
}
