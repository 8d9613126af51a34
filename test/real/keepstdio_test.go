//go:build real

package real

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
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

// TestMovedStdio: a shell that is saved while it has its own standard descriptors redirected,
// for a loop and a command of its own, has cr_restart's when it takes them back.
func TestMovedStdio(t *testing.T) {
	for _, c := range []struct {
		name, parent string
		options      []string
	}{
		{"file", "exec </dev/null >output; bash inner.sh; exit", []string{"--keep-stdio"}},
		{"pipe", "exec </dev/null; (bash inner.sh; exit) | cat >output", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			engine(t)
			j := newJob(t, "movedstdio")
			j.write("outer.sh", c.parent+"\n")
			j.write("inner.sh", `echo $$ >pid
while read word; do
	{
		: >ready
		until [ -e go ]; do sleep 0.05; done
		echo $word
	} >>own
	echo "said $word"
done <list
exit 7
`)
			j.write("list", "one\ntwo\n")
			outer := j.run("/bin/bash", "outer.sh")
			j.until("the script to wait", func() bool { return j.exists("ready") })
			save := j.command("cr_checkpoint", "--kill", "-f", "ctx", strings.TrimSpace(j.read("pid")))
			j.silent(save, j.wait(save))
			j.wait(outer)
			j.write("go", "")
			j.ends(j.again(append(c.options, "ctx")...), 7, "said one\nsaid two\n", "")
			if got := j.read("own"); got != "one\ntwo\n" {
				t.Errorf("the redirected output is %q", got)
			}
			if got := j.read("output"); got != "" {
				t.Errorf("the former output has %q", got)
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
