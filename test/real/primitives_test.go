//go:build real

package real

import (
	"strconv"
	"testing"
)

// TestFailureStatus: with --failure-status the status says whether the restart failed or
// the job ended, whatever the job's status.
func TestFailureStatus(t *testing.T) {
	engine(t)
	j := newJob(t, "failurestatus")
	j.write("go.sh", `: >ready; until [ -e go ]; do sleep 0.05; done; exit 5`)
	p := j.run("/bin/bash", "go.sh")
	j.until("the script to wait", func() bool { return j.exists("ready") })
	save := j.command("cr_checkpoint", "-f", "ctx", strconv.Itoa(p.pid))
	j.silent(save, j.wait(save))
	again := j.command("cr_restart", "--failure-status", "75", "ctx")
	j.fails(again, 75, "- found pid ...")
	j.write("go", "")
	j.wait(p)
	j.ends(j.again("--failure-status", "75", "ctx"), 5, "", "")
	j.nothing()
}
