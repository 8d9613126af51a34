//go:build batch

package batch

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"blcr-cli/test/harness"
)

// simulate is the program of the jobs, which the scripts start as "./simulate input": it
// writes the number of each step until there is a file finish, and ends with 7. What it
// appends to steps shows a step that has been repeated; into kept that is written again
// in its old place.
const simulate = `#!/bin/sh
task=${TASK:-${SLURM_ARRAY_TASK_ID:-$PARALLEL_SEQ}} task=${task:+.$task}
exec 3>"kept$task"
n=0
until [ -e finish ]
do
	n=$((n + 1))
	echo "$n" >>"steps$task"
	echo "$n" >&3
	sleep 0.1
done
echo "finished"
exit 7
`

// patience is how long is waited for a state of a batch system, which looks at its jobs
// every 30 seconds, and lets a requeued one wait for some.
const patience = 4 * time.Minute

// newWork makes a directory of the user with the program.
func newWork(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(scratch, strings.ReplaceAll(t.Name(), "/", "."))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "simulate"), simulate)
	write(t, filepath.Join(dir, "input"), "")
	if err := os.Chown(dir, int(user.Uid), int(user.Gid)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			show(t, dir)
		}
	})
	return dir
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := harness.WriteProgram(path, []byte(content), 0o755); err != nil {
		t.Fatal(err)
	}
}

// show logs the short texts of a directory.
func show(t *testing.T, dir string) {
	names, _ := filepath.Glob(filepath.Join(dir, "*"))
	for _, name := range names {
		info, err := os.Stat(name)
		if err != nil || !info.Mode().IsRegular() || strings.HasSuffix(name, "simulate") {
			continue
		}
		if text, _ := os.ReadFile(name); info.Size() < 10_000 && !bytes.ContainsRune(text, 0) {
			t.Logf("%s:\n%s", filepath.Base(name), text)
		} else {
			t.Logf("%s: %d bytes", filepath.Base(name), info.Size())
		}
	}
}

// command is one of the user's, in a directory.
func command(dir string, env []string, name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env = dir, environment(env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &user, Setsid: true}
	// Names are looked up as the user does.
	if !strings.Contains(name, "/") {
		if _, err := os.Stat(filepath.Join(bin, name)); err == nil {
			cmd.Path, cmd.Err = filepath.Join(bin, name), nil
		}
	}
	return cmd
}

// poll waits for a state with [patience].
func poll(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !holds(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("does not come: %s", what)
		}
	}
}

// steps returns how many steps there were, after it has seen that each was done once.
func steps(t *testing.T, file string) int {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		if !strings.HasSuffix(line, "\n") {
			return n - 1
		}
		if line != strconv.Itoa(n)+"\n" {
			t.Fatalf("%s: step %d is %q", file, n, line)
		}
	}
	return n
}

// goesOn waits until some more steps have been done.
func goesOn(t *testing.T, file string) {
	t.Helper()
	from := steps(t, file)
	poll(t, fmt.Sprintf("steps in %s beyond %d", file, from+3), func() bool { return steps(t, file) > from+3 })
}

// finish lets the programs of a directory end.
func finish(t *testing.T, dir string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "finish"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
}
