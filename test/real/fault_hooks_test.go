//go:build real

package real

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
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
