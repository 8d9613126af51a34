//go:build real

package real

import (
	"fmt"
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

// TestNumbersOwn: the number of cr_restart itself cannot be restored, but that of the next one
// is another.
func TestNumbersOwn(t *testing.T) {
	j, ctx := newSleeper(t)
	j.rewind()
	if err := os.WriteFile("/proc/sys/kernel/ns_last_pid", []byte(strconv.Itoa(j.pid-1)), 0); err != nil {
		t.Fatal(err)
	}
	p := j.command("cr_restart", ctx)
	if p.pid != j.pid {
		t.Fatalf("cr_restart is %d, the job %d", p.pid, j.pid)
	}
	j.fails(p, 16, fmt.Sprintf("- found pid %d in use\nRestart failed: Device or resource busy\n- it is that of process %[1]d (cr_restart)\n- start cr_restart again, which has another number then; or cr_restart --no-restore-pid restarts the job with new pids beside it\n", j.pid))
	j.restart(ctx)
	j.finish()
}
