//go:build real

package real

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

// TestNumbersAhead: the numbers of a job are restored also if they are the next ones, as in a
// container, which threads of cr_restart or criu would get.
func TestNumbersAhead(t *testing.T) {
	criu := criuForUsers(t)
	for _, user := range []bool{false, true} {
		for _, name := range []string{"counter", "threads"} {
			t.Run(name+map[bool]string{true: "/user"}[user], func(t *testing.T) {
				j := newJob(t, name)
				if user {
					j = newUserJob(t, name, criu)
				}
				j.launch()
				ctx := filepath.Join(j.dir, "ctx")
				for ahead, args := range map[int][]string{1: nil, 2: nil, 3: {"--lazy"}, 5: nil, 9: nil, 30: nil} {
					all := tree(j.pid)
					j.checkpoint(ctx, "--clobber", "--kill", strconv.Itoa(j.pid))
					j.killed(all)
					j.rewind()
					if err := os.WriteFile("/proc/sys/kernel/ns_last_pid", []byte(strconv.Itoa(j.pid-ahead-1)), 0); err != nil {
						t.Fatal(err)
					}
					args = append(args, ctx)
					j.proc = j.command("cr_restart", args...)
					if j.proc.pid > j.pid || j.proc.pid < j.pid-ahead {
						t.Errorf("cr_restart is %d, the job %d", j.proc.pid, j.pid)
					}
					j.advances()
					j.inspect(args)
				}
				j.finish()
			})
		}
	}
}
