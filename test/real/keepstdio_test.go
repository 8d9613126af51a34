//go:build real

package real

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

// TestKeepStdio: a job whose output was a file, here or removed, prints to cr_restart's
// with --keep-stdio. A child with a file of its own keeps that.
func TestKeepStdio(t *testing.T) {
	for _, c := range []struct {
		name    string
		removed bool
	}{{"there", false}, {"removed", true}} {
		t.Run(c.name, func(t *testing.T) {
			engine(t)
			j := newJob(t, "keepstdio")
			j.write("go.sh", `exec >output 2>&1 5>&1
`+map[bool]string{true: "rm output\n"}[c.removed]+`(exec >own; echo before; : >ready; while ! [ -e go ]; do sleep 0.05; done; echo own; echo outer >&5) &
echo lost
wait
echo end
echo error >&2
exit 7
`)
			p := j.run("/bin/bash", "go.sh")
			j.until("the script to wait", func() bool { return j.exists("ready") })
			save := j.command("cr_checkpoint", "--kill", "-f", "ctx", strconv.Itoa(p.pid))
			j.silent(save, j.wait(save))
			j.wait(p)
			j.write("go", "")
			before := j.former("output")
			j.ends(j.again("--keep-stdio", "ctx"), 7, "outer\nend\n", "error\n")
			if got := j.read("own"); got != "before\nown\n" {
				t.Errorf("the child's own file has %q", got)
			}
			if now := j.former("output"); now != before {
				t.Errorf("the former output was %q, and is %q", before, now)
			}
			j.nothing()
		})
	}
}

// former is what a file in the job's directory has, "none" if it does not exist.
func (j *job) former(name string) string {
	text, err := os.ReadFile(filepath.Join(j.dir, name))
	if err != nil {
		return "none"
	}
	return string(text)
}
