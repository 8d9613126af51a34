//go:build real

package real

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestFaultHooks has criu killed, and fail, at each of the stages of a dump at which it
// runs an action script, before ours and after it. The program runs on.
func TestFaultHooks(t *testing.T) {
	real := os.Getenv("CR_CRIU")
	if real == "" {
		t.Skip("it needs to know which criu is used")
	}
	v := newVictim(t)
	tried, failed := 0, 0
	for _, stage := range []string{"pre-dump", "post-dump"} {
		for _, does := range []string{"kill -9 $PPID", "exit 1"} {
			for _, order := range []string{`--action-script HOOK "$@"`, `"$@" --action-script HOOK`} {
				hook := filepath.Join(v.dir, "hook")
				v.write("hook", "#!/bin/sh\n[ $CRTOOLS_SCRIPT_ACTION != "+stage+" ] || "+does+"\n")
				with := `verb=$1; shift; exec ` + real + ` $verb ` + order
				if order[0] == '"' {
					with = `exec ` + real + ` ` + order
				}
				v.write("criu", "#!/bin/sh\nHOOK="+hook+"\ncase $1 in dump) ;; *) exec "+real+` "$@" ;; esac`+"\n"+strings.ReplaceAll(with, "HOOK", "$HOOK"))
				for _, name := range []string{"hook", "criu"} {
					if err := os.Chmod(filepath.Join(v.dir, name), 0o755); err != nil {
						t.Fatal(err)
					}
				}
				p := v.shell("CR_CRIU=" + v.dir + `/criu exec cr_checkpoint -f "$1" $0`)
				end := v.wait(p)
				tried++
				switch {
				case end == 0: // ours had answered
					v.note()
				case end.Exited():
					failed++
				default:
					t.Errorf("%s, %s: %s", stage, does, describe(end))
				}
				v.intact()
			}
		}
	}
	t.Logf("%d faults, of which %d made the checkpoint fail", tried, failed)
	if failed == 0 {
		t.Error("no fault has had an effect")
	}
	v.checkpoint(v.ctx, strconv.Itoa(v.pid))
	v.note()
	v.intact()
	v.finish()
}

// TestFaultRestoreHooks has criu killed, stopped and continued, and fail, at each of the
// stages of a restore, before our action script and after it. The job runs, or nothing
// of it is there; and the next restart succeeds.
func TestFaultRestoreHooks(t *testing.T) {
	real := os.Getenv("CR_CRIU")
	if real == "" {
		t.Skip("it needs to know which criu is used")
	}
	j, ctx := newGhosts(t)
	tried, failed := 0, 0
	script := func(name, text string) {
		j.write(name, "#!/bin/sh\n"+text)
		if err := os.Chmod(filepath.Join(j.dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	hook := filepath.Join(j.dir, "hook")
	// Criu gets an environment of our own, so the scripts hold everything.
	orders := []string{`verb=$1; shift; exec ` + real + ` $verb --action-script ` + hook + ` "$@"`, `exec ` + real + ` "$@" --action-script ` + hook}
	inherited := j.env
	defer func() { j.env = inherited }()
	for _, stage := range []string{"pre-restore", "setup-namespaces", "post-setup-namespaces", "post-restore", "pre-resume", "post-resume"} {
		for _, does := range []string{"kill -9 $PPID", "exit 1", "kill -STOP $PPID; kill -CONT $PPID"} {
			for _, order := range orders {
				script("hook", "[ $CRTOOLS_SCRIPT_ACTION != "+stage+" ] || { "+does+"; }\n")
				script("criu", "case $1 in restore) ;; *) exec "+real+` "$@" ;; esac`+"\n"+order+"\n")
				j.env = append(slices.Clone(inherited), "CR_CRIU="+filepath.Join(j.dir, "criu"))
				j.rewind()
				keepClear(j.pid)
				p := j.command("cr_restart", ctx)
				ran := false
				j.until("the job to run, or the command to end", func() bool {
					select {
					case <-p.ended:
						return true
					default:
						ran = j.beat() > 0
						return ran
					}
				})
				tried++
				if ran {
					_ = syscall.Kill(j.pid, unix.SIGKILL)
				} else {
					failed++
					end := j.wait(p)
					stderr, _ := os.ReadFile(p.stderr)
					t.Logf("%s, %s: %s: %s", stage, does, describe(end), stderr)
					if !end.Exited() || end.ExitStatus() == 0 {
						t.Errorf("%s, %s: cr_restart: %s", stage, does, describe(end))
					}
				}
				j.wait(p)
				j.until("processes to be gone", func() bool { return len(j.helpers()) == 0 && stat(j.pid) == nil })
				if left := j.names(); !slices.Equal(left, []string{"7"}) {
					t.Errorf("%s, %s: left: %q", stage, does, left)
				}
				if left, _ := os.ReadDir(j.tmp); len(left) > 0 {
					t.Errorf("%s, %s: left in TMPDIR: %v", stage, does, left)
				}
			}
		}
	}
	j.env = inherited
	t.Logf("%d faults, of which %d made the restart fail", tried, failed)
	if failed == 0 || failed == tried {
		t.Error("every fault, or none, has had an effect")
	}
	j.rewind()
	keepClear(j.pid)
	j.restart(ctx)
	j.finish()
}
