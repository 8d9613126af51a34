//go:build linux && amd64

package ctrlsim

import (
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
