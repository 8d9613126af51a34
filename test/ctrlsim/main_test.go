//go:build linux && amd64

package ctrlsim

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"blcr-cli/test/harness"
)

// progVar makes the test binary be one of the programs of prog_test.go.
const progVar = "CTRLSIM_TEST_PROGRAM"

func TestMain(m *testing.M) {
	Init()
	if name := os.Getenv(progVar); name != "" {
		os.Unsetenv(progVar)
		os.Exit(runProgram(name, os.Args[1:]))
	}
	status := harness.Main(m)
	if built.dir != "" {
		os.RemoveAll(built.dir)
	}
	os.Exit(status)
}

// built are the C programs of testdata that have been built.
var built struct {
	sync.Mutex
	dir   string
	names map[string]bool
}

// build builds a C program of testdata, once, and returns its path.
func build(t *testing.T, name string) string {
	t.Helper()
	cc := harness.Compiler(t)
	built.Lock()
	defer built.Unlock()
	if built.dir == "" {
		var err error
		if built.dir, err = os.MkdirTemp("", "ctrlsim"); err != nil {
			t.Fatal(err)
		}
		built.names = make(map[string]bool)
	}
	path := filepath.Join(built.dir, name)
	if !built.names[name] {
		out, err := exec.Command(cc, "-O1", "-pthread", "-o", path, "testdata/"+name+".c").CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		built.names[name] = true
	}
	return path
}

// try is a Command that has run.
type try struct {
	*Result
	out string
	err error
}

// run runs c, whose output is collected.
func run(t *testing.T, c *Command) try {
	t.Helper()
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	if c.Timeout == 0 {
		c.Timeout = harness.Patience
	}
	res, err := c.Run()
	if res == nil {
		t.Fatalf("%s: %v\n%s", c.Path, err, out.String())
	}
	return try{res, out.String(), err}
}

// good runs c and wants exit status 0 and no problems.
func good(t *testing.T, c *Command) try {
	t.Helper()
	r := run(t, c)
	if r.err != nil || r.ExitCode != 0 || len(r.Problems) > 0 || len(r.Leftover) > 0 {
		t.Errorf("exit %d signal %v err %v problems %q leftover %v\n%s%s", r.ExitCode, r.Signal, r.err,
			r.Problems, r.Leftover, r.out, r.TranscriptText())
	}
	return r
}

// goProgram is a program of prog_test.go.
func goProgram(name string, args ...string) *Command {
	// A preemption signal of the Go runtime would interrupt what it waits for.
	return &Command{Path: "/proc/self/exe", Argv0: name, Args: args, Env: append(os.Environ(), progVar+"="+name, "GODEBUG=asyncpreemptoff=1")}
}

// wantTranscript compares a transcript, blanks at the lines' ends left out.
func wantTranscript(t *testing.T, r try, want string) {
	t.Helper()
	if got := strings.Join(r.Transcript, "\n"); got != strings.TrimSpace(want) {
		t.Errorf("transcript:\n%s\nwant:\n%s\noutput:\n%s", got, strings.TrimSpace(want), r.out)
	}
}

// victim is a process to be checkpointed.
func victim(t *testing.T) *exec.Cmd {
	t.Helper()
	c := exec.Command("sleep", "100")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Process.Kill()
		c.Wait()
	})
	return c
}

// context makes a context by a checkpoint, and says where.
func context(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "context")
	good(t, goProgram("chkpt", fmt.Sprint(victim(t).Process.Pid), name))
	return name
}
