package reexec

import (
	"fmt"
	"io"
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func init() {
	Register(Role{Name: "show", Numbers: 2, Run: func(numbers []int, args []string) int {
		_, err := unix.FcntlInt(uintptr(numbers[0]), unix.F_GETFD, 0)
		fmt.Printf("%d %v %q %s %v", numbers[1], err == nil, args, os.Getenv("REEXEC_TEST"), len(os.Args[0]) > 0)
		return 7
	}})
	Register(Role{Name: "script", Asked: func() bool { return os.Getenv("REEXEC_TEST_SCRIPT") != "" }, Run: func(numbers []int, args []string) int {
		fmt.Printf("script %d %q", len(numbers), args)
		return 8
	}})
}

func TestMain(m *testing.M) {
	if status, inner := Main(); inner {
		os.Exit(status)
	}
	os.Exit(m.Run())
}

// started starts a role and returns its output and exit status.
func started(t *testing.T, role string, numbers []int, args []string, inherited []int, env ...string) (string, int) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	pid, err := Start(role, numbers, args, Attr{Env: env, Files: []uintptr{0, w.Fd(), 2}, Inherited: inherited})
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	output, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(pid, &status, 0, nil); err != nil {
		t.Fatal(err)
	}
	return string(output), status.ExitStatus()
}

// TestStart: the parameters, arguments and descriptors that a role gets.
func TestStart(t *testing.T) {
	t.Setenv("REEXEC_TEST", "ours")
	null, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	fd := int(null.Fd())
	args := []string{"-f", "", "a b", "--", "x:show 1 2"}
	for _, c := range []struct {
		inherited []int
		env       []string
		want      string
	}{
		{nil, nil, fmt.Sprintf("-1 false %q ours true", args)},
		{[]int{-1, fd}, nil, fmt.Sprintf("-1 true %q ours true", args)},
		{nil, []string{"REEXEC_TEST=set"}, fmt.Sprintf("-1 false %q set true", args)},
	} {
		output, status := started(t, "show", []int{fd, -1}, args, c.inherited, c.env...)
		if output != c.want || status != 7 {
			t.Errorf("%+v: %q, exit status %d", c, output, status)
		}
	}
	if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("the inherited descriptor has flags %#x afterwards, %v", flags, err)
	}
}

// TestAsked: a role in which another program starts this one is recognized.
func TestAsked(t *testing.T) {
	if output, status := started(t, "none", nil, []string{"x"}, nil, "REEXEC_TEST_SCRIPT=1"); output != `script 0 ["x"]` || status != 8 {
		t.Errorf("%q, exit status %d", output, status)
	}
}

// TestNone: other values of argv[0] are not a role, and the process runs as the program
// itself.
func TestNone(t *testing.T) {
	before := os.Args
	defer func() { os.Args = before }()
	for _, argv0 := range []string{"cr_checkpoint", "", ":", "a:", "a: ", "a:show", "a:show 1", "a:show 1 2 3", "a:show 1 x", "a:shown 1 2", "show 1 2", "a:script", "a:show 1 99999999999999999999", "/x:show 1 2/a", "a/"} {
		os.Args = []string{argv0, "--version"}
		if status, inner := Main(); inner {
			t.Errorf("%q is a role, with exit status %d", argv0, status)
		}
	}
	os.Args = nil
	if _, inner := Main(); inner {
		t.Error("no arguments are a role")
	}
	os.Args = []string{"/usr/bin/cr_checkpoint:worker 1 2 3"}
	if got := argv0("monitor", []int{5, -1}); got != "/usr/bin/cr_checkpoint:monitor 5 -1" {
		t.Error(got)
	}
}
