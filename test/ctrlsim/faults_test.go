//go:build linux && amd64

package ctrlsim

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// faulty runs a program of prog_test.go in an empty directory under a fault
// plan, and says which files it leaves.
func faulty(t *testing.T, prog string, f *Faults) (try, []string) {
	t.Helper()
	dir := t.TempDir()
	c := goProgram(prog, dir)
	c.Faults = f
	c.Scenario = MustScenario("chkpt-reap 0")
	r := run(t, c)
	if r.err != nil || len(r.Problems) > 0 {
		t.Errorf("%v, problems %q", r.err, r.Problems)
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*"))
	for i := range files {
		files[i] = filepath.Base(files[i])
	}
	// How many descriptors the runtime has is its own business, and where the
	// directory is changes.
	for i := range r.Calls {
		r.Calls[i].Detail = strings.ReplaceAll(r.Calls[i].Detail, dir, "DIR")
		if strings.HasPrefix(r.Calls[i].Detail, "fd=") {
			_, r.Calls[i].Detail, _ = strings.Cut(r.Calls[i].Detail, " ")
		}
	}
	return r, files
}

// ofLoader says whether a call is one of the dynamic loader, which the test
// binary has if cgo was on.
func ofLoader(c Call) bool {
	for _, dir := range []string{"/etc/ld.so.", "/lib", "/usr/lib"} {
		if strings.HasPrefix(c.Detail, dir) {
			return true
		}
	}
	return false
}

// names are the calls, without those of the Go library that do not concern us.
func names(calls []Call) []string {
	var l []string
	for _, c := range calls {
		if c.Name != "fcntl" && c.Name != "fstat" && !ofLoader(c) {
			l = append(l, c.Name+" "+c.Detail)
		}
	}
	return l
}

func TestList(t *testing.T) {
	var first []Call
	for i := range 20 {
		r, files := faulty(t, "faults", new(Faults))
		if r.ExitCode != 0 || r.FaultHit || !slices.Equal(files, []string{"context", "hook", "old"}) {
			t.Fatalf("exit %d, %v, %q", r.ExitCode, files, r.out)
		}
		if i == 0 {
			first = r.Calls
		} else if !slices.Equal(r.Calls, first) {
			t.Fatalf("run %d:\n%v\nfirst:\n%v", i, r.Calls, first)
		}
	}
	got := names(first)
	index := make(map[int]int) // the hook's process is one of the program's before its exec
	for i, c := range first {
		if index[c.Proc]++; c.N != i+1 || c.Proc > 2 || c.Index != index[c.Proc] {
			t.Errorf("number %d: %v", i+1, c)
		}
	}
	wantStart := []string{"openat tmp", "openat control file", "ioctl VERSION", "ioctl CHKPT_REQ",
		"ppoll fd=N control file", "ioctl CHKPT_LOG", "ioctl CHKPT_REAP",
		"fsync DIR/tmp", "linkat tmp old", "newfstatat context", "renameat tmp context"}
	for i, name := range got {
		if strings.HasPrefix(name, "ppoll") || strings.HasPrefix(name, "poll") {
			got[i] = "ppoll fd=N control file"
		}
	}
	if len(got) < len(wantStart) || !slices.Equal(got[:len(wantStart)], wantStart) {
		t.Errorf("got:\n%s", strings.Join(got, "\n"))
	}
	for _, name := range got {
		if strings.Contains(name, "hook") {
			t.Errorf("a hook's call is counted: %s", name)
		}
	}
}

// Every call can be made to fail, and is the only one that does.
func TestFail(t *testing.T) {
	r, _ := faulty(t, "faults", new(Faults))
	calls := r.Calls
	for _, c := range calls {
		if c.Name == "fcntl" || ofLoader(c) { // whose errors are overlooked
			continue
		}
		r, _ := faulty(t, "faults", &Faults{At: Point{N: c.N}, Errno: unix.EMLINK})
		if !r.FaultHit || !r.Calls[c.N-1].Fault || len(r.Calls) < c.N || r.Calls[c.N-1].Name != c.Name {
			t.Fatalf("%v: %v", c, r.Calls)
		}
		failed := strings.Contains(r.out, "too many links")
		switch c.Name {
		case "fstat", "newfstatat", "faccessat2", "waitid", "wait4", "clone", "clone3", "write":
			// what the Go library makes of these is its own business
		default:
			if !failed || r.ExitCode != 1 {
				t.Errorf("%v: exit %d, %q", c, r.ExitCode, r.out)
			}
		}
		if c.Name == "ioctl" && !slices.Contains(r.Transcript[max(len(r.Transcript)-1, 0):], lastOf(r.Transcript, "[fault]")) {
			t.Errorf("%v: transcript\n%s", c, r.TranscriptText())
		}
	}
	// Beyond the last one.
	r, _ = faulty(t, "faults", &Faults{At: Point{N: len(calls) + 1}, Errno: unix.EIO})
	if r.FaultHit || r.ExitCode != 0 {
		t.Errorf("beyond the end: %v, exit %d", r.FaultHit, r.ExitCode)
	}
}

func lastOf(lines []string, suffix string) string {
	for _, line := range slices.Backward(lines) {
		if strings.HasSuffix(line, suffix) {
			return line
		}
	}
	return "none"
}

func TestKill(t *testing.T) {
	r, _ := faulty(t, "faults", new(Faults))
	at := func(name string) Point {
		for _, c := range r.Calls {
			if c.Name+" "+c.Detail == name {
				return Point{N: c.N}
			}
		}
		t.Fatalf("no %q in\n%s", name, r.CallsText())
		return Point{}
	}
	for _, test := range []struct {
		name  string
		files []string
	}{
		{"openat tmp", nil},
		{"ioctl CHKPT_REQ", []string{"tmp"}},
		{"linkat tmp old", []string{"tmp"}},
		{"renameat tmp context", []string{"old", "tmp"}},
	} {
		r, files := faulty(t, "faults", &Faults{At: at(test.name), Kill: true})
		if r.Signal != unix.SIGKILL || !r.FaultHit || !slices.Equal(files, test.files) {
			t.Errorf("%s: signal %v, files %v", test.name, r.Signal, files)
		}
	}
}

// Two processes of the program are counted apart, too.
func TestFaultProcesses(t *testing.T) {
	r, _ := faulty(t, "forks", new(Faults))
	if r.ExitCode != 0 {
		t.Fatal(r.out)
	}
	second := 0
	for _, c := range r.Calls {
		if c.Proc == 2 && c.Name == "fsync" {
			second = c.Index
		}
	}
	if second == 0 {
		t.Fatalf("no second process in\n%s", r.CallsText())
	}
	r, files := faulty(t, "forks", &Faults{At: Point{Proc: 2, N: second}, Errno: unix.EDQUOT})
	if !r.FaultHit || r.ExitCode != 1 || !strings.Contains(r.out, "disk quota exceeded") || len(files) > 0 {
		t.Errorf("exit %d, %q, files %v", r.ExitCode, r.out, files)
	}
	// Killing the second process leaves the first one alone.
	r, _ = faulty(t, "forks", &Faults{At: Point{Proc: 2, N: second}, Kill: true})
	if r.ExitCode != 1 || r.out != "signal: killed\n" {
		t.Errorf("exit %d, %q", r.ExitCode, r.out)
	}
}

// The C client: a real fork, whose child is counted until it is a job.
func TestFaultRestart(t *testing.T) {
	ctx := context(t)
	plan := func(f *Faults) try {
		c := restartBy(t, true, "procs 3\njob sh exit 5", ctx)
		c.Faults = f
		return run(t, c)
	}
	r := plan(&Faults{Count: []string{"ioctl", "fork", "wait", "execve"}})
	if r.ExitCode != 0 {
		t.Fatal(r.out)
	}
	var got []string
	for _, c := range r.Calls {
		got = append(got, fmt.Sprintf("%d %s %s", c.Proc, c.Name, c.Detail))
	}
	slices.Sort(got)
	want := []string{
		"1 clone ", "1 ioctl RSTRT_LOG", "1 ioctl RSTRT_PROCS", "1 ioctl RSTRT_PROCS", "1 ioctl RSTRT_REAP",
		"1 ioctl RSTRT_REQ", "1 ioctl VERSION", "1 wait4 pid options=0x2",
		"2 ioctl RSTRT_CHILD", "2 ioctl RSTRT_CHILD", "2 ioctl RSTRT_CHILD",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got:\n%s", strings.Join(got, "\n"))
	}
	r = plan(&Faults{Count: []string{"fork"}, At: Point{N: 1}, Errno: unix.EAGAIN})
	if r.out != "fork: EAGAIN\n" {
		t.Errorf("fork: %q", r.out)
	}
	r = plan(&Faults{Count: []string{"ioctl"}, At: Point{Proc: 1, N: 5}, Errno: unix.EINTR})
	if !strings.Contains(r.TranscriptText(), "RSTRT_LOG = -EINTR [fault]") {
		t.Errorf("transcript:\n%s", r.TranscriptText())
	}
}

func TestFaultsBad(t *testing.T) {
	for _, f := range []*Faults{
		{Count: []string{"nosuch"}},
		{At: Point{N: 1}},
	} {
		if _, err := (&Command{Path: "true", Faults: f}).Run(); err == nil {
			t.Errorf("%v is accepted", f)
		}
	}
	for s, want := range map[string]Point{"1": {0, 1}, "12": {0, 12}, "2.5": {2, 5}} {
		if p, err := ParsePoint(s); err != nil || p != want || p.String() != s {
			t.Errorf("%s: %v %v", s, p, err)
		}
	}
	for _, s := range []string{"", "0", "x", "1.0", "0.1", "1.2.3", "-1", "1 "} {
		if p, err := ParsePoint(s); err == nil {
			t.Errorf("%q is accepted: %v", s, p)
		}
	}
	for _, name := range append(slices.Clone(DefaultCount), MoreCount...) {
		if _, err := newPlan(&Faults{Count: []string{name}}); err != nil {
			t.Error(err)
		}
	}
}

// All calls that can be counted, counted at once: nothing hangs.
func TestCountAll(t *testing.T) {
	r, _ := faulty(t, "faults", &Faults{Count: append(slices.Clone(DefaultCount), MoreCount...)})
	if r.ExitCode != 0 || len(r.Calls) < 20 {
		t.Errorf("exit %d, %d calls\n%s", r.ExitCode, len(r.Calls), r.out)
	}
	if os.Getenv("CTRLSIM_VERBOSE") != "" {
		t.Log(r.CallsText())
	}
}
