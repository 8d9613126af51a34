package stream

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/proc"
	"blcr-cli/test/harness"
)

// hookVar is set in the tests that TestHook runs.
const hookVar = "STREAM_TEST_HOOK"

// TestHook: the action script of a program that is linked as the commands are, which
// answers at its entry point, does what the function script does.
func TestHook(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a test binary")
	}
	program := filepath.Join(t.TempDir(), "stream.test")
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-o", program, "-ldflags", "-E blcr-cli/internal/entry.entry", ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		harness.Missing(t, "a program cannot be built here: go test -c: %v\n%s", err, out)
	}
	tests := exec.CommandContext(t.Context(), program, "-test.run", "^(TestHookItself|TestDump|TestLateAnswer|TestFiles|TestRestore|TestStop.*|TestContinueHeld|TestNoScript|TestKilledInStage|TestSilentCaller)$")
	tests.Env = append(os.Environ(), hookVar+"=1")
	if out, err := tests.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestHookItself: no Go runtime is started in it, whatever the stage is, and a socket that
// is gone is a no.
func TestHookItself(t *testing.T) {
	if os.Getenv(hookVar) == "" {
		t.Skip("for TestHook")
	}
	s := begin(t, Capture, "dump")
	stage := s.stage(PostDump)
	peer, err := unix.GetsockoptUcred(stage.fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		t.Fatal(err)
	}
	if threads := proc.Threads(int(peer.Pid)); len(threads) != 1 {
		t.Errorf("threads %v", threads)
	}
	stage.Answer(true)
	s.checkEnd(0)

	for _, c := range []struct {
		env  []string
		want int
	}{
		{[]string{socketVar + "=blcr-cli-none", stageVar + "=" + PostDump, "CRTOOLS_INIT_PID=1"}, scriptNo},
		{[]string{stageVar + "=" + PostRestore, socketVar + "=" + strings.Repeat("x", 200), "A=b"}, scriptNo},
		{[]string{stageVar + "=post-dump2", socketVar + "=blcr-cli-none"}, scriptYes},
		{[]string{stageVar + "=post-dum", socketVar + "=blcr-cli-none"}, scriptYes},
		{[]string{stageVar + "=" + PostResume, socketVar + "=blcr-cli-none"}, scriptYes},
		{[]string{stageVar + "=pre-dump", socketVar + "=blcr-cli-none"}, scriptYes},
	} {
		script := exec.Command(proc.Self())
		script.Env = c.env
		_ = script.Run()
		if got := script.ProcessState.ExitCode(); got != c.want {
			t.Errorf("%q: exit status %d, want %d", c.env, got, c.want)
		}
	}
}
