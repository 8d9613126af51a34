//go:build real

package real

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/test/harness"
)

// stoppedAt is a criu that stops for good at a stage, before our action script or after it,
// and says so in the file "stopped". It returns how the commands are told of it.
func (j *job) stoppedAt(verb, stage string, after bool) (env string) {
	j.t.Helper()
	real := os.Getenv("CR_CRIU")
	hook, criu := filepath.Join(j.dir, "hook"), filepath.Join(j.dir, "criu")
	// Criu runs the last one first.
	order := `exec ` + real + ` "$@" --action-script ` + hook
	if after {
		order = `verb=$1; shift; exec ` + real + ` $verb --action-script ` + hook + ` "$@"`
	}
	for name, text := range map[string]string{
		hook: "[ $CRTOOLS_SCRIPT_ACTION != " + stage + " ] || { echo $PPID >" + j.dir + "/pid; mv " + j.dir + "/pid " + j.dir + "/stopped; kill -STOP $PPID; }\n",
		criu: "case $1 in " + verb + ") ;; *) exec " + real + ` "$@" ;; esac` + "\n" + order + "\n",
	} {
		if err := harness.WriteProgram(name, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
			j.t.Fatal(err)
		}
	}
	os.Remove(filepath.Join(j.dir, "stopped"))
	return "CR_CRIU=" + criu
}

// endedOrStopped waits until a command has ended, or its criu is stopped or has been and
// the job runs again. It reports which.
func (j *job) endedOrStopped(p *process, runs func() bool) (ended bool) {
	j.t.Helper()
	j.until("criu to be stopped, or the command to end", func() bool {
		select {
		case <-p.ended:
			ended = true
			return true
		default:
		}
		if runs() {
			return true
		}
		text, _ := os.ReadFile(filepath.Join(j.dir, "stopped"))
		pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
		s := stat(pid)
		return pid > 0 && s != nil && s.state == 'T'
	})
	return ended
}

// TestFaultStopped stops criu for good at each of the stages of a dump and a restore at
// which it runs an action script. A signal ends the command, which leaves nothing.
func TestFaultStopped(t *testing.T) {
	if os.Getenv("CR_CRIU") == "" {
		t.Skip("it needs to know which criu is used")
	}
	var longest time.Duration
	tried, stopped := 0, 0
	// given sends SIGTERM if criu has been stopped, and returns how the command ends.
	given := func(j *job, p *process, runs func() bool) (success bool) {
		tried++
		if j.endedOrStopped(p, runs) {
			return j.wait(p) == 0
		}
		stopped++
		begin := time.Now()
		_ = unix.Kill(p.pid, unix.SIGTERM)
		end := j.wait(p)
		longest = max(longest, time.Since(begin))
		if end != 0 && (!end.Signaled() || end.Signal() != unix.SIGTERM) {
			stderr, _ := os.ReadFile(p.stderr)
			t.Errorf("%s: %s\n%s", p.name, describe(end), stderr)
		}
		return end == 0
	}
	v := newVictim(t)
	for _, stage := range []string{"pre-dump", "post-dump"} {
		for _, after := range []bool{false, true} {
			inherited := v.env
			v.env = append(slices.Clone(inherited), v.stoppedAt("dump", stage, after))
			p := v.command("cr_checkpoint", "-f", v.ctx, strconv.Itoa(v.pid))
			v.env = inherited
			if given(v.job, p, func() bool { return false }) { // criu had our answer, and has been continued
				v.note()
			}
			v.intact()
			if left, _ := os.ReadDir(v.tmp); len(left) > 0 || t.Failed() {
				t.Fatalf("%s, after ours: %v; left in TMPDIR: %v", stage, after, left)
			}
		}
	}
	v.finish()

	j, ctx := newSleeper(t)
	for _, stage := range []string{"pre-restore", "post-restore", "pre-resume"} {
		for _, after := range []bool{false, true} {
			inherited := j.env
			j.env = append(slices.Clone(inherited), j.stoppedAt("restore", stage, after))
			j.rewind()
			keepClear(j.pid)
			p := j.command("cr_restart", ctx)
			j.env = inherited
			if given(j, p, func() bool { return j.beat() > 0 }) {
				t.Errorf("%s, after ours: %v: cr_restart ends with 0", stage, after)
			}
			if !after && j.beat() > 0 {
				t.Errorf("%s: cr_restart was given up, and the job has run", stage)
			}
			j.nothing()
			if t.Failed() {
				t.Fatalf("%s, after ours: %v", stage, after)
			}
		}
	}
	t.Logf("%d faults, %d of them given up by a signal, within %v", tried, stopped, longest)
	if stopped < tried/2 {
		t.Error("too few of them have had an effect")
	}
	j.rewind()
	keepClear(j.pid)
	j.restart(ctx)
	j.finish()
}

// TestKilledForMemory: of a job, its criu and cr_checkpoint the latter is the first that the kernel
// kills for want of memory.
func TestKilledForMemory(t *testing.T) {
	if os.Getenv("CR_CRIU") == "" {
		t.Skip("it needs to know which criu is used")
	}
	v := newVictim(t)
	score := func(pid int) string {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid))
		return strings.TrimSpace(string(text))
	}
	usual := score(v.pid)
	inherited := v.env
	v.env = append(slices.Clone(inherited), v.stoppedAt("dump", "pre-dump", false))
	p := v.command("cr_checkpoint", "-f", v.ctx, strconv.Itoa(v.pid))
	v.env = inherited
	if v.endedOrStopped(p, func() bool { return false }) {
		t.Fatalf("cr_checkpoint: %s", describe(p.end))
	}
	criu, _ := strconv.Atoi(strings.TrimSpace(v.read("stopped")))
	worker := stat(criu).ppid
	if got := score(worker); got != "1000" {
		t.Errorf("oom_score_adj of cr_checkpoint's worker is %q", got)
	}
	if got := score(criu); got != usual && got != "-1000" {
		t.Errorf("oom_score_adj of criu is %q", got)
	}
	if got := score(v.pid); got != usual {
		t.Errorf("oom_score_adj of the job is %q, and was %q", got, usual)
	}
	_ = unix.Kill(p.pid, unix.SIGTERM)
	v.wait(p)
	v.intact()
	v.finish()
}
