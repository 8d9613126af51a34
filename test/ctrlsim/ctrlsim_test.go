//go:build linux && amd64

package ctrlsim

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The program sees exactly what it was given, and nothing of the shim.
func TestProgramSees(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	c := goProgram("env", "a b", "")
	c.ExtraFiles = []*os.File{nil, f, nil, f}
	r := good(t, c)
	want := "args [a b ]\nfd 0\nfd 1\nfd 2\nfd 4\nfd 6\ncomm exe\nblocked 0x0 ignored 0x0\n"
	if r.out != want {
		t.Errorf("got %q, want %q", r.out, want)
	}
	if len(r.Transcript) > 0 || r.FirstOpen != 0 {
		t.Errorf("transcript %q", r.Transcript)
	}
}

func TestEnds(t *testing.T) {
	for _, test := range []struct {
		script string
		code   int
		sig    syscall.Signal
	}{
		{"exit 0", 0, 0},
		{"exit 77", 77, 0},
		{"kill -TERM $$", -1, unix.SIGTERM},
		{"kill -KILL $$", -1, unix.SIGKILL},
	} {
		r := run(t, &Command{Path: "sh", Args: []string{"-c", test.script}})
		if r.err != nil || r.ExitCode != test.code || r.Signal != test.sig {
			t.Errorf("%s: exit %d signal %v err %v", test.script, r.ExitCode, r.Signal, r.err)
		}
	}
	if _, err := (&Command{Path: "/nonexistent"}).Run(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nonexistent program: %v", err)
	}
	if _, err := (&Command{Path: "no-such-program"}).Run(); !errors.Is(err, exec.ErrNotFound) {
		t.Errorf("program not in PATH: %v", err)
	}
	if _, err := (&Command{Path: "/etc/passwd"}).Run(); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("no program: %v", err)
	}
}

// Standard input, a directory and an environment of its own.
func TestStdio(t *testing.T) {
	dir := t.TempDir()
	var out, errs bytes.Buffer
	c := &Command{Path: "/bin/sh", Args: []string{"-c", "cat; pwd; echo $X; echo e >&2"}, Dir: dir,
		Env: []string{"X=y"}, Stdin: strings.NewReader("in\n"), Stdout: &out, Stderr: &errs}
	if _, err := c.Run(); err != nil {
		t.Fatal(err)
	}
	if got, want := out.String(), "in\n"+dir+"\ny\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if errs.String() != "e\n" {
		t.Errorf("stderr %q", errs.String())
	}
}

func TestCheckpoint(t *testing.T) {
	v := victim(t)
	name := filepath.Join(t.TempDir(), "context")
	r := good(t, goProgram("chkpt", strconv.Itoa(v.Process.Pid), name, "3", "15"))
	fd := regexp.MustCompile(`fd=\d+`)
	for i, line := range r.Transcript { // how many the runtime has is its own business
		r.Transcript[i] = fd.ReplaceAllString(line, "fd=N")
	}
	wantTranscript(t, r, fmt.Sprintf(`
open {flags=O_WRONLY|O_CLOEXEC} = 0
VERSION 0xa = 0
CHKPT_REQ {target=%d scope=3 fd=N secs=0 format=0 signal=15 flags=0x10} = 0
CHKPT_LOG = 0
CHKPT_REAP = 0`, v.Process.Pid))
	var exit *exec.ExitError
	if err := v.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != unix.SIGTERM {
		t.Errorf("target: %v", err)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(b, []byte("C\x00\x00\x00R\x00\x00\x00\x09\x00\x00\x00\x03\x00\x00\x00\x05\x00\x00\x00")) ||
		!bytes.Contains(b, []byte("sleep 100\n")) || len(b) != defaultChkptSize {
		t.Errorf("context of %d bytes: %q", len(b), b[:min(len(b), 100)])
	}
	if !(0 < r.FirstOpen && r.FirstOpen < r.FirstIoctl && r.FirstIoctl < r.FirstRequest && r.FirstRequest < r.Elapsed) {
		t.Errorf("times: %v %v %v %v", r.FirstOpen, r.FirstIoctl, r.FirstRequest, r.Elapsed)
	}
}

// The failures of the real module without a scenario; see ckpt_badpid,
// ckpt_badfd and enospc of blcr-observed.txt.
func TestCheckpointFailures(t *testing.T) {
	dir := t.TempDir()
	v := strconv.Itoa(victim(t).Process.Pid)
	zombie := exec.Command("true")
	if err := zombie.Start(); err != nil {
		t.Fatal(err)
	}
	defer zombie.Wait()
	for range 100 {
		if st, err := readStat(zombie.Process.Pid); err == nil && st.state == 'Z' {
			break
		}
		time.Sleep(time.Millisecond)
	}
	out := filepath.Join(dir, "out")
	linked := filepath.Join(dir, "linked")
	if err := errors.Join(os.WriteFile(linked, nil, 0o666), os.Link(linked, linked+"2")); err != nil {
		t.Fatal(err)
	}
	const destination = "Failed to initialize destination file descriptor\n"
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"4194303", out}, "reap: no such process\n"},
		{[]string{"4194303", out, "1"}, "reap: no such process\n"},
		{[]string{"4194303", out, "2"}, "reap: no such process\n"},
		{[]string{"0", out}, "reap: no such process\n"}, // only itself
		{[]string{"0", out, "0", "0", "17"}, "reap: resource deadlock avoided\n"},
		{[]string{strconv.Itoa(zombie.Process.Pid), out}, fmt.Sprintf(
			"Skipped zombie process %d - a post-restart wait() will not find this process\nreap: no such process\n", zombie.Process.Pid)},
		{[]string{v, "fd:33"}, "invalid file descriptor 33 received\n" + destination + "reap: invalid argument\n"},
		{[]string{v, "fd:0"}, destination + "reap: bad file descriptor\n"}, // read-only
		{[]string{v, linked}, destination + "reap: too many links\n"},
		{[]string{v, "/dev/full"}, "vfs_write returned -28\ncr_freeze_threads failed (-28)\nreap: no space left on device\n"},
		{[]string{v, out, "9"}, "invalid scope value: 9\nreap: invalid argument\n"},
		{[]string{v, out, "0", "65"}, "invalid signal value: 65\nreap: invalid argument\n"},
		{[]string{"4194303", out, "0", "0", "0"}, "request: no such process\n"}, // without ASYNC_ERR
	} {
		r := run(t, goProgram("chkpt", test.args...))
		if r.out != test.want || r.ExitCode != 1 {
			t.Errorf("%v: exit %d, got %q, want %q\n%s", test.args, r.ExitCode, r.out, test.want, r.TranscriptText())
		}
	}
}

// The destination's offset is the program's, and a pipe works.
func TestDestination(t *testing.T) {
	v := strconv.Itoa(victim(t).Process.Pid)
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	f.WriteString("before")
	c := goProgram("chkpt", v, "fd:3")
	c.ExtraFiles = []*os.File{f}
	good(t, c)
	f.WriteString("after")
	b, _ := os.ReadFile(f.Name())
	if !bytes.HasPrefix(b, []byte("beforeC\x00")) || !bytes.HasSuffix(b, []byte("after")) || len(b) != 6+defaultChkptSize+5 {
		t.Errorf("context of %d bytes", len(b))
	}

	for _, kind := range []string{"pipe", "socket"} {
		var r, w *os.File
		if kind == "pipe" {
			r, w, err = os.Pipe()
		} else {
			var pair [2]int
			pair, err = unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			r, w = os.NewFile(uintptr(pair[0]), ""), os.NewFile(uintptr(pair[1]), "")
		}
		if err != nil {
			t.Fatal(err)
		}
		got := make(chan int)
		go func() {
			var all bytes.Buffer
			all.ReadFrom(r)
			got <- all.Len()
		}()
		c = goProgram("chkpt", v, "fd:3")
		c.Scenario = MustScenario("chkpt-size 1M")
		c.ExtraFiles = []*os.File{w}
		good(t, c)
		w.Close()
		if n := <-got; n != 1<<20 {
			t.Errorf("%s: %d bytes", kind, n)
		}
		r.Close()
	}

	// Nobody reads.
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	r.Close()
	c = goProgram("chkpt", v, "fd:3")
	c.ExtraFiles = []*os.File{w}
	if r := run(t, c); r.out != "vfs_write returned -32\ncr_freeze_threads failed (-32)\nreap: broken pipe\n" {
		t.Errorf("closed pipe: %q", r.out)
	}
}

func TestScripted(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	for _, test := range []struct {
		scenario string
		want     string
		size     int
	}{
		{"open ENOENT", "no such file or directory\n", 0},
		{"open EACCES", "permission denied\n", 0},
		{"open@1 EMFILE", "too many open files\n", 0},
		{"open@2 EMFILE\nchkpt-reap 0", "", 4096},
		{"version CR_EVERSION", "errno 2357\n", 0},
		{"chkpt-req EBUSY", "request: device or resource busy\n", 0},
		{"chkpt-reap CR_ENOSUPPORT\nchkpt-log Retry request on -CR_ENOSUPPORT", "Retry request on -CR_ENOSUPPORT\nreap: errno 2356\n", 0},
		{"chkpt-reap -5\nchkpt-log one\n chkpt-log two  words\nchkpt-size 100000", "one\ntwo  words\nreap: input/output error\n", 100000},
		{"chkpt-reap 0\nchkpt-size 10", "", 10},
		{"chkpt-reap 0\nchkpt-size 300K\nchkpt-pace 5ms", "", 300 << 10},
	} {
		c := goProgram("chkpt", "4194303", out)
		c.Scenario = MustScenario(test.scenario)
		r := run(t, c)
		if r.out != test.want || (r.ExitCode == 0) != (test.want == "") {
			t.Errorf("%s: exit %d, got %q, want %q\n%s", test.scenario, r.ExitCode, r.out, test.want, r.TranscriptText())
		}
		if b, err := os.ReadFile(out); err != nil || len(b) != test.size {
			t.Errorf("%s: context of %d bytes, want %d", test.scenario, len(b), test.size)
		}
	}
}

func TestCopies(t *testing.T) {
	r := good(t, goProgram("copies"))
	if want := "invalid file descriptor -1 received\nFailed to initialize destination file descriptor\ninherited: reap: invalid argument\n"; r.out != want {
		t.Errorf("got %q, want %q", r.out, want)
	}
	r = good(t, goProgram("scm"))
	if want := "reap: no such process\n"; r.out != want {
		t.Errorf("got %q, want %q", r.out, want)
	}
	out := filepath.Join(t.TempDir(), "out")
	r = good(t, &Command{Path: client(t), Args: []string{"forked", strconv.Itoa(victim(t).Process.Pid), out}})
	if r.out != "" {
		t.Errorf("forked: %q", r.out)
	}
}

func TestPoll(t *testing.T) {
	c := goProgram("poll", strconv.Itoa(victim(t).Process.Pid), filepath.Join(t.TempDir(), "out"))
	c.Scenario = MustScenario("chkpt-delay 80ms")
	r := good(t, c)
	once := `requested false <nil>
second resource temporarily unavailable
early reap resource temporarily unavailable
complete true <nil>
reap 0 <nil>
reaped false <nil>
reap invalid argument
`
	if want := "connected false <nil>\n" + once + once; r.out != want {
		t.Errorf("got:\n%s\nwant:\n%s", r.out, want)
	}
}

func TestLog(t *testing.T) {
	c := goProgram("log")
	c.Scenario = MustScenario("chkpt-reap ENOMEM\nchkpt-log first\nchkpt-log second")
	r := good(t, c)
	want := `without request: invalid argument
14 <nil> "------------------------------"
14 <nil> "\x00-----------------------------"
14 <nil> "firs\x00-------------------------"
14 <nil> "first\nsecond\n\x00----------------"
as a restart: invalid argument
`
	if r.out != want {
		t.Errorf("got:\n%s\nwant:\n%s", r.out, want)
	}
	if !slices.Contains(r.Transcript, `CHKPT_LOG {len=5} = 14 "firs"`) {
		t.Errorf("transcript:\n%s", r.TranscriptText())
	}
}

func TestEfault(t *testing.T) {
	r := good(t, goProgram("efault"))
	if want := strings.Repeat("true\n", 6); r.out != want {
		t.Errorf("got:\n%s%s", r.out, r.TranscriptText())
	}
}

func TestMisc(t *testing.T) {
	r := good(t, goProgram("misc"))
	want := `version 11 -1 errno 2357 true
version 10 0 <nil> false
unknown -1 inappropriate ioctl for device false
version on null -1 inappropriate ioctl for device false
version on nothing -1 bad file descriptor false
phase2 0 <nil> false
hand chkpt 0 <nil> false
fwd 0 <nil> false
child -1 invalid argument false
procs -1 invalid argument false
reap -1 invalid argument false
cloexec true nonblock false
cloexec false nonblock false
cloexec false nonblock true
version by openat2 0 <nil> false
`
	if r.out != want {
		t.Errorf("got:\n%s\nwant:\n%s", r.out, want)
	}
	for _, line := range []string{
		"VERSION 0xb = -CR_EVERSION",
		"HAND_CHKPT 0x4000 = 0",
		"CHKPT_FWD {target=77 scope=3} = 0",
		"RSTRT_CHILD = -EINVAL",
		"ioctl 0xa17f = -ENOTTY",
		"open {flags=O_RDWR|O_NONBLOCK} = 0",
	} {
		if !slices.Contains(r.Transcript, line) {
			t.Errorf("no line %q in\n%s", line, r.TranscriptText())
		}
	}
}

// A request whose descriptors are all closed is over: nothing is written.
func TestAbandoned(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	c := goProgram("abandon", out)
	c.Scenario = MustScenario("chkpt-delay 50ms\nchkpt-reap 0")
	good(t, c)
	if b, err := os.ReadFile(out); err != nil || len(b) > 0 {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}

func TestSuspend(t *testing.T) {
	r := good(t, goProgram("susp"))
	if want := "0 <nil>\n-1 interrupted system call\n"; r.out != want {
		t.Errorf("got %q, want %q", r.out, want)
	}
	if want := []string{"HAND_SUSP {0.020000}", "HAND_SUSP {0.020000} = 0", "HAND_SUSP NULL", "HAND_SUSP NULL = -EINTR"}; !slices.Equal(r.Transcript[2:], want) {
		t.Errorf("transcript:\n%s", r.TranscriptText())
	}
}

func TestRelocate(t *testing.T) {
	r := good(t, goProgram("reloc"))
	if want := "<nil>\n<nil>\ninvalid argument\nbad address\n"; r.out != want {
		t.Errorf("got %q, want %q", r.out, want)
	}
	for _, line := range []string{
		"RSTRT_REQ {fd=-1 signal=0 relocate={/a=/b /c=/d e} flags=0x1} = 0",
		"RSTRT_REQ {fd=-1 signal=0 relocate={} flags=0x1} = 0",
		"RSTRT_REQ {fd=-1 signal=0 relocate={count=17} flags=0x1} = -EINVAL",
	} {
		if !slices.Contains(r.Transcript, line) {
			t.Errorf("no line %q in\n%s", line, r.TranscriptText())
		}
	}
}

// A program that hangs is killed with what it has started.
func TestTimeout(t *testing.T) {
	c := goProgram("hang", "child")
	c.Scenario = MustScenario("chkpt-delay never\nchkpt-reap 0")
	c.Timeout = 300 * time.Millisecond
	start := time.Now()
	r := run(t, c)
	if !errors.Is(r.err, ErrTimeout) || r.Signal != unix.SIGKILL || time.Since(start) > 3*time.Second {
		t.Errorf("%v, signal %v, after %v", r.err, r.Signal, time.Since(start))
	}
	if !slices.Contains(r.Problems, "deadline: a checkpoint is not complete") {
		t.Errorf("problems %q", r.Problems)
	}
	for _, st := range allProcesses() {
		if st.ppid == c.Pid() {
			t.Errorf("process %d (%s) is left", st.pid, st.comm)
		}
	}
}

func TestLeftover(t *testing.T) {
	r := run(t, goProgram("orphan"))
	if len(r.Leftover) != 1 || r.ExitCode != 0 {
		t.Fatalf("leftover %v, exit %d, %q", r.Leftover, r.ExitCode, r.out)
	}
	if st, err := readStat(r.Leftover[0]); err == nil && st.state != 'Z' {
		t.Errorf("process %d (%s) is left", st.pid, st.comm)
	}
}

// Many at a time do not disturb each other.
func TestParallel(t *testing.T) {
	v := strconv.Itoa(victim(t).Process.Pid)
	dir := t.TempDir()
	t.Run("", func(t *testing.T) {
		for i := range 8 {
			t.Run("", func(t *testing.T) {
				t.Parallel()
				for range 3 {
					good(t, goProgram("chkpt", v, filepath.Join(dir, strconv.Itoa(i))))
				}
			})
		}
	})
}

func TestUnprivileged(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("the other tests run without privileges already")
	}
	dir := t.TempDir()
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		os.Chmod(d, 0o755)
	}
	if err := os.Chown(dir, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "out")
	c := &Command{Path: client(t), Args: []string{"chkpt", strconv.Itoa(victim(t).Process.Pid), out, "0"}}
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	good(t, c)
	if st, err := os.Stat(out); err != nil || st.Sys().(*syscall.Stat_t).Uid != 65534 || st.Size() != defaultChkptSize {
		t.Errorf("context: %v %v", st, err)
	}
}
