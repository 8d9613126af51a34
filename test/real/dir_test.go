//go:build real

package real

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// criu runs criu itself, as anybody would.
func (j *job) criu(args ...string) {
	j.t.Helper()
	path := os.Getenv("CR_CRIU")
	if path == "" {
		var err error
		if path, err = exec.LookPath("criu"); err != nil {
			j.t.Skip(err)
		}
	}
	// It tries the processor's breakpoints by a process that dies where there are none.
	p := j.start("criu", append([]string{"/bin/sh", "-c", `ulimit -c 0; exec "$@"`, "sh", path}, args...), nil)
	if end := j.wait(p); end != 0 {
		text, _ := os.ReadFile(p.stderr)
		j.t.Fatalf("criu %v: %s\n%s", args, describe(end), text)
	}
}

// saveTo saves the job into a directory.
func (j *job) saveTo(dir string, args ...string) {
	j.t.Helper()
	p := j.command("cr_checkpoint", append(args, "-d", dir)...)
	j.silent(p, j.wait(p))
	st, err := os.Lstat(dir)
	if err != nil {
		j.t.Fatal(err)
	}
	if st.Mode() != os.ModeDir|0o700 {
		j.t.Errorf("mode of the directory is %v", st.Mode())
	}
	if names, _ := filepath.Glob(filepath.Join(filepath.Dir(dir), "."+filepath.Base(dir)+"*")); len(names) > 0 {
		j.t.Errorf("left beside the directory: %v", names)
	}
}

// restartFrom is restart from a directory.
func (j *job) restartFrom(dir string, args ...string) {
	j.t.Helper()
	before := j.beat()
	keepClear(j.pid)
	args = append(args, "-d", dir)
	j.proc = j.command("cr_restart", args...)
	j.advances()
	if j.beat() < before {
		j.t.Errorf("the counter goes back from %d to %d", before, j.beat())
	}
	j.inspect(args)
}

// TestDirectory saves programs into a directory, restores them from there, and
// saves them again over it.
func TestDirectory(t *testing.T) {
	engine(t)
	for _, name := range []string{"counter", "tree", "threads", "unlinked", "shell.sh", "big"} {
		t.Run(name, func(t *testing.T) {
			var p program
			for _, q := range programs {
				if q.name == name {
					p = q
				}
			}
			j := newJob(t, name)
			j.launch()
			dir := filepath.Join(j.dir, "images")
			for n := range 3 {
				all := tree(j.pid)
				j.saveTo(dir, "--kill", j.id(n))
				j.killed(all)
				j.restartFrom(dir, p.restart...)
			}
			j.finish()
		})
	}
}

// TestDirectoryCRIU: criu itself restores what cr_checkpoint has saved, and
// cr_restart what criu has.
func TestDirectoryCRIU(t *testing.T) {
	engine(t)
	j := newJob(t, "counter")
	j.launch()
	dir := filepath.Join(j.dir, "images")
	all := tree(j.pid)
	j.saveTo(dir, "--kill", j.id(0))
	j.killed(all)

	before := j.beat()
	keepClear(j.pid)
	j.criu("restore", "-D", dir, "-W", j.tmp, "-d", "--shell-job")
	j.until("the program to go on", func() bool { return j.beat() > before+2 })
	_ = os.Remove(filepath.Join(j.tmp, "stats-restore"))

	theirs := filepath.Join(j.dir, "theirs")
	if err := os.Mkdir(theirs, 0o755); err != nil {
		t.Fatal(err)
	}
	all = tree(j.pid)
	j.criu("dump", "-D", theirs, "-t", strconv.Itoa(j.pid), "--shell-job")
	j.until("the job's processes to be gone", func() bool {
		return !slices.ContainsFunc(all, func(pid int) bool { return stat(pid) != nil })
	})
	j.restartFrom(theirs)

	// It is a directory of images, so it may be replaced; the backup is whole.
	all = tree(j.pid)
	j.saveTo(theirs, "--backup", "--kill", j.id(1))
	j.killed(all)
	j.restartFrom(theirs)
	all = tree(j.pid)
	for _, sig := range []syscall.Signal{unix.SIGSTOP, unix.SIGKILL} {
		_ = unix.Kill(j.pid, sig)
	}
	j.killed(all)
	if err := os.Remove(filepath.Join(j.dir, "beat")); err != nil {
		t.Fatal(err)
	}
	j.restartFrom(theirs + ".~1~")
	j.finish()
}

// TestDirectoryFailure: nothing is left of a checkpoint into a directory that
// fails, what was there is there, and the job runs on.
func TestDirectoryFailure(t *testing.T) {
	engine(t)
	j := newJob(t, "big")
	j.launch()
	small := filepath.Join(j.dir, "small")
	if err := os.Mkdir(small, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", small, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(small, unix.MNT_DETACH)
	p := j.command("cr_checkpoint", "--kill", "-d", filepath.Join(small, "images"), j.id(0))
	if end := j.wait(p); end != syscall.WaitStatus(unix.ENOSPC)<<8 {
		t.Errorf("on a full disk: %s", describe(end))
	}
	if text, _ := os.ReadFile(p.stderr); !strings.HasPrefix(string(text), "Checkpoint failed: No space left on device\n") {
		t.Errorf("stderr: %s", text)
	}
	if left, _ := os.ReadDir(small); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	j.advances()

	// A signal that ends it while criu works.
	dir := filepath.Join(j.dir, "images")
	j.saveTo(dir, j.id(0))
	inside, _ := os.ReadDir(dir)
	for range 20 {
		p := j.command("cr_checkpoint", "-d", dir, j.id(0))
		hidden := filepath.Join(j.dir, ".images.tmp")
		j.until("the hidden directory, or the end", func() bool {
			select {
			case <-p.ended:
				return true
			default:
			}
			names, _ := os.ReadDir(hidden)
			return len(names) > 3
		})
		_ = unix.Kill(-p.pid, unix.SIGTERM)
		j.wait(p)
		if _, err := os.Lstat(hidden); err == nil {
			t.Error("the hidden directory is left")
		}
		if now, _ := os.ReadDir(dir); len(now) != len(inside) {
			t.Errorf("in the directory are %d files, were %d", len(now), len(inside))
		}
		j.advances()
	}
	j.finish()
}

// TestFixed: what cannot be replaced, by its attributes, is refused before the request, and
// leaves nothing.
func TestFixed(t *testing.T) {
	engine(t)
	j := newJob(t, "counter")
	j.launch()
	where := filepath.Join(j.dir, "where")
	if err := os.Mkdir(where, 0o700); err != nil {
		t.Fatal(err)
	}
	j.write("where/ctx", "old")
	file := filepath.Join(where, "ctx")
	for _, c := range []struct {
		path, flag, how string
	}{{where, "a", "-f"}, {where, "a", "-d"}, {file, "i", "-f"}, {file, "a", "-f"}} {
		reset := setAttribute(t, c.path, c.flag)
		to := file
		if c.how == "-d" {
			to = filepath.Join(where, "dir")
		}
		p := j.command("cr_checkpoint", "--kill", c.how, to, strconv.Itoa(j.pid))
		end := j.wait(p)
		reset()
		text, _ := os.ReadFile(p.stderr)
		if end.ExitStatus() != 1 || !strings.Contains(string(text), "\n- "+c.path+" ") || !strings.Contains(string(text), "'chattr -"+c.flag+"'") {
			t.Errorf("%+v: %s\n%s", c, describe(end), text)
		}
		if names, err := os.ReadDir(where); err != nil || len(names) != 1 {
			t.Errorf("%+v: left %v, %v", c, names, err)
		}
		j.advances()
	}
	j.finish()
}

// setAttribute does what chattr(1) does, and returns how to undo it.
func setAttribute(t *testing.T, path, flag string) (reset func()) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	flags, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags|map[string]int{"i": 0x10, "a": 0x20}[flag])
	}
	if err != nil {
		f.Close()
		t.Skipf("the file system of %s has no such attributes: %v", path, err)
	}
	reset = sync.OnceFunc(func() {
		defer f.Close()
		if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(reset)
	return reset
}
