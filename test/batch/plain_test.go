//go:build batch

package batch

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"blcr-cli/test/harness"
)

// TestShell: a job without a batch system that is ended and started again.
func TestShell(t *testing.T) {
	t.Parallel()
	dir := newWork(t)
	file := filepath.Join(dir, "steps")
	for range 2 {
		cmd, end := begin(t, dir, "out", &user, nil, "sh", example(t, "shell.sh"))
		goesOn(t, file)
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if status := end(); status != 85 {
			t.Fatalf("it has ended with %d, want 85", status)
		}
	}
	_, end := begin(t, dir, "out", &user, nil, "sh", example(t, "shell.sh"))
	goesOn(t, file)
	finish(t, dir)
	if status := end(); status != 7 {
		t.Errorf("it has ended with %d, want 7", status)
	}
	steps(t, file)
	if out, _ := os.ReadFile(filepath.Join(dir, "output")); !strings.Contains(string(out), "finished\n") {
		t.Errorf("the output is %q", out)
	}
}

// TestParallel: two jobs of GNU parallel that are saved, ended, and started again.
func TestParallel(t *testing.T) {
	t.Parallel()
	harness.Tool(t, "parallel")
	dir := newWork(t)
	files := []string{filepath.Join(dir, "steps.1"), filepath.Join(dir, "steps.2")}
	for run := range 2 {
		_, end := begin(t, dir, "out", &user, nil, "sh", example(t, "parallel.sh"), "a", "b")
		for _, file := range files {
			goesOn(t, file)
		}
		if run == 0 {
			signalBatch(t, dir)
		} else {
			finish(t, dir)
		}
		if status := end(); status != 2 {
			t.Fatalf("parallel has ended with %d, want 2: the jobs that have not succeeded", status)
		}
	}
	for _, file := range files {
		steps(t, file)
	}
}
