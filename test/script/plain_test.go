package script_test

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"blcr-cli/test/harness"
)

// TestPlainBuild: a cr_checkpoint that was built without its entry point cannot tell
// whether a standard descriptor was closed, and writes no context to one that may have
// been: it would be lost with the processes that --kill ends.
func TestPlainBuild(t *testing.T) {
	t.Parallel()
	plain := filepath.Join(t.TempDir(), "cr_checkpoint")
	if err := harness.Build(plain, "./cmd/cr_checkpoint"); err != nil {
		t.Fatal(err)
	}
	run := func(program, args string) string {
		// An engine that there is not, so that nothing happens where nothing is wrong.
		cmd := exec.Command("/bin/sh", "-c", "CR_ENGINE=none exec "+program+" "+args)
		var stderr strings.Builder
		cmd.Stderr = &stderr
		_ = cmd.Run()
		return fmt.Sprintln("status", cmd.ProcessState.ExitCode()) + stderr.String()
	}
	const none = "status 38\nCheckpoint failed: support missing from kernel\n- CR_ENGINE names 'none', which is no engine of this program\n"
	for fd := range 3 {
		for _, how := range []string{"%d>&-", "%d<>/dev/null"} {
			args := fmt.Sprintf("-F %d --kill 1 "+how, fd, fd)
			want := ""
			if fd < 2 {
				want = fmt.Sprintf("status 9\ncr_request_checkpoint: Bad file descriptor\n- descriptor %d was closed, or leads to /dev/null: "+
					"this cr_checkpoint was built without its entry point, and cannot tell\n"+
					"- write to a file (-f); or use a cr_checkpoint for amd64 that make has built\n", fd)
			} else {
				want = "status 9\n" // its words are lost
			}
			if got := run(plain, args); got != want {
				t.Errorf("%s: %q, want %q", args, got, want)
			}
		}
		// What was opened for writing was not closed.
		args := fmt.Sprintf("-F %d --kill 1 %d>/dev/null", fd, fd)
		want := none
		if fd == 2 {
			want = "status 38\n"
		}
		if got := run(plain, args); got != want {
			t.Errorf("%s: %q, want %q", args, got, want)
		}
	}
	if got := run(filepath.Join(bin, "cr_checkpoint"), "-F 1 --kill 1 1<>/dev/null"); got != none {
		t.Errorf("with its entry point: %q, want %q", got, none)
	}
}
