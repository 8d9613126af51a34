//go:build real

package real

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
)

// timeOf names the time namespace of a process.
func timeOf(t *testing.T, pid int) string {
	t.Helper()
	link, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/time", pid))
	if err != nil {
		t.Fatal(err)
	}
	return link
}

// TestClocks pins that a restored job sees the clocks of the machine, so that it
// can be saved together with its cr_restart; but for one that has seen later
// ones, whose clocks go on from there. The program looks itself whether they go
// backwards.
func TestClocks(t *testing.T) {
	engine(t)
	unshare, err := exec.LookPath("unshare")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		start []string // what starts the program
		own   bool     // it has a time namespace of its own after the restart
	}{
		{"machine", nil, false},
		{"ahead", []string{unshare, "-T", "--monotonic", "1000000", "--boottime", "1000000"}, true},
		{"behind", []string{unshare, "-T", "--monotonic", "-1", "--boottime", "-1"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			j := newJob(t, "clocks")
			j.args = append(c.start, j.args...)
			j.launch()
			for n := range 2 {
				ctx := fmt.Sprintf("%s/ctx.%d", j.dir, n)
				before := tree(j.pid)
				j.checkpoint(ctx, "--kill", fmt.Sprint(j.proc.pid))
				j.killed(before)
				j.restart(ctx)
				if own := timeOf(t, j.pid) != timeOf(t, os.Getpid()); own != c.own {
					t.Errorf("in a time namespace of its own: %v, want %v", own, c.own)
				}
				j.advances()
			}
			j.finish()
		})
	}
}
