//go:build real

package real

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// Another node: another name, another processor. What the processor here lacks, a context
// has to claim: CI has one machine.

// TestOtherProcessor: a job whose code may use what the processor does not have is
// refused, by the name of that, also before the restart; and not if it is to be tried.
func TestOtherProcessor(t *testing.T) {
	engine(t)
	j := newJob(t, "threads")
	j.launch()
	before := tree(j.pid)
	dir := filepath.Join(j.dir, "images")
	j.saveTo(dir, "--kill", strconv.Itoa(j.pid))
	j.killed(before)
	const member = "images/processor"
	had := j.read(member)
	if !strings.HasPrefix(had, "features ") {
		t.Skipf("nothing is known of this processor: %q", had)
	}
	keepClear(j.pid)
	j.write(member, strings.Replace(had, "features ", "features of_tomorrow ", 1))
	for _, command := range [][]string{{"cr_restart", "-d"}, {"cr_info", "--check"}} {
		p := j.command(command[0], command[1], dir)
		if end := j.wait(p); !end.Exited() || end.ExitStatus() != map[string]int{"cr_restart": 95, "cr_info": 1}[command[0]] {
			t.Errorf("%s: %s", command[0], describe(end))
		}
		stdout, _ := os.ReadFile(p.stdout)
		stderr, _ := os.ReadFile(p.stderr)
		if text := string(stdout) + string(stderr); !strings.Contains(text, ": of_tomorrow") || !strings.Contains(text, "--cpu-any") {
			t.Errorf("%s: %q", command[0], text)
		}
	}
	if stat(j.pid) != nil {
		t.Errorf("there is a process %d", j.pid)
	}
	j.restartFrom(dir, "--cpu-any")
	j.finish()
}

// TestOtherName: the machine has another name.
func TestOtherName(t *testing.T) {
	engine(t)
	j := newJob(t, "threads")
	j.launch()
	before := tree(j.pid)
	j.checkpoint(j.dir+"/ctx", "--kill", strconv.Itoa(j.pid))
	j.killed(before)
	keepClear(j.pid)
	j.rewind()
	j.proc = j.wrapped([]string{tool(t, "unshare"), "--uts", "/bin/sh", "-c", `echo elsewhere >/proc/sys/kernel/hostname && exec "$@"`, "sh"}, "cr_restart", j.dir+"/ctx")
	j.advances()
	j.finish()
}
