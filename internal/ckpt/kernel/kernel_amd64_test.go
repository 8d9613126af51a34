package kernel

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// target is a process to be checkpointed.
func target(t *testing.T) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("sleep", "100")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return cmd
}

// ended tells whether the target has been killed.
func ended(t *testing.T, cmd *exec.Cmd) bool {
	t.Helper()
	pid, err := unix.Wait4(cmd.Process.Pid, nil, unix.WNOHANG, nil)
	if err != nil {
		t.Fatal(err)
	}
	return pid != 0
}

// opened is how every sequence of operations begins.
var opened = []string{"open {flags=O_WRONLY|O_CLOEXEC} = 0", "VERSION 0xa = 0"}

func TestCheckpoint(t *testing.T) {
	victim := target(t)
	file := filepath.Join(t.TempDir(), "context")
	p := newProgram(t, "chkpt-size 1234\nchkpt-delay 10ms", "checkpoint", victim.Process.Pid, "30s", file)
	res := p.run(t)
	p.says(t, "open ok\nrequest ok\nwait ok\nlog ok\nreap ok\nclose ok\n")
	transcript(t, res, append(opened,
		fmt.Sprintf("CHKPT_REQ {target=%d scope=3 fd=%s secs=30 format=0 signal=9 flags=0x814} = 0",
			victim.Process.Pid, field(res.Transcript, "fd=")),
		"CHKPT_LOG = 0",
		"CHKPT_REAP = 0")...)
	if info, err := os.Stat(file); err != nil || info.Size() != 1234 {
		t.Errorf("context %v, %v", info, err)
	}
	if err := victim.Wait(); err == nil || err.Error() != "signal: killed" {
		t.Errorf("the target did not get its signal: %v", err)
	}
}

// field is the value after a name in the lines.
func field(lines []string, name string) string {
	_, value, _ := strings.Cut(strings.Join(lines, "\n"), name)
	value, _, _ = strings.Cut(value, " ")
	return value
}

// TestOpen pins the errors of Open: ENOSYS for a control file that cannot be
// opened, whatever the cause, and the module's error for another version.
func TestOpen(t *testing.T) {
	for _, c := range []struct{ scenario, output string }{
		{"open ENOENT", "open: open: ENOSYS\n"},
		{"open EACCES", "open: open: ENOSYS (open('/proc/checkpoint/ctrl'): Permission denied)\n"},
		{"open EMFILE", "open: open: ENOSYS (open('/proc/checkpoint/ctrl'): Too many open files)\n"},
		{"version CR_EVERSION", "open: ioctl CR_OP_VERSION: CR_EVERSION\n"},
		{"version ENOTTY", "open: ioctl CR_OP_VERSION: ENOTTY\n"},
	} {
		p := newProgram(t, c.scenario, "checkpoint", 1, "0s")
		p.run(t)
		p.says(t, c.output)
	}
}

// TestOpenInterrupted pins that an interrupted open is repeated.
func TestOpenInterrupted(t *testing.T) {
	p := newProgram(t, "open@1 EINTR\nopen@2 EINTR", "close")
	res := p.run(t)
	p.says(t, "open ok\nclose ok\nclose ok\n")
	const interrupted = "open {flags=O_WRONLY|O_CLOEXEC} = -EINTR"
	transcript(t, res, append([]string{interrupted, interrupted}, opened...)...)
}

func TestCheckpointRefused(t *testing.T) {
	for _, errno := range []string{"EPERM", "EAGAIN", "EBUSY", "EINVAL", "EFAULT", "ENOMEM", "EDEADLK", "CR_ENOSUPPORT", "CR_EPTRACED"} {
		p := newProgram(t, "chkpt-req "+errno, "checkpoint", 1, "0s")
		p.run(t)
		p.says(t, "open ok\nrequest: ioctl CR_OP_CHKPT_REQ: "+errno+"\nclose ok\n")
	}
}

// TestCheckpointFails pins that a failure is returned by the reap, after the log.
func TestCheckpointFails(t *testing.T) {
	for _, errno := range []string{
		"EPERM", "ESRCH", "EIO", "EAGAIN", "EBUSY", "EINVAL", "ENOSPC", "EMLINK", "ENOSYS", "EDQUOT",
		"CR_ETEMPFAIL", "CR_EPERMFAIL", "CR_ENOSUPPORT", "CR_EVERSION", "CR_EOMITTED", "CR_EBADARCH",
		"CR_EPTRACED", "CR_EPTRACER", "CR_ERSTRTABRT", "CR_ERESTARTED", "CR_ENOTCB", "CR_ENOINIT",
	} {
		p := newProgram(t, "chkpt-reap "+errno+"\nchkpt-log one\nchkpt-log two: -1", "checkpoint", 1, "0s")
		res := p.run(t)
		p.says(t, "open ok\nrequest ok\nwait ok\nlog ok\n- one\n- two: -1\nreap: ioctl CR_OP_CHKPT_REAP: "+errno+"\nclose ok\n")
		ops := res.Requests()
		n := len(ops)
		if n < 3 {
			t.Fatalf("operations %q", ops)
		}
		transcript(t, res, append(ops[:n-3:n-3],
			"CHKPT_LOG = 13",
			`CHKPT_LOG {len=13} = 13 "one\ntwo: -1\n"`,
			"CHKPT_REAP = -"+errno)...)
	}
}

// TestCheckpointLimit pins that Wait returns after the limit, with the target
// untouched.
func TestCheckpointLimit(t *testing.T) {
	victim := target(t)
	p := newProgram(t, "chkpt-delay never", "checkpoint", victim.Process.Pid, "60ms")
	res := p.run(t)
	p.says(t, "open ok\nrequest ok\nwait: poll: ETIME\nclose ok\n")
	if res.Elapsed > 10*time.Second {
		t.Errorf("it took %v", res.Elapsed)
	}
	if ended(t, victim) {
		t.Error("the target has ended")
	}
}

// TestCheckpointInterrupted pins that signals neither end the wait early nor extend
// its limit.
func TestCheckpointInterrupted(t *testing.T) {
	for _, c := range []struct{ delay, limit, wait string }{
		{"100ms", "0s", "ok\nlog ok\nreap ok"},
		{"never", "100ms", ": poll: ETIME"},
	} {
		victim := target(t)
		p := newProgram(t, "chkpt-delay "+c.delay, "checkpoint", victim.Process.Pid, c.limit)
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
		if err := p.WaitTranscript("CHKPT_REQ", 10*time.Second); err != nil {
			t.Error(err)
		}
		stop := time.Now().Add(150 * time.Millisecond)
		for time.Now().Before(stop) && p.Signal(unix.SIGWINCH) == nil {
			time.Sleep(time.Millisecond)
		}
		p.wait(t)
		p.says(t, strings.Replace("open ok\nrequest ok\nwait "+c.wait+"\nclose ok\n", "wait :", "wait:", 1))
	}
}

// TestOwnNumber pins that a closed descriptor that the user names is reported as
// such, although the control file has got its number.
func TestOwnNumber(t *testing.T) {
	p := newProgram(t, "", "own number")
	res := p.run(t)
	fd := field(res.Transcript, "fd=")
	p.says(t, `open ok
request ok
wait ok
log ok
- invalid file descriptor `+fd+` received
- Failed to initialize destination file descriptor
reap: ioctl CR_OP_CHKPT_REAP: EINVAL
close ok
open ok
request ok
wait ok
log ok
- invalid file descriptor `+fd+` received
- failed to initialize source file descriptor
reap: ioctl CR_OP_RSTRT_REAP: EINVAL
close ok
`)
}

func TestCloseTwice(t *testing.T) {
	p := newProgram(t, "", "close")
	p.run(t)
	p.says(t, "open ok\nclose ok\nclose ok\n")
}

// TestRestart pins the operations of a restart, and that each process has as many
// threads as the module asks for; the simulator accepts no other number.
func TestRestart(t *testing.T) {
	const good = "open ok\nrequest ok\nwait ok\nlog ok\nreap ok\nclose ok\njob ok\n"
	for _, c := range []struct {
		scenario string
		procs    []int
		output   string
	}{
		{"job exit 0", []int{1}, good + "status 0x0\nclose ok\n0 more children\n"},
		{"job exit 7", []int{2}, good + "status 0x700\nclose ok\n0 more children\n"},
		{"job exit 255", []int{8}, good + "status 0xff00\nclose ok\n0 more children\n"},
		{"job signal TERM", []int{100}, good + "status 0xf\nclose ok\n0 more children\n"},
		{"job signal KILL", []int{1, 1}, good + "status 0x9\nclose ok\n1 more children\n"},
		{"job exit 3\njob exit 4\njob exit 5", []int{3, 1, 8}, good + "status 0x300\nclose ok\n2 more children\n"},
		{"job exit 1\nclone-flags 0x10f00", []int{4}, good + "status 0x100\nclose ok\n0 more children\n"},
		{"rstrt-delay 20ms\njob sh sleep 0.02; exit 6", []int{2, 2}, good + "status 0x600\nclose ok\n1 more children\n"},
	} {
		scenario, want := c.scenario+"\nrstrt-read no\nprocs", opened
		flags := "0x410f00"
		if strings.Contains(scenario, "clone-flags") {
			flags = "0x10f00"
		}
		for _, threads := range c.procs {
			scenario += fmt.Sprint(" ", threads)
		}
		p := newProgram(t, scenario, "restart")
		res := p.run(t)
		p.says(t, c.output)
		want = append(want[:len(want):len(want)],
			fmt.Sprintf("RSTRT_REQ {fd=%s signal=18 relocate={/a=/b /c d=/} flags=0x3} = 0", field(res.Transcript, "fd=")))
		for _, threads := range c.procs {
			want = append(want, fmt.Sprintf("RSTRT_PROCS = 1 {threads=%d clone_flags=%s}", threads, flags))
			for range threads {
				want = append(want, "RSTRT_CHILD")
			}
		}
		transcript(t, res, append(want, "RSTRT_PROCS = 0", "RSTRT_LOG = 0", "RSTRT_REAP = PID")...)
	}
}

// TestRestartForInit pins the two ways in which the job is init's child.
func TestRestartForInit(t *testing.T) {
	for _, scenario := range []string{"rstrt-reap 0", "procs none"} {
		p := newProgram(t, scenario+"\nrstrt-read no", "restart")
		p.run(t)
		more := strings.Count(scenario, "reap")
		p.says(t, fmt.Sprintf("open ok\nrequest ok\nwait ok\nlog ok\nreap ok\nclose ok\ninit's child\nclose ok\n%d more children\n", more))
	}
}

// TestRestartFails pins the error of each step that can fail, that no restart
// child is left, and that no other child has been touched.
func TestRestartFails(t *testing.T) {
	const reaped = "open ok\nrequest ok\nwait ok\nlog ok\n%sreap: ioctl CR_OP_RSTRT_REAP: %s\nclose ok\n0 more children\n"
	const refused = "open ok\nrequest: ioctl %s: %s\nclose ok\n0 more children\n"
	for _, c := range []struct{ scenario, output string }{
		{"rstrt-req EPERM", fmt.Sprintf(refused, "CR_OP_RSTRT_REQ", "EPERM")},
		{"rstrt-req CR_EBADARCH", fmt.Sprintf(refused, "CR_OP_RSTRT_REQ", "CR_EBADARCH")},
		{"rstrt-procs EIO", fmt.Sprintf(refused, "CR_OP_RSTRT_PROCS", "EIO")},
		{"procs 1 1\nrstrt-procs@2 ENOMEM", fmt.Sprintf(refused, "CR_OP_RSTRT_PROCS", "ENOMEM")},
		{"procs 4 1 8 1\nrstrt-procs@4 CR_ERSTRTABRT", fmt.Sprintf(refused, "CR_OP_RSTRT_PROCS", "CR_ERSTRTABRT")},
		{"procs 1\nrstrt-procs@2 EINTR", fmt.Sprintf(refused, "CR_OP_RSTRT_PROCS", "EINTR")},

		{"rstrt-reap EBUSY\nrstrt-log found pid 4185 in use", fmt.Sprintf(reaped, "- found pid 4185 in use\n", "EBUSY")},
		{"procs 8 1\nrstrt-child ENOENT", fmt.Sprintf(reaped, "", "ENOENT")},
		{"procs 1 8\nrstrt-child@2 EACCES\nrstrt-log a\nrstrt-log b", fmt.Sprintf(reaped, "- a\n- b\n", "EACCES")},
		{"procs 2 2\nrstrt-delay 20ms\nrstrt-reap CR_ERSTRTABRT", fmt.Sprintf(reaped, "", "CR_ERSTRTABRT")},
		// The jobs run already.
		{"procs 2 1\nrstrt-child 0\nrstrt-reap EIO\njob sleep", fmt.Sprintf(reaped, "", "EIO")},
	} {
		p := newProgram(t, c.scenario+"\nrstrt-read no", "restart")
		p.run(t)
		if p.says(t, c.output); t.Failed() {
			t.Fatalf("scenario:\n%s", c.scenario)
		}
	}
}

// TestRestartChildFails pins that a restart child that ends before all of its
// threads are there, here because they cannot be created, ends the restart with
// that errno, although the module waits for it for ever; no process is left.
func TestRestartChildFails(t *testing.T) {
	const thread = 0x10000 // CLONE_THREAD alone is EINVAL
	p := newProgram(t, fmt.Sprintf("procs 1 2 1\nclone-flags %#x\nrstrt-read no", thread), "restart")
	res := p.run(t)
	p.says(t, "open ok\nrequest: make: EINVAL\nclose ok\n0 more children\n")
	if res.Elapsed > 10*time.Second {
		t.Errorf("it took %v", res.Elapsed)
	}
}

// TestRestartErrors pins that every error number is passed on.
func TestRestartErrors(t *testing.T) {
	for _, errno := range []string{
		"EPERM", "ENOENT", "ESRCH", "EINTR", "EIO", "EAGAIN", "ENOMEM", "EACCES", "EBUSY", "EEXIST", "ENOTDIR", "EISDIR", "EINVAL", "ENOSYS",
		"CR_ETEMPFAIL", "CR_EPERMFAIL", "CR_ENOSUPPORT", "CR_EVERSION", "CR_EOMITTED", "CR_EBADARCH",
		"CR_EPTRACED", "CR_EPTRACER", "CR_ERSTRTABRT", "CR_ERESTARTED", "CR_ENOTCB", "CR_ENOINIT",
	} {
		p := newProgram(t, "rstrt-reap "+errno+"\nrstrt-read no", "restart")
		p.run(t)
		p.says(t, "open ok\nrequest ok\nwait ok\nlog ok\nreap: ioctl CR_OP_RSTRT_REAP: "+errno+"\nclose ok\n0 more children\n")
	}
}

// TestThreads pins the state of a restart child: the threads that the module asked
// for, each in its ioctl on a stack of its own, with all signals blocked and the
// handler of signal 64 in place. Closing the engine ends all children.
func TestThreads(t *testing.T) {
	p := newProgram(t, "procs 1 2 8 100\nrstrt-delay never\nrstrt-read no", "threads")
	p.run(t)
	var want strings.Builder
	want.WriteString("open ok\nrequest ok\n")
	for i, n := range []int{1, 2, 8, 100} {
		fmt.Fprintf(&want, "process %d has %d threads: %d block all signals, %d handle 64, %d are in RSTRT_CHILD, %d have a stack\n",
			i+1, n, n, n, n, n)
	}
	want.WriteString("close ok\n")
	p.says(t, want.String())
}

// TestCloseInRestart pins that closing the engine ends a restart that is blocked
// in the module: it returns at once and leaves no process.
func TestCloseInRestart(t *testing.T) {
	p := newProgram(t, "procs 3 1\nprocs-block@2 never\nrstrt-read no", "blocked")
	stdin, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	p.Stdin = stdin
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	if err := p.WaitTranscript("RSTRT_CHILD", 10*time.Second); err != nil {
		t.Error(err)
	}
	w.Close()
	p.wait(t)
	p.says(t, "open ok\nclose ok\n")
}
