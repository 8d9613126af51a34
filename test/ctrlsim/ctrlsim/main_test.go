//go:build linux && amd64

package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/test/ctrlsim"
)

// mainVar makes the test binary be the command.
const mainVar = "CTRLSIM_TEST_MAIN"

func TestMain(m *testing.M) {
	ctrlsim.Init()
	if os.Getenv(mainVar) != "" {
		os.Unsetenv(mainVar)
		os.Exit(run(os.Args[1:], inheritedFiles()))
	}
	os.Exit(m.Run())
}

func command(args ...string) *exec.Cmd {
	c := exec.Command("/proc/self/exe", args...)
	c.Env = append(os.Environ(), mainVar+"=1")
	return c
}

// open is a shell script that opens the control file: the shell has no ioctl.
const open = `exec 5>/proc/checkpoint/ctrl`

func TestCommand(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := os.WriteFile(at("scenario"), []byte("# nothing\nopen EACCES\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		args   []string
		status syscall.WaitStatus
		out    string // expression for the output
	}{
		{[]string{"--", "sh", "-c", "echo out; echo err >&2; exit 3"}, 3 << 8, "^out\nerr\n$"},
		{[]string{"sh", "-c", "kill -TERM $$"}, 15, "^$"},
		{[]string{"sh", "-c", "kill -SEGV $$"}, 11, "^$"},
		{[]string{"sh", "-c", "kill -KILL $$"}, 9, "^$"},
		{[]string{"sh", "-c", open + " && echo opened"}, 0, "^opened\n$"},
		{[]string{"-scenario", at("scenario"), "--", "sh", "-c", open}, 2 << 8, "Permission denied"},
		{[]string{"-scenario", at("scenario"), "-set", "open@1 ENOENT", "--", "sh", "-c", open}, 2 << 8, "(No such file|nonexistent)"},
		{[]string{"-fail", "1:ENOSPC", "-count", "write", "--", "sh", "-c", "echo >/dev/null || exit 9"}, 9 << 8, ""},
		{[]string{"-kill", "1", "-count", "open", "--", "/bin/true"}, 9, "^$"},
		{[]string{"-timeout", "200ms", "--", "sleep", "100"}, 124 << 8, "deadline"},
		{[]string{"--", "no-such-program"}, 127 << 8, "ctrlsim: .*not found"},
		{[]string{"--", "/etc/passwd"}, 126 << 8, "permission denied"},
		{[]string{}, 125 << 8, "Usage: ctrlsim"},
		{[]string{"-nosuch"}, 125 << 8, "Usage: ctrlsim"},
		{[]string{"-set", "nosuch", "true"}, 125 << 8, "no such key"},
		{[]string{"-fail", "1", "true"}, 125 << 8, "-fail wants"},
		{[]string{"-fail", "x:EIO", "true"}, 125 << 8, "neither"},
		{[]string{"-kill", "1", "-fail", "1:EIO", "true"}, 125 << 8, "exclude"},
		{[]string{"-calls", at("calls"), "-count", "nosuch", "true"}, 125 << 8, "cannot count"},
		{[]string{"-help"}, 0, "^Usage: ctrlsim"},
	} {
		c := command(test.args...)
		out, err := c.CombinedOutput()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		if got := c.ProcessState.Sys().(syscall.WaitStatus); got != test.status || !regexp.MustCompile(test.out).Match(out) {
			t.Errorf("%q: status %#x, want %#x; %q", test.args, got, test.status, out)
		}
	}
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	// The pid file appears after the program has started.
	script := "while ! test -e pid; do sleep 0.01; done; test $$ = $(cat pid) && " + open
	c := command("-transcript", at("transcript"), "-calls", at("calls"), "-count", "+close", "-times", at("times"),
		"-pidfile", at("pid"), "--", "sh", "-c", script)
	c.Dir = dir
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for name, want := range map[string]string{
		"transcript": `^open \{flags=O_WRONLY.*\} = 0\n$`,
		"calls":      `(?m)^\d+ 1\.\d+ openat? control file$`,
		"times":      `^open [1-9]\d*\nioctl 0\nrequest 0\nend [1-9]\d*\n$`,
		"pid":        `^\d+\n$`,
	} {
		if b, err := os.ReadFile(at(name)); err != nil || !regexp.MustCompile(want).Match(b) {
			t.Errorf("%s: %q %v", name, b, err)
		}
	}
}

// The program has the descriptors that an exec would have given it.
func TestDescriptors(t *testing.T) {
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	c := command("--", "sh", "-c", "for i in 0 1 2 3 4 5 6 7 8 9; do test ! -e /proc/$$/fd/$i || echo $i; done")
	c.ExtraFiles = []*os.File{nil, nil, f, nil, f}
	out, err := c.CombinedOutput()
	if got := strings.Fields(string(out)); err != nil || strings.Join(got, " ") != "0 1 2 5 7" {
		t.Errorf("%v %v", got, err)
	}
}

// Signals go on to the program.
func TestSignals(t *testing.T) {
	c := command("--", "sh", "-c", "trap 'echo usr1; exit 4' USR1; echo ready; while :; do sleep 0.01; done")
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 100)
	n, _ := out.Read(buf)
	if string(buf[:n]) != "ready\n" {
		t.Errorf("got %q", buf[:n])
	}
	c.Process.Signal(unix.SIGUSR1)
	n, _ = out.Read(buf)
	if string(buf[:n]) != "usr1\n" {
		t.Errorf("got %q", buf[:n])
	}
	c.Wait()
	if c.ProcessState.ExitCode() != 4 {
		t.Errorf("exit %d", c.ProcessState.ExitCode())
	}

	c = command("--", "sleep", "100")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	// ctrlsim has no handler before the program runs.
	for range 500 {
		if children(c.Process.Pid) {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	c.Process.Signal(unix.SIGTERM)
	c.Wait()
	if st := c.ProcessState.Sys().(syscall.WaitStatus); st.Signal() != unix.SIGTERM {
		t.Errorf("status %#x", st)
	}
}

// children says whether a process has one called sleep.
func children(pid int) bool {
	names, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, name := range names {
		b, _ := os.ReadFile(name)
		f := strings.Fields(string(b))
		if len(f) > 3 && f[1] == "(sleep)" && f[3] == strconv.Itoa(pid) {
			return true
		}
	}
	return false
}
