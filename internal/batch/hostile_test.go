package batch

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/test/harness"
)

// This file has surroundings that are in the way, or somebody else's.

// run runs a batch in dir, with these signals under way, and returns its log.
func run(t *testing.T, o *Options, signals ...os.Signal) (End, string) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "log")
	log, err := NewLog(name, false)
	if err != nil {
		t.Fatal(err)
	}
	defer log.file.Close()
	caught := make(chan os.Signal, len(signals))
	for _, sig := range signals {
		caught <- sig
	}
	o.Keep, o.Log = 2, log
	ended := make(chan End)
	go func() {
		runtime.LockOSThread() // the parent of the job
		ended <- Run(o, caught)
	}()
	end := <-ended
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return end, string(text)
}

func TestOpenRefused(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]struct {
		make func(path string) error
		want string
	}{
		"link to nowhere": {func(path string) error { return os.Symlink("nowhere", path) }, "file exists"},
		"file":            {func(path string) error { return os.WriteFile(path, nil, 0o600) }, "not a directory"},
		"lock is a link": {func(path string) error {
			return errors.Join(os.Mkdir(path, 0o700), os.Symlink("nowhere", filepath.Join(path, "lock")))
		}, "too many levels of symbolic links"},
		"everybody's": {func(path string) error {
			return errors.Join(os.Mkdir(path, 0o700), os.Chmod(path, 0o777|os.ModeSticky))
		}, "others may write to "},
		"somebody else's": {func(path string) error {
			return errors.Join(os.Mkdir(path, 0o700), os.Chown(path, 4242, 0))
		}, " belongs to another user, 4242, "},
	} {
		path := filepath.Join(dir, name)
		if err := c.make(path); err != nil {
			if errors.Is(err, os.ErrPermission) {
				continue // only root gives away a directory
			}
			t.Fatal(err)
		}
		for _, path := range []string{path, path + ".link"} {
			if strings.HasSuffix(path, ".link") {
				if err := os.Symlink(name, path); err != nil {
					t.Fatal(err)
				}
			}
			if d, err := openDirectory(path); err == nil {
				d.close()
				t.Errorf("%s was opened", path)
			} else if !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v, want %q", path, err, c.want)
			}
		}
		if _, err := os.Stat(filepath.Join(path, "lock")); err == nil {
			t.Errorf("%s: there is a lock", name)
		}
	}
	own := filepath.Join(dir, "own")
	if err := errors.Join(os.Mkdir(own, 0o700), os.Symlink("own", own+".link")); err != nil {
		t.Fatal(err)
	}
	d, err := openDirectory(own + ".link")
	if err != nil {
		t.Fatal(err)
	}
	d.close()
}

// TestPruneDamaged: what was set aside goes when there are newer generations.
func TestPruneDamaged(t *testing.T) {
	d := open(t)
	d.make(t, "context.000001.damaged", "stage.000001", "context.000002", "context.000003.damaged", "context.000004", "context.000005", "context.000006.damaged")
	if err := d.prune(2); err != nil {
		t.Fatal(err)
	}
	names, err := d.names()
	slices.Sort(names)
	if want := []string{"context.000004", "context.000005", "context.000006.damaged", "lock"}; err != nil || !slices.Equal(names, want) {
		t.Errorf("%q, %v", names, err)
	}
}

// TestByNumber: which generation is the newest is in their names, whatever the clock was.
func TestByNumber(t *testing.T) {
	d := open(t)
	for n := range 4 {
		d.make(t, filepath.Base(d.context(n+1)))
		when := time.Now().Add(time.Duration(2-n) * 24 * time.Hour)
		if err := os.Chtimes(d.context(n+1), when, when); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.prune(2); err != nil {
		t.Fatal(err)
	}
	if g, err := d.generations(); err != nil || !slices.Equal(g, []int{4, 3}) {
		t.Errorf("%d, %v", g, err)
	}
}

// TestCopyTreeReplaces: files, directories and links make way for one another, and a link
// in the place of a directory is not followed.
func TestCopyTreeReplaces(t *testing.T) {
	kinds := map[string]func(path string) error{
		"file": func(path string) error { return os.WriteFile(path, []byte("new"), 0o600) },
		"directory": func(path string) error {
			return errors.Join(os.Mkdir(path, 0o700), os.WriteFile(path+"/below", nil, 0o600))
		},
		"link": func(path string) error { return os.Symlink("../elsewhere", path) },
	}
	for from, makeFrom := range kinds {
		for to, makeTo := range kinds {
			dir := t.TempDir()
			at := func(name string) string { return filepath.Join(dir, name) }
			if err := errors.Join(os.Mkdir(at("from"), 0o700), os.Mkdir(at("to"), 0o700), os.Mkdir(at("elsewhere"), 0o700),
				makeFrom(at("from/x")), makeTo(at("to/x")), copyTree(at("from"), at("to"))); err != nil {
				t.Errorf("a %s in the place of a %s: %v", from, to, err)
				continue
			}
			one, err := os.Lstat(at("from/x"))
			other, e := os.Lstat(at("to/x"))
			if err != nil || e != nil || one.Mode() != other.Mode() {
				t.Errorf("a %s in the place of a %s: %v, %v, %v", from, to, other, err, e)
			}
			if names, _ := os.ReadDir(at("elsewhere")); len(names) > 0 {
				t.Errorf("a %s in the place of a %s: %v is elsewhere", from, to, names)
			}
		}
	}
}

// TestStageAround: files are not copied into themselves.
func TestStageAround(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink(".", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for _, stage := range []string{dir, filepath.Join(dir, "link"), filepath.Join(dir, "gen")} {
		end, log := run(t, &Options{Command: []string{"touch", filepath.Join(dir, "began")}, Dir: filepath.Join(dir, "gen"), Stage: stage})
		if end.Status != StatusFailed || !strings.Contains(log, " contains the directory of the checkpoints, ") {
			t.Errorf("%s: %d\n%s", stage, end.Status, log)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "began")); err == nil {
		t.Error("the command was started")
	}
	if err := os.Mkdir(filepath.Join(dir, "genuine"), 0o700); err != nil {
		t.Fatal(err)
	}
	if end, log := run(t, &Options{Command: []string{"true"}, Dir: filepath.Join(dir, "gen"), Stage: filepath.Join(dir, "genuine")}); end.Status != 0 {
		t.Errorf("%d\n%s", end.Status, log)
	}
}

// TestNotRecorded: a job that the next cr_batch would not know of is not started.
func TestNotRecorded(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, ".job.tmp", "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	tools := t.TempDir()
	if err := harness.WriteProgram(filepath.Join(tools, "cr_restart"), []byte(restarter), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", tools+":"+os.Getenv("PATH"))
	o := &Options{Command: []string{"touch", filepath.Join(dir, "began")}, Dir: dir}
	for range 2 {
		end, log := run(t, o)
		if _, err := os.Stat(filepath.Join(dir, "began")); err == nil || end.Status != StatusUnable || !strings.Contains(log, ".job.tmp: is a directory") {
			t.Errorf("%d\n%s", end.Status, log)
		}
		newContext(t, filepath.Join(dir, "context.000001"), true) // the second time with something to restart
	}
	if _, err := os.Stat(filepath.Join(dir, "context.000001")); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "calls")); err == nil {
		t.Error("cr_restart was executed")
	}
}

// TestLongName: a name that is too long for a directory still is the job's own.
func TestLongName(t *testing.T) {
	long := strings.Repeat("x", 300)
	one, other := scheduler{}.dirName(long), scheduler{}.dirName(long+"y")
	if len(one) > 230 || one == other || !strings.HasPrefix(one, "xxx") {
		t.Errorf("%q, %q", one, other)
	}
	if name := (scheduler{}).dirName(long[:longest]); name != long[:longest] {
		t.Errorf("%q", name)
	}
}

func TestLookUp(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := errors.Join(os.Mkdir(at("folder"), 0o700), os.WriteFile(at("text"), nil, 0o600), os.WriteFile(at("folder/program"), nil, 0o700),
		os.Symlink("loop", at("loop"))); err != nil {
		t.Fatal(err)
	}
	path := os.Getenv("PATH")
	t.Setenv("PATH", dir+":"+at("folder")+":"+path)
	for program, want := range map[string]string{
		"program": at("folder/program"), at("folder/program"): at("folder/program"),
		"none": "no such file or directory", at("text/none"): "no such file or directory", "./none": "no such file or directory",
		"text": "permission denied", at("text"): "permission denied", "folder": "permission denied", at("folder"): "permission denied", "/": "permission denied",
		"loop": "too many levels of symbolic links", strings.Repeat("x", 300): "file name too long",
	} {
		found, err := lookUp(program)
		if err != nil {
			found = err.Error()
		}
		if found != want {
			t.Errorf("%s: %s, want %s", program, found, want)
		}
	}
	os.Unsetenv("PATH") // t.Setenv restores it
	if found, err := lookUp("sh"); err != nil {
		t.Errorf("without PATH: %s, %v", found, err)
	}
}

// TestSignalsDuringRestart: signals that come while a context is verified end that, and
// nothing is started.
func TestSignalsDuringRestart(t *testing.T) {
	for _, c := range []struct {
		sig syscall.Signal
		end End
	}{
		{unix.SIGUSR1, End{Status: StatusSaved}},
		{unix.SIGTERM, End{Status: 128 + 15, Signal: unix.SIGTERM}}, // not one of --signal here
		{unix.SIGINT, End{Status: 128 + 2, Signal: unix.SIGINT}},
	} {
		dir := t.TempDir()
		newContext(t, filepath.Join(dir, "context.000001"), true)
		requeued := filepath.Join(dir, "requeued")
		end, log := run(t, &Options{Command: []string{"touch", filepath.Join(dir, "began")}, Dir: dir, Signals: []syscall.Signal{unix.SIGUSR1},
			RequeueCommand: "touch " + quote(requeued)}, unix.SIGWINCH, c.sig, c.sig, unix.SIGUSR1)
		_, err := os.Stat(requeued)
		_, began := os.Stat(filepath.Join(dir, "began"))
		_, kept := os.Stat(filepath.Join(dir, "context.000001"))
		if end != c.end || (err == nil) != (c.sig == unix.SIGUSR1) || began == nil || kept != nil {
			t.Errorf("%v: %v, requeued: %v, began: %v, kept: %v\n%s", c.sig, end, err, began, kept, log)
		}
	}
}

// TestRequeueCommand: whatever it does, the job is saved.
func TestRequeueCommand(t *testing.T) {
	usual := requeueTime
	defer func() { requeueTime = usual }()
	for _, c := range []struct {
		command string
		time    time.Duration
		signals []os.Signal
		want    string
	}{
		{"exit 0", usual, nil, "requeued: "},
		{"exit 4", usual, nil, ": exit status 4; the job is saved: start it again by the same command\n"},
		{"kill -9 $$", usual, nil, ": signal: killed; the job is saved"},
		{"sleep 1000; :", 50 * time.Millisecond, nil, ": it was killed, since it had not ended after 50ms; the job is saved"},
		{"sleep 1000; :", usual, []os.Signal{unix.SIGHUP}, ": signal: hangup; the job is saved"},
		{"sleep 0.2", usual, []os.Signal{unix.SIGTERM, unix.SIGUSR1, unix.SIGTERM}, "requeued: "},
	} {
		requeueTime = c.time
		name := filepath.Join(t.TempDir(), "log")
		log, err := NewLog(name, false)
		if err != nil {
			t.Fatal(err)
		}
		caught := make(chan os.Signal, 10)
		for _, sig := range c.signals {
			caught <- sig
		}
		b := &batch{Options: &Options{RequeueCommand: c.command, Log: log}, signals: caught}
		end := b.requeue()
		log.file.Close()
		text, _ := os.ReadFile(name)
		if end != (End{Status: StatusSaved}) || !strings.Contains(string(text), c.want) {
			t.Errorf("%s: %v\n%s", c.command, end, text)
		}
	}
}

// TestLeftRunning: the end of the job's first process is the job's, and what it leaves is
// named.
func TestLeftRunning(t *testing.T) {
	dir := t.TempDir()
	pidFile := filepath.Join(dir, "pid")
	end, log := run(t, &Options{Command: []string{"sh", "-c", "sleep 1000 & echo $! >" + quote(pidFile) + "; exit 4"}, Dir: filepath.Join(dir, "gen")})
	text, _ := os.ReadFile(pidFile)
	var pid int
	fmt.Sscan(string(text), &pid)
	defer unix.Kill(pid, unix.SIGKILL)
	if end.Status != 4 || pid == 0 || !strings.Contains(log, fmt.Sprintf("others of its session still run: [%d]\n", pid)) {
		t.Errorf("%d, %d\n%s", end.Status, pid, log)
	}
}

// TestLogFails: what a log cannot take is on standard error.
func TestLogFails(t *testing.T) {
	log, err := NewLog("/dev/full", false)
	if err != nil {
		t.Skip(err)
	}
	defer log.file.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	usual := os.Stderr
	os.Stderr = w
	log.Printf("line %d", 1)
	os.Stderr = usual
	w.Close()
	text := make([]byte, 100)
	n, _ := r.Read(text)
	r.Close()
	if !strings.HasSuffix(string(text[:n]), " line 1\n") {
		t.Errorf("%q", text[:n])
	}
}
