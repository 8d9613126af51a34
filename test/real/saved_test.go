//go:build real

package real

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"blcr-cli/test/harness"

	"golang.org/x/sys/unix"
)

// mappedFiles are what the program saved has mapped, below its directory.
var mappedFiles = []string{"saved", "libsaved.so", "private", "shared"}

// newSaved is a job of programs/saved.c with an executable and a library of its
// own.
func newSaved(t *testing.T) *job {
	t.Helper()
	j := newJob(t, "saved")
	exe, err := os.ReadFile(filepath.Join(progs, "saved"))
	if err != nil {
		t.Fatal(err)
	}
	j.args[0] = filepath.Join(j.dir, "saved")
	if err := harness.WriteProgram(j.args[0], exe, 0o751); err != nil {
		t.Fatal(err)
	}
	j.library("libsaved.so", 100)
	j.launch()
	return j
}

// library makes a library whose function next counts from a number on.
func (j *job) library(name string, from int) {
	j.t.Helper()
	j.write("lib.c", fmt.Sprintf("static int n = %d;\nint next(void) { return n++; }\n", from))
	cc := j.start("cc", []string{"/usr/bin/cc", "-shared", "-fPIC", "-o", name, "lib.c"}, nil)
	j.silent(cc, j.wait(cc))
}

// save saves the job and ends it.
func (j *job) save(ctx string, args ...string) {
	j.t.Helper()
	all := tree(j.pid)
	j.checkpoint(ctx, append(args, "--kill", fmt.Sprint(j.pid))...)
	j.killed(all)
}

// lost are those of its files whose names are no longer there, as far as the job
// has them in use.
func (j *job) lost() map[string]bool {
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", j.pid))
	if err != nil {
		j.t.Fatal(err)
	}
	lost := map[string]bool{}
	for line := range strings.Lines(string(maps)) {
		if name, ok := strings.CutSuffix(strings.TrimSpace(line), " (deleted)"); ok {
			lost[filepath.Base(name)] = true
		}
	}
	return lost
}

func (j *job) remove(names ...string) {
	j.t.Helper()
	for _, name := range names {
		if err := os.Remove(filepath.Join(j.dir, name)); err != nil {
			j.t.Fatal(err)
		}
	}
}

// refused checks that cr_restart fails with a status, and says why.
func (j *job) refused(ctx string, status int, says ...string) {
	j.t.Helper()
	p := j.command("cr_restart", ctx)
	end := j.wait(p)
	text, _ := os.ReadFile(p.stderr)
	if !end.Exited() || end.ExitStatus() != status {
		j.t.Errorf("cr_restart: %s, want exit status %d\n%s", describe(end), status, text)
	}
	for _, s := range says {
		if !strings.Contains(string(text), s) {
			j.t.Errorf("cr_restart does not say %q:\n%s", s, text)
		}
	}
}

// TestSavedRemoved: everything that was mapped is removed, and each further
// checkpoint takes along what has no name any more, asked to or not.
func TestSavedRemoved(t *testing.T) {
	t.Parallel()
	for _, again := range []string{"--save-all", "--save-none"} {
		t.Run(again, func(t *testing.T) {
			t.Parallel()
			j := newSaved(t)
			option := "--save-all"
			for n := range 3 {
				ctx := fmt.Sprintf("%s/ctx.%d", j.dir, n)
				j.save(ctx, option)
				if st, err := os.Stat(ctx); err != nil || st.Size() > 16<<20 {
					t.Errorf("the context is too large, the hole is in it: %v, %v", st.Size(), err)
				}
				if n == 0 {
					j.remove(mappedFiles...)
				}
				j.restart(ctx)
				lost := j.lost()
				for _, name := range mappedFiles {
					if !lost[name] || j.exists(name) {
						t.Errorf("%s is not in use as a file without name: %v", name, lost)
					}
				}
				option = again
			}
			j.finish()
		})
	}
}

// TestSavedUnchanged: what is there is used.
func TestSavedUnchanged(t *testing.T) {
	t.Parallel()
	j := newSaved(t)
	for n := range 2 {
		ctx := fmt.Sprintf("%s/ctx.%d", j.dir, n)
		j.save(ctx, "--save-all")
		// Only the time is another.
		for _, name := range mappedFiles {
			if err := os.Chtimes(filepath.Join(j.dir, name), time.Unix(1e9, 5), time.Unix(1e9, 5)); err != nil {
				t.Fatal(err)
			}
		}
		j.restart(ctx)
		if lost := j.lost(); len(lost) > 0 {
			t.Errorf("in use without need: %v", lost)
		}
	}
	j.finish()
}

// TestSavedReplaced: others are there under the same names, and stay there.
func TestSavedReplaced(t *testing.T) {
	t.Parallel()
	j := newSaved(t)
	ctx := j.dir + "/ctx"
	j.save(ctx, "--save-all")
	st, err := os.Stat(j.dir + "/shared")
	if err != nil {
		t.Fatal(err)
	}
	j.remove("saved", "libsaved.so")
	j.write("saved", "#!/bin/false\n")
	j.library("libsaved.so", 500)
	// The same size, and the same time, as if it were written through memory.
	f, err := os.OpenFile(j.dir+"/shared", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("other"), 1<<24); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if err := os.Chtimes(j.dir+"/shared", st.ModTime(), st.ModTime()); err != nil {
		t.Fatal(err)
	}
	j.restart(ctx)
	lost := j.lost()
	if !lost["saved"] || !lost["libsaved.so"] || !lost["shared"] || lost["private"] {
		t.Errorf("in use without a name: %v", lost)
	}
	if j.read("saved") != "#!/bin/false\n" {
		t.Errorf("the new executable is changed")
	}
	j.finish()
}

// TestSavedNot: without such options the files have to be there.
func TestSavedNot(t *testing.T) {
	t.Parallel()
	j := newSaved(t)
	ctx := j.dir + "/ctx"
	j.save(ctx)
	for _, name := range mappedFiles {
		path := filepath.Join(j.dir, name)
		aside := filepath.Join(j.dir, "aside")
		if err := os.Rename(path, aside); err != nil {
			t.Fatal(err)
		}
		j.refused(ctx, int(unix.ENOENT), "Restart failed: No such file or directory\n", "- cannot open "+path+": No such file or directory\n")
		if name == "libsaved.so" {
			j.library(name, 500)
		} else {
			j.write(name, "another one")
		}
		j.refused(ctx, int(unix.ESTALE), "- "+path+" is not the file that was saved: ")
		if err := os.Rename(aside, path); err != nil {
			t.Fatal(err)
		}
	}
	j.restart(ctx)
	j.finish()
}

// TestSavedDiskFull: there is no room for the files that came with the context.
func TestSavedDiskFull(t *testing.T) {
	j := newSaved(t)
	ctx := j.dir + "/ctx"
	j.save(ctx, "--save-all")
	aside := j.dir + "/aside"
	if err := os.Rename(j.dir+"/private", aside); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(j.dir+"/libsaved.so", aside+".so"); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("none", j.tmp, "tmpfs", 0, "size=16k"); err != nil {
		t.Skipf("mount: %v", err)
	}
	j.refused(ctx, int(unix.ENOSPC), "Restart failed: No space left on device\n", "cannot be put into "+j.tmp+": No space left on device\n")
	if left, _ := os.ReadDir(j.tmp); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if err := unix.Unmount(j.tmp, 0); err != nil {
		t.Fatal(err)
	}
	j.restart(ctx)
	j.finish()
}
