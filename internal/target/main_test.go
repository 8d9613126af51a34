package target

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"blcr-cli/test/harness"

	"golang.org/x/sys/unix"
)

// roleEnv makes the test binary, run again by one of its tests, play a part.
const roleEnv = "TARGET_TEST_ROLE"

// nobody is an unprivileged uid and gid.
const nobody = 65534

func TestMain(m *testing.M) {
	switch os.Getenv(roleEnv) {
	case "hold":
		hold()
	case "full":
		full()
	}
	os.Exit(harness.Main(m))
}

// asRole returns a command that runs this test binary in a role. It works for
// users who may not enter the directory that "go test" built it in.
func asRole(role string, args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), roleEnv+"="+role)
	cmd.Stderr = os.Stderr
	return cmd
}

// TestUnprivileged runs all the other tests once more without root's rights.
func TestUnprivileged(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("the tests run unprivileged as it is")
	}
	if testing.CoverMode() != "" {
		t.Skip("the second run would overwrite the coverage profile")
	}
	tmp, err := os.MkdirTemp("", "unprivileged")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(tmp)
	if err := os.Chown(tmp, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	cmd := asRole("unprivileged", "-test.skip=^TestUnprivileged$")
	cmd.Stderr = nil
	cmd.Env = append(cmd.Env, "TMPDIR="+tmp)
	cmd.Dir = tmp
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if !strings.HasSuffix(string(out), "PASS\n") {
		t.Fatalf("no tests were run:\n%s", out)
	}
}

// workdir makes the working directory a new and empty one. It is in memory
// where possible: the sweeps sync thousands of files.
func workdir(t *testing.T) {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "target")
	if err != nil {
		dir = t.TempDir()
	}
	t.Cleanup(func() {
		os.Chmod(dir, 0o700)
		os.RemoveAll(dir)
	})
	t.Chdir(dir)
}

// empty removes what is in the working directory.
func empty(t *testing.T) {
	t.Helper()
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if err := os.RemoveAll(e.Name()); err != nil {
			t.Fatal(err)
		}
	}
}

// files is a directory: names, and contents. A symbolic link's is "-> " and
// where to; a directory's "dir", a FIFO's "fifo", a socket's "socket".
type files map[string]string

func listing(t *testing.T) files {
	t.Helper()
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	got := files{}
	for _, e := range entries {
		name := e.Name()
		switch e.Type() {
		case 0:
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			got[name] = string(b)
		case os.ModeSymlink:
			to, _ := os.Readlink(name)
			got[name] = "-> " + to
		case os.ModeDir:
			got[name] = "dir"
		case os.ModeNamedPipe:
			got[name] = "fifo"
		case os.ModeSocket:
			got[name] = "socket"
		default:
			got[name] = e.Type().String()
		}
	}
	return got
}

// create makes files of mode 0600, or what else listing describes.
func (f files) create(t *testing.T) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(f)) {
		var err error
		to, isLink := strings.CutPrefix(f[name], "-> ")
		switch {
		case isLink:
			err = os.Symlink(to, name)
		case f[name] == "dir":
			err = os.Mkdir(name, 0o700)
		case f[name] == "fifo":
			err = unix.Mkfifo(name, 0o600)
		case f[name] == "socket":
			var fd int
			if fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0); err == nil {
				err = unix.Bind(fd, &unix.SockaddrUnix{Name: name})
				unix.Close(fd)
			}
		default:
			err = os.WriteFile(name, []byte(f[name]), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func (f files) check(t *testing.T) {
	t.Helper()
	if got := listing(t); !maps.Equal(f, got) {
		t.Errorf("files are %q, want %q", got, f)
	}
}

// checkError holds err against an *Error, or nil.
func checkError(t *testing.T, err error, want *Error) {
	t.Helper()
	if want == nil {
		if err != nil {
			t.Errorf("error %v, want none", err)
		}
		return
	}
	var e *Error
	if !errors.As(err, &e) {
		t.Errorf("error %v, want %v", err, want)
	} else if *e != *want {
		t.Errorf("error %+v, want %+v", *e, *want)
	}
}

// save goes the whole way of a checkpoint, with content for the context.
func save(spec Spec, sys *system, content string) error {
	_, err := saveStages(spec, sys, content)
	return err
}

// saveStages is save, and says whether Begin succeeded.
func saveStages(spec Spec, sys *system, content string) (begun bool, err error) {
	tg, err := openFile(spec, sys)
	if err != nil {
		return false, err
	}
	defer tg.Abort()
	if err := tg.Begin(); err != nil {
		return false, err
	}
	if _, err := unix.Write(tg.FD(), []byte(content)); err != nil {
		return true, err
	}
	return true, tg.Commit()
}

// mustOpen opens a target that is aborted when the test ends.
func mustOpen(t *testing.T, spec Spec, sys *system) *file {
	t.Helper()
	tg, err := openFile(spec, sys)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tg.Abort() })
	return tg
}

// mustWrite begins and writes.
func mustWrite(t *testing.T, tg Destination, content string) {
	t.Helper()
	if err := tg.Begin(); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Write(tg.FD(), []byte(content)); err != nil {
		t.Fatal(err)
	}
}

// failing returns a system whose nth call of that name fails, counting from 1,
// or every one if nth is 0. Arguments in call must match too: "unlink .x.old".
func failing(call string, nth int, errno syscall.Errno) *system {
	n := 0
	return &system{hook: func(name string, args ...string) error {
		if full := strings.Join(append([]string{name}, args...), " "); name != call && full != call {
			return nil
		}
		n++
		if nth == 0 || n == nth {
			return errno
		}
		return nil
	}}
}

// tracing returns a system that appends its calls to *trace.
func tracing(trace *[]string) *system {
	return &system{hook: func(name string, args ...string) error {
		if name == "fsync" {
			args = nil // a descriptor
		}
		*trace = append(*trace, strings.Join(append([]string{name}, args...), " "))
		return nil
	}}
}

// hold plays a cr_checkpoint that is killed while it writes: it opens the
// target named by the environment, says so, and waits.
func hold() {
	t, err := Open(context.Background(), Spec{Path: os.Getenv("TARGET_TEST_PATH")})
	if err == nil {
		err = t.Begin()
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	unix.Write(t.FD(), []byte("half a con"))
	fmt.Println("open")
	unix.Pause()
}

// mountns returns whether this process may make mount namespaces.
func mountns() bool {
	cmd := asRole("none", "-test.run=^$")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	cmd.Stderr = nil
	return cmd.Run() == nil
}

// TestFull runs full in a mount namespace of its own.
func TestFull(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a file system to fill")
	}
	if !harness.All() && !mountns() {
		t.Skip("no right to make a mount namespace")
	}
	cmd := asRole("full")
	cmd.Dir = t.TempDir()
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	if out, err := cmd.Output(); err != nil || string(out) != "ok\n" {
		t.Errorf("%v: %s", err, out)
	}
}

// full fills a tiny file system with a context, for each policy.
func full() {
	check := func(err error) {
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	wd, err := os.Getwd()
	check(err)
	for _, sync := range []bool{false, true} {
		for _, policy := range []Policy{Atomic, Backup, Clobber, NoClobber} {
			check(unix.Mount("tmpfs", wd, "tmpfs", 0, "size=64k"))
			check(os.Chdir(wd))
			if policy != NoClobber {
				check(os.WriteFile("c", []byte("old"), 0o600))
			}
			tg, err := Open(context.Background(), Spec{Path: "c", Policy: policy, Sync: sync})
			check(err)
			check(tg.Begin())
			for err == nil {
				_, err = unix.Write(tg.FD(), make([]byte, 8192))
			}
			if err != unix.ENOSPC {
				check(fmt.Errorf("write: %w", err))
			}
			check(tg.Abort())
			names, err := filepath.Glob("*")
			check(err)
			hidden, err := filepath.Glob(".*")
			check(err)
			old, _ := os.ReadFile("c")
			switch replaced := policy == Atomic || policy == Backup; {
			case len(hidden) != 0, replaced && (len(names) != 1 || string(old) != "old"), !replaced && len(names) != 0:
				check(fmt.Errorf("policy %d left %q %q, content %q", policy, names, hidden, old))
			}
			check(os.Chdir("/"))
			check(unix.Unmount(wd, 0))
		}
	}

	// No inode is left for the temporary file: nothing happens.
	check(unix.Mount("tmpfs", wd, "tmpfs", 0, "nr_inodes=2"))
	check(os.Chdir(wd))
	check(os.WriteFile("c", []byte("old"), 0o600))
	if _, err := Open(context.Background(), Spec{Path: "c"}); !errors.Is(err, unix.ENOSPC) {
		check(fmt.Errorf("open without an inode: %w", err))
	}
	fmt.Println("ok")
	os.Exit(0)
}
