//go:build linux && amd64

package ctrlsim

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"blcr-cli/internal/ckpt/kernel/abi"
	"blcr-cli/test/harness"

	"golang.org/x/sys/unix"
)

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
	harness.Poll(t, "a zombie", func() bool {
		st, err := readStat(zombie.Process.Pid)
		return err == nil && st.state == 'Z'
	})
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
		{[]string{strconv.Itoa(zombie.Process.Pid), out}, fmt.Sprintf(
			"Skipped zombie process %d - a post-restart wait() will not find this process\nreap: no such process\n", zombie.Process.Pid)},
		{[]string{v, "fd:33"}, "invalid file descriptor 33 received\n" + destination + "reap: invalid argument\n"},
		{[]string{v, "fd:0"}, destination + "reap: bad file descriptor\n"}, // read-only
		{[]string{v, linked}, destination + "reap: too many links\n"},
		{[]string{v, "/dev/full"}, "vfs_write returned -28\ncr_freeze_threads failed (-28)\nreap: no space left on device\n"},
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

func TestPoll(t *testing.T) {
	c := goProgram("poll", strconv.Itoa(victim(t).Process.Pid), filepath.Join(t.TempDir(), "out"))
	c.Scenario = MustScenario("chkpt-delay 500ms")
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

// TestForeignTarget: where the scenario says how a request ends, its target is a number
// that was made up, which may be that of any process. It does not get the signal.
func TestForeignTarget(t *testing.T) {
	sleep := victim(t)
	for _, signal := range []unix.Signal{unix.SIGKILL, -unix.SIGABRT} {
		c := goProgram("chkpt", strconv.Itoa(sleep.Process.Pid), filepath.Join(t.TempDir(), "context"), strconv.Itoa(abi.ScopeProc), strconv.Itoa(int(signal)))
		c.Scenario = MustScenario("chkpt-reap 0")
		good(t, c)
		if st, err := readStat(sleep.Process.Pid); err != nil || st.state == 'Z' {
			t.Fatalf("signal %d: %v, %c", signal, err, st.state)
		}
	}
}

// A program that hangs is killed with what it has started.
func TestTimeout(t *testing.T) {
	c := goProgram("hang", "child")
	c.Scenario = MustScenario("chkpt-delay never\nchkpt-reap 0")
	c.Timeout = 2 * time.Second
	r := run(t, c)
	if !errors.Is(r.err, ErrTimeout) || r.Signal != unix.SIGKILL {
		t.Errorf("%v, signal %v", r.err, r.Signal)
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

// TestProcessEnded pins that the pidfd of a process that has ended stays that one's
// while the table is in use: a call of a thread that was killed may be handled
// late, when somebody is about to wait for the process's end.
func TestProcessEnded(t *testing.T) {
	cmd := exec.Command("/bin/cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var table processTable
	defer table.close()
	p, err := table.of(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	// A mark by which another file of this number is known.
	if err := unix.SetNonblock(p.pidfd, true); err != nil {
		t.Fatal(err)
	}
	in.Close()
	harness.Poll(t, "the process ends", func() bool { return !p.alive() })
	// A zombie, since nobody has waited for it.
	for range 3 {
		if again, err := table.of(cmd.Process.Pid); err != nil || again != p {
			t.Fatalf("it is another process, %v", err)
		}
	}
	if flags, err := unix.FcntlInt(uintptr(p.pidfd), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK == 0 {
		t.Errorf("descriptor %d is another one: flags %#x, %v", p.pidfd, flags, err)
	}
	cmd.Wait()
}
