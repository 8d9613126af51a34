package forkexec

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/signals"
)

// roleEnv makes the test binary, started by one of its tests, print its state.
const roleEnv = "FORKEXEC_TEST_ROLE"

func TestMain(m *testing.M) {
	if os.Getenv(roleEnv) == "orphan" {
		orphan()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// wait reaps a child.
func wait(t *testing.T, pid int) unix.WaitStatus {
	t.Helper()
	for {
		var status unix.WaitStatus
		switch _, err := unix.Wait4(pid, &status, 0, nil); err {
		case unix.EINTR:
		case nil:
			return status
		default:
			t.Fatal(err)
		}
	}
}

// output runs a shell script and returns its output, which it reads from a pipe.
func output(t *testing.T, script string, attr *Attr) string {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if attr.Files == nil {
		attr.Files = []uintptr{0, w.Fd(), 2}
	}
	for i, fd := range attr.Files {
		if fd == toPipe {
			attr.Files[i] = w.Fd()
		}
	}
	pid, err := Start("/bin/sh", []string{"the name", "-c", script}, attr)
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	out := make([]byte, 1<<16)
	n := 0
	for {
		k, err := r.Read(out[n:])
		if n += k; err != nil {
			break
		}
	}
	if status := wait(t, pid); !status.Exited() || status.ExitStatus() != 0 {
		t.Errorf("%q: status %#x", script, status)
	}
	return string(out[:n])
}

// toPipe, in Attr.Files, is output's pipe.
const toPipe = 1 << 20

func TestArguments(t *testing.T) {
	got := output(t, `echo $0; echo $A; echo "$B"`, &Attr{Env: []string{"A=1", "B=two words"}})
	if want := "the name\n1\ntwo words\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestFiles: each descriptor gets its number, also if one replaces another. Missing
// standard descriptors are closed. Other descriptors are inherited unless they are
// close-on-exec.
func TestFiles(t *testing.T) {
	dir := t.TempDir()
	open := func(name string, flags int) uintptr {
		fd, err := unix.Open(filepath.Join(dir, name), flags|unix.O_RDWR|unix.O_CREAT, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		return uintptr(fd)
	}
	a, b := open("a", unix.O_CLOEXEC), open("b", unix.O_CLOEXEC)
	kept := open("kept", 0)
	at := func(fd uintptr, number int) uintptr {
		if err := unix.Dup3(int(fd), number, unix.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(number) })
		return uintptr(number)
	}
	low, high := at(a, 100), at(b, 101)
	const closed = ^uintptr(0)
	list := `for fd in 0 1 2 3 4 5 6 100 101; do test $fd = 1 || { test -e /proc/self/fd/$fd && echo $fd $(basename $(readlink /proc/self/fd/$fd)); }; done; true`
	for _, c := range []struct {
		files []uintptr
		want  string
	}{
		{[]uintptr{low, toPipe, high}, "0 a\n2 b\n"},
		{[]uintptr{low, toPipe}, "0 a\n"},
		{[]uintptr{closed, toPipe, closed}, ""},
		{[]uintptr{high, toPipe, low, closed, low, high}, "0 b\n2 a\n4 a\n5 b\n"},
	} {
		before := openFiles(t)
		got := output(t, list, &Attr{Files: slices.Clone(c.files)})
		// Descriptors that are inherited, and those that the shell has opened.
		got = strings.ReplaceAll(got, fmt.Sprintf("%d kept\n", kept), "")
		var lines []string
		for line := range strings.Lines(got) {
			if strings.HasSuffix(line, " a\n") || strings.HasSuffix(line, " b\n") {
				lines = append(lines, line)
			}
		}
		if got := strings.Join(lines, ""); got != c.want {
			t.Errorf("%v: %q, want %q", c.files, got, c.want)
		}
		if after := openFiles(t); !maps.Equal(before, after) {
			t.Errorf("descriptors %v, were %v", after, before)
		}
	}
	if got := output(t, fmt.Sprintf("test -e /proc/self/fd/%d && echo kept", kept), &Attr{}); got != "kept\n" {
		t.Errorf("a descriptor without close-on-exec: %q", got)
	}

	// Two that are exchanged.
	swap := output(t, `echo to 1; echo to 2 >&2`, &Attr{Files: []uintptr{0, 2, toPipe}})
	if swap != "to 2\n" {
		t.Errorf("exchanged: %q", swap)
	}
}

func openFiles(t *testing.T) map[string]string {
	t.Helper()
	dir, err := os.Open("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, name := range names {
		if name == strconv.Itoa(int(dir.Fd())) {
			continue
		}
		files[name], _ = os.Readlink("/proc/self/fd/" + name)
	}
	return files
}

// TestErrors: an error in the child is returned to the caller, and the child is gone.
func TestErrors(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/text", []byte("no program"), 0o755); err != nil {
		t.Fatal(err)
	}
	before := openFiles(t)
	for _, c := range []struct {
		path string
		attr Attr
		want error
	}{
		{dir + "/missing", Attr{}, syscall.ENOENT},
		{dir, Attr{}, syscall.EACCES},
		{dir + "/text", Attr{}, syscall.ENOEXEC},
		{dir + "/missing", Attr{Files: []uintptr{0, 1, 2, 1, 0}, Setsid: true, Answers: true}, syscall.ENOENT},
		{"/bin/true", Attr{Files: []uintptr{0, 1, 1 << 19}}, syscall.EBADF},
		{"/bin/true", Attr{Pdeathsig: 1000}, syscall.EINVAL},
		{"a\x00b", Attr{}, syscall.EINVAL},
	} {
		pid, err := Start(c.path, []string{"x"}, &c.attr)
		if !errors.Is(err, c.want) {
			t.Errorf("%q: %d, %v; want %v", c.path, pid, err, c.want)
		}
	}
	if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); err != unix.ECHILD {
		t.Errorf("child %d is left, %v", pid, err)
	}
	if after := openFiles(t); !maps.Equal(before, after) {
		t.Errorf("descriptors %v, were %v", after, before)
	}
}

// TestSignals: the mask and the dispositions of the new program.
func TestSignals(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var one, old unix.Sigset_t
	one.Val[0] = 1 << (unix.SIGUSR2 - 1)
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, &one, &old); err != nil {
		t.Fatal(err)
	}
	defer unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil)
	if err := signals.Catch(unix.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	defer signals.Default(unix.SIGUSR1)
	for _, answers := range []bool{false, true} {
		status := output(t, "exec cat /proc/self/status", &Attr{Answers: answers, Env: []string{"PATH=/bin:/usr/bin"}})
		set := func(name string) uint64 {
			_, value, _ := strings.Cut(status, "\n"+name+":\t")
			value, _, _ = strings.Cut(value, "\n")
			n, err := strconv.ParseUint(value, 16, 64)
			if err != nil {
				t.Errorf("%s: %q", name, value)
			}
			return n
		}
		if blocked := set("SigBlk"); blocked&(1<<11) == 0 || blocked&(1<<14) != 0 {
			t.Errorf("blocked %#x", blocked)
		}
		if caught := set("SigCgt"); caught != 0 {
			t.Errorf("caught %#x", caught)
		}
		if ignored := set("SigIgn")>>63 == 1; ignored != answers {
			t.Errorf("signal 64 ignored: %v, want %v", ignored, answers)
		}
		if ignored := set("SigIgn"); ignored&(1<<9) != 0 {
			t.Errorf("ignored %#x", ignored)
		}
	}
}

// TestIgnored: a program is started with signals ignored, that one is caught here, and by
// Ignoring.
func TestIgnored(t *testing.T) {
	if err := signals.Catch(unix.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	defer signals.Default(unix.SIGUSR1)
	ignored := []syscall.Signal{unix.SIGUSR1, unix.SIGTERM, unix.SIGTTOU}
	want := uint64(1)<<(unix.SIGUSR1-1) | 1<<(unix.SIGTERM-1) | 1<<(unix.SIGTTOU-1)
	of := func(status string) uint64 {
		_, value, _ := strings.Cut(status, "SigIgn:\t")
		value, _, _ = strings.Cut(value, "\n")
		n, err := strconv.ParseUint(value, 16, 64)
		if err != nil {
			t.Error(err)
		}
		return n
	}
	own, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	want |= of(string(own))
	check := func(what, status string) {
		t.Helper()
		if got := of(status); got != want {
			t.Errorf("%s: ignored %#x, want %#x", what, got, want)
		}
	}
	env := []string{"PATH=/bin:/usr/bin"}
	check("Ignored", output(t, "exec cat /proc/self/status", &Attr{Ignored: ignored, Env: env}))
	check("Ignored, Vfork", output(t, "exec cat /proc/self/status", &Attr{Ignored: ignored, Env: env, Vfork: true}))

	path, argv := Ignoring("/bin/cat", []string{"name", "/proc/self/status", "a b"}, ignored)
	if argv[len(argv)-1] != "a b" {
		t.Errorf("%q", argv)
	}
	quoted := "'" + strings.Join(argv[1:len(argv)-1], "' '") + "'"
	check("Ignoring", output(t, "exec "+path+" "+quoted, &Attr{Env: env}))

	if path, argv := Ignoring("/bin/cat", []string{"name", "x"}, nil); path != "/bin/cat" || !slices.Equal(argv, []string{"name", "x"}) {
		t.Errorf("%q %q", path, argv)
	}
}

func TestSession(t *testing.T) {
	const session = `read -r line </proc/self/stat; set -- ${line##*)}; echo $4`
	own, err := unix.Getsid(0)
	if err != nil {
		t.Fatal(err)
	}
	if got := output(t, session, &Attr{}); got != fmt.Sprintln(own) {
		t.Errorf("session %q, want %d", got, own)
	}
	if got := output(t, session, &Attr{Setsid: true}); got == fmt.Sprintln(own) {
		t.Errorf("session %q", got)
	}
}

// orphan starts a program that ends with its parent, prints its pid, and ends.
func orphan() {
	runtime.LockOSThread()
	pid, err := Start("/bin/sleep", []string{"sleep", "100"}, &Attr{Files: []uintptr{0, ^uintptr(0), 2}, Pdeathsig: syscall.SIGTERM})
	fmt.Println(pid, err)
}

func TestParentDeath(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	out := output(t, "exec "+exe, &Attr{Env: append(os.Environ(), roleEnv+"=orphan")})
	var pid int
	if _, err := fmt.Sscanf(out, "%d <nil>", &pid); err != nil {
		t.Fatalf("%v in %q", err, out)
	}
	for deadline := time.Now().Add(20 * time.Second); unix.Kill(pid, 0) == nil; time.Sleep(time.Millisecond) {
		// A zombie counts as gone: the process that adopts orphans may be slow to reap
		// it.
		stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if _, state, _ := strings.Cut(string(stat), ") "); strings.HasPrefix(state, "Z") {
			break
		}
		if time.Now().After(deadline) {
			unix.Kill(pid, unix.SIGKILL)
			t.Fatal("it has not ended with its parent")
		}
	}
}

// TestMany starts programs from many goroutines while garbage is collected.
func TestMany(t *testing.T) {
	var starters sync.WaitGroup
	for range 8 {
		starters.Go(func() {
			for i := range 10 {
				pid, err := Start("/bin/sh", []string{"sh", "-c", "exit $A"}, &Attr{
					Env: []string{fmt.Sprint("A=", i)}, Files: []uintptr{2, 1, 0, 1, 2}, Vfork: i%2 == 1,
				})
				if err != nil {
					t.Error(err)
					return
				}
				if status := wait(t, pid); status.ExitStatus() != i {
					t.Errorf("status %#x, want exit %d", status, i)
				}
				runtime.GC()
			}
		})
	}
	starters.Wait()
}

// TestForked: what Forked does has happened when the program begins, and its error is
// Start's, without a program.
func TestForked(t *testing.T) {
	name := filepath.Join(t.TempDir(), "pid")
	forked := 0
	pid, err := Start("/bin/sh", []string{"sh", "-c", `[ "$(cat "$0")" = $$ ]`, name}, &Attr{
		Env: os.Environ(), Setsid: true,
		Forked: func(pid int) error {
			forked = pid
			return os.WriteFile(name, fmt.Append(nil, pid), 0o600)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	var status unix.WaitStatus
	if _, err := unix.Wait4(pid, &status, 0, nil); err != nil || status != 0 || forked != pid {
		t.Errorf("%v, status %#x, process %d, in Forked %d", err, status, pid, forked)
	}
	made := name + ".made"
	_, err = Start("/bin/sh", []string{"sh", "-c", `: >"$0"`, made}, &Attr{Forked: func(int) error { return unix.ENOSPC }})
	if _, e := os.Stat(made); err != unix.ENOSPC || e == nil {
		t.Errorf("%v; the program has run: %v", err, e == nil)
	}
}
