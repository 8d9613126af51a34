package batch

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/proc"
	"blcr-cli/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

func TestDetect(t *testing.T) {
	for _, c := range []struct {
		env              string
		dir, id, requeue string
		status           int
	}{
		{"", "simulate", "", "", StatusSaved},
		{"JOB_ID=5", "simulate", "", "", StatusSaved},
		{"SLURM_JOB_ID=311", "311", "311", "scontrol requeue 311", StatusSaved},
		{"SLURM_JOB_ID=312 SLURM_ARRAY_JOB_ID=310 SLURM_ARRAY_TASK_ID=0", "310_0", "310_0", "scontrol requeue 310_0", StatusSaved},
		{"PBS_JOBID=77.server.example", "77.server.example", "77", "qrerun 77.server.example", StatusSaved},
		{"PBS_JOBID=77[4].server PBS_ARRAY_INDEX=4", "77_4.server", "77[4]", "qrerun 77[4].server", StatusSaved},
		{"PBS_JOBID=77-4.server PBS_ARRAYID=4", "77-4.server_4", "77-4_4", "qrerun 77-4.server", StatusSaved},
		{"LSB_JOBID=9 LSB_JOBINDEX=0", "9", "9", "brequeue 9", StatusSaved},
		{"LSB_JOBID=9 LSB_JOBINDEX=12", "9_12", "9_12", "brequeue 9[12]", StatusSaved},
		{"JOB_ID=5 SGE_TASK_ID=undefined", "5", "5", "", 99},
		{"JOB_ID=5 SGE_TASK_ID=3", "5_3", "5_3", "", 99},
		{"OAR_JOB_ID=6", "6", "6", "", StatusSaved},
		{"SLURM_JOB_ID=1234567890123456", "1234567890123456", "", "scontrol requeue 1234567890123456", StatusSaved},
		{"SLURM_JOB_ID=../x", ".._x", "", "scontrol requeue ../x", StatusSaved},
	} {
		s := detect(func(name string) string {
			for word := range strings.FieldsSeq(c.env) {
				if n, v, _ := strings.Cut(word, "="); n == name {
					return v
				}
			}
			return ""
		})
		argv, status := s.requeue()
		if dir := s.dirName("simulate"); dir != c.dir || s.eventID() != c.id || strings.Join(argv, " ") != c.requeue || status != c.status {
			t.Errorf("%q: %q, %q, %q, %d", c.env, dir, s.eventID(), argv, status)
		}
	}
}

func open(t *testing.T) *directory {
	d, err := openDirectory(filepath.Join(t.TempDir(), "sub", "dir"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.close)
	return d
}

func (d *directory) make(t *testing.T, names ...string) {
	for _, name := range names {
		if err := os.WriteFile(d.file(name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestGenerations(t *testing.T) {
	d := open(t)
	generations := func() []int {
		g, err := d.generations()
		if err != nil {
			t.Error(err)
		}
		return g
	}
	next := func() int {
		n, err := d.next()
		if err != nil {
			t.Error(err)
		}
		return n
	}
	if n := next(); n != 1 || len(generations()) != 0 {
		t.Errorf("the first is %d", n)
	}
	d.make(t, "context.000002", "context.000010", "context.000009", "stage.000009", "context.000011.damaged",
		"context.7", "context.000012x", "context.old", ".context.000014.tmp", "other")
	if g := generations(); !slices.Equal(g, []int{10, 9, 2}) || next() != 12 {
		t.Errorf("%d, next %d", g, next())
	}
	if err := d.prune(1); err != nil || !slices.Equal(generations(), []int{10}) {
		t.Errorf("%v, %d", err, generations())
	}
	if err := d.setAside(10); err != nil || len(generations()) != 0 || next() != 12 {
		t.Errorf("%v, %d", err, generations())
	}
	if err := d.sweep(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(d.file(".context.000014.tmp")); err == nil {
		t.Error("an unfinished context is still there")
	}
	if err := d.clear(); err != nil {
		t.Error(err)
	}
	names, err := d.names()
	if err != nil {
		t.Error(err)
	}
	slices.Sort(names)
	if want := []string{"context.000012x", "context.7", "context.old", "other"}; !slices.Equal(names, want) {
		t.Errorf("%q", names)
	}
}

// Of several that open a directory again and again, one has it at a time, also when it
// removes it.
func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dir")
	d, err := openDirectory(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openDirectory(path); err == nil || err.Error() != fmt.Sprintf("%s: cr_batch with pid %d is at work there", path, os.Getpid()) {
		t.Error(err)
	}
	d.close()
	inside := make(chan struct{}, 1)
	done := make(chan error)
	for range 4 {
		go func() {
			for i := 0; i < 50; {
				d, err := openDirectory(path)
				if _, locked := err.(*lockedError); locked {
					time.Sleep(time.Millisecond)
					continue
				}
				if err != nil {
					done <- err
					return
				}
				select {
				case inside <- struct{}{}:
				default:
					done <- fmt.Errorf("two are in the directory")
					return
				}
				<-inside
				err = d.clear() // the next one may come in
				d.close()
				if err != nil {
					done <- err
					return
				}
				i++
			}
			done <- nil
		}()
	}
	for range 4 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestLeft(t *testing.T) {
	d := open(t)
	if r, err := d.left(); err != nil || r.root != 0 || r.rest != nil {
		t.Error(r, err)
	}
	// A session of two.
	c := exec.Command("sh", "-c", "sleep 1000 & echo $!; wait")
	c.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	out, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	var child int
	fmt.Fscan(out, &child)
	defer unix.Kill(child, unix.SIGKILL)
	for _, restart := range []bool{true, false} {
		if err := d.record(c.Process.Pid, 0, restart); err != nil {
			t.Fatal(err)
		}
		if r, err := d.left(); err != nil || r.root != c.Process.Pid || r.restart != restart || r.rest != nil {
			t.Error(r, err)
		}
	}
	c.Process.Kill()
	c.Wait()
	if r, err := d.left(); err != nil || r.root != 0 || !slices.Equal(r.rest, []int{child}) {
		t.Error(r, err)
	}
	// The same numbers of another boot, or of other processes.
	text, _ := os.ReadFile(d.file("job"))
	boot, _ := proc.Boot()
	for _, other := range []string{
		strings.Replace(string(text), boot, "another", 1), "", "x", fmt.Sprintln(1, 0, 1, boot),
		strings.Replace(string(text), " ", " 9", 1),
	} {
		if err := os.WriteFile(d.file("job"), []byte(other), 0o600); err != nil {
			t.Fatal(err)
		}
		if r, err := d.left(); err != nil || r.root != 0 || r.rest != nil {
			t.Errorf("%q: %v %v", other, r, err)
		}
	}
	// What cannot be known is not taken for nothing.
	if err := errors.Join(os.Remove(d.file("job")), os.Mkdir(d.file("job"), 0o700)); err != nil {
		t.Fatal(err)
	}
	if r, err := d.left(); err == nil {
		t.Error(r)
	}
	d.path = filepath.Join(d.path, "none")
	_, err = d.generations()
	if _, e := d.next(); err == nil || e == nil {
		t.Error(err, e)
	}
}

// TestSweep: a context whose files were not complete is none.
func TestSweep(t *testing.T) {
	d := open(t)
	d.make(t, "context.000001", "context.000002", "context.000003")
	for _, err := range []error{d.stageBegins(2), os.Mkdir(d.stage(1), 0o700), d.stageBegins(1), d.stageBegins(4), d.sweep()} {
		if err != nil {
			t.Fatal(err)
		}
	}
	names, err := d.names()
	slices.Sort(names)
	if want := []string{"context.000001", "context.000002.damaged", "context.000003", "lock", "stage.000001"}; err != nil || !slices.Equal(names, want) {
		t.Errorf("%q, %v", names, err)
	}
}

func TestCopyTree(t *testing.T) {
	from, to := t.TempDir(), filepath.Join(t.TempDir(), "to")
	when := time.Unix(1e9, 0)
	for _, err := range []error{
		os.MkdirAll(filepath.Join(from, "a", "b"), 0o755),
		os.WriteFile(filepath.Join(from, "a", "file"), []byte("content"), 0o600),
		os.Chmod(filepath.Join(from, "a", "file"), 0o444),
		os.Symlink("../nowhere", filepath.Join(from, "a", "link")),
		unix.Mkfifo(filepath.Join(from, "fifo"), 0o600),
		os.Chtimes(filepath.Join(from, "a", "file"), when, when),
		os.Chmod(filepath.Join(from, "a", "b"), 0o500),
		os.Chtimes(filepath.Join(from, "a"), when, when),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // the second time over the first
		if err := copyTree(from, to); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(filepath.Join(to, "a", "file"))
		fi, e := os.Stat(filepath.Join(to, "a", "file"))
		if err != nil || e != nil || string(text) != "content" || fi.Mode() != 0o444 || !fi.ModTime().Equal(when) {
			t.Error(err, e, string(text), fi)
		}
		if link, err := os.Readlink(filepath.Join(to, "a", "link")); link != "../nowhere" {
			t.Error(link, err)
		}
		if fi, err := os.Stat(filepath.Join(to, "a")); err != nil || !fi.ModTime().Equal(when) {
			t.Error(fi, err)
		}
		if _, err := os.Lstat(filepath.Join(to, "fifo")); err == nil {
			t.Error("there is a FIFO")
		}
		if err := os.WriteFile(filepath.Join(to, "more"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := copyTree(filepath.Join(from, "none"), to); err == nil {
		t.Error("a missing directory was copied")
	}
}

func TestQuote(t *testing.T) {
	for _, word := range []string{"a b", "it's", `$HOME\`, "''"} {
		out, err := exec.Command("sh", "-c", "printf %s "+quote(word)).Output()
		if err != nil || string(out) != word {
			t.Errorf("%q: %q, %v", word, out, err)
		}
	}
}
