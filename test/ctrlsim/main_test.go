//go:build linux && amd64

package ctrlsim

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

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
	harness.Start()
	warmUp()
	goroutines, fds := runtime.NumGoroutine(), openFiles()
	status := m.Run()
	if status == 0 {
		status = leaks(goroutines, fds)
	}
	if builtDir != "" {
		os.RemoveAll(builtDir)
	}
	os.Exit(status)
}

// warmUp makes the runtime open what it keeps for ever.
func warmUp() {
	r, w, err := os.Pipe()
	if err != nil {
		panic(err)
	}
	r.SetReadDeadline(time.Now())
	r.Read(make([]byte, 1))
	r.Close()
	w.Close()
	exec.Command("/nonexistent").Run()
	exec.Command("/bin/true").Run()
}

func openFiles() string {
	fds, _ := descriptors(os.Getpid())
	var b strings.Builder
	for _, fd := range fds {
		if link, err := os.Readlink(procFile(os.Getpid(), fmt.Sprintf("fd/%d", fd))); err == nil {
			fmt.Fprintf(&b, "%d %s\n", fd, link)
		}
	}
	return b.String()
}

func leaks(goroutines int, fds string) int {
	for range 100 {
		if runtime.NumGoroutine() <= goroutines && openFiles() == fds {
			return 0
		}
		time.Sleep(10 * time.Millisecond)
	}
	stacks := make([]byte, 1<<16)
	fmt.Printf("leak: %d goroutines, were %d; descriptors:\n%swere:\n%s\n%s\n", runtime.NumGoroutine(), goroutines,
		openFiles(), fds, stacks[:runtime.Stack(stacks, true)])
	return 1
}

var (
	builtMu  sync.Mutex
	built    = make(map[string]error)
	builtDir string
)

// client is the C client, built once.
func client(t *testing.T) string { return build(t, "client") }

// build builds a C program of testdata, once.
func build(t *testing.T, name string) string {
	t.Helper()
	builtMu.Lock()
	defer builtMu.Unlock()
	err, ok := built[name]
	if !ok {
		err = compile(name)
		built[name] = err
	}
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("no C compiler: %v", err)
		}
		t.Skipf("no C compiler: %v", err)
	}
	return filepath.Join(builtDir, name)
}

func compile(name string) (err error) {
	if builtDir == "" {
		if builtDir, err = os.MkdirTemp("", "ctrlsim"); err != nil {
			return err
		}
		os.Chmod(builtDir, 0o755)
	}
	out, err := exec.Command("cc", "-O1", "-pthread", "-o", filepath.Join(builtDir, name), "testdata/"+name+".c").CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
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
		c.Timeout = 10 * time.Second
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
	return &Command{Path: "/proc/self/exe", Argv0: name, Args: args, Env: append(os.Environ(), progVar+"="+name)}
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
