package signals

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/proc"
)

// parentRole starts a job that reports the signals it gets. It forwards to it those
// that come after it has printed "held", once the test lets it go on.
func parentRole(args string) {
	pid := startJob("report")
	readByte() // the test has seen that the job is ready
	if args == "guarded" {
		NewGuard().Finish()
	}
	if args == "early" {
		HoldStops()
	} else {
		HoldForJob()
	}
	fmt.Println("held")
	readByte()
	if args == "early" {
		HoldForJob()
	}
	ForwardToJob(pid)
	fmt.Println("forwards")
	end, err := Wait(pid)
	must(err)
	os.Exit(EndAs(end))
}

// startHolding starts parentRole, which holds signals when this returns.
func startHolding(t *testing.T, args ...any) *program {
	t.Helper()
	p := start(t, "parent", args...)
	p.expect(t, p.report, "ready")
	p.goOn(t)
	p.says(t, "held")
	return p
}

// startForwarding starts parentRole, which forwards signals when this returns.
func startForwarding(t *testing.T, args ...any) *program {
	t.Helper()
	p := startHolding(t, args...)
	p.goOn(t)
	p.says(t, "forwards")
	return p
}

// wantCounts compares what the job has got, when nothing more is under way.
func wantCounts(t *testing.T, got, want map[syscall.Signal]int) {
	t.Helper()
	for sig := syscall.Signal(1); sig <= 64; sig++ {
		if got[sig] != want[sig] {
			t.Errorf("signal %d: the job got %d, want %d", int(sig), got[sig], want[sig])
		}
	}
}

// TestHeld: signals that come before ForwardToJob are not lost. Each reaches the job
// as often as it came, and no other does.
func TestHeld(t *testing.T) {
	p := startHolding(t)
	want, total := make(map[syscall.Signal]int), 0
	for _, sig := range notStopped {
		times := 1
		if sig >= 32 {
			times = int(sig) // these queue
		}
		for range times {
			p.kill(t, sig)
		}
		if slices.Contains(forJob, sig) {
			want[sig] = times
			total += times
		}
		p.settle(t)
	}
	p.goOn(t)
	p.says(t, "forwards")
	got := make(map[syscall.Signal]int)
	for total > 0 {
		sig, n := p.gets(t)
		got[sig] += n
		total -= n
	}
	// Two more, one after the other: those before them that are too many have arrived.
	for _, sig := range []syscall.Signal{unix.SIGUSR1, unix.SIGUSR2} {
		p.kill(t, sig)
		p.collect(t, got, sig)
		want[sig]++
	}
	wantCounts(t, got, want)
}

// TestForward: each signal reaches the job as it comes, except CHLD, which is about
// the job, and 64, which is BLCR's.
func TestForward(t *testing.T) {
	p := startForwarding(t)
	for _, sig := range notStopped {
		p.kill(t, sig)
		if slices.Contains(forJob, sig) {
			p.getsOne(t, sig)
			continue
		}
		p.settle(t)
		got := make(map[syscall.Signal]int)
		for _, fence := range []syscall.Signal{unix.SIGUSR1, unix.SIGUSR2} {
			p.kill(t, fence)
			p.collect(t, got, fence)
		}
		wantCounts(t, got, map[syscall.Signal]int{unix.SIGUSR1: 1, unix.SIGUSR2: 1})
	}
}

// TestStopping: a terminal's stop signals reach the job and stop the parent by the
// same signal, so that a shell sees it; SIGCONT continues both, any number of times.
func TestStopping(t *testing.T) {
	p := startForwarding(t)
	for range 2 {
		for _, sig := range stopping {
			p.kill(t, sig)
			p.getsOne(t, sig)
			p.changes(t, fmt.Sprint("stopped by ", int(sig)))
			p.kill(t, unix.SIGCONT)
			p.changes(t, "continued")
			p.getsOne(t, unix.SIGCONT)
		}
	}
	p.kill(t, unix.SIGUSR1)
	p.getsOne(t, unix.SIGUSR1)
}

// TestStopHeld: a stop that comes before ForwardToJob stops both afterwards; only
// once if it came twice.
func TestStopHeld(t *testing.T) {
	for times := 1; times <= 2; times++ {
		p := startHolding(t)
		for range times {
			p.kill(t, unix.SIGTSTP)
			p.settle(t)
		}
		p.goOn(t)
		p.changes(t, "stopped by 20")
		p.getsOne(t, unix.SIGTSTP)
		p.kill(t, unix.SIGCONT)
		p.changes(t, "continued")
		p.getsOne(t, unix.SIGCONT)
		p.kill(t, unix.SIGUSR1)
		p.getsOne(t, unix.SIGUSR1)
		p.settle(t)
		p.runs(t)
	}
}

// runs fails the test if the program has stopped.
func (p *program) runs(t *testing.T) {
	t.Helper()
	var status unix.WaitStatus
	if pid, err := unix.Wait4(p.Process.Pid, &status, unix.WUNTRACED|unix.WNOHANG, nil); pid != 0 || err != nil {
		t.Errorf("the program is not running: %v, %s", err, describe(status))
	}
}

// TestContinuedBeforeForward: a stop that a SIGCONT has revoked stops neither, and the
// job does not get it.
func TestContinuedBeforeForward(t *testing.T) {
	for _, stop := range stopping {
		p := startHolding(t)
		for _, sig := range []syscall.Signal{stop, unix.SIGCONT} {
			p.kill(t, sig)
			p.settle(t)
		}
		p.goOn(t)
		p.getsOne(t, unix.SIGCONT)
		p.says(t, "forwards")
		p.kill(t, unix.SIGUSR1)
		p.getsOne(t, unix.SIGUSR1)
		p.runs(t)
	}
}

// TestContinuedBeforeJob: nor does one that was revoked before there was a job, which gets
// neither of them.
func TestContinuedBeforeJob(t *testing.T) {
	for _, stop := range stopping {
		p := startHolding(t, "early")
		for _, sig := range []syscall.Signal{stop, unix.SIGCONT} {
			p.kill(t, sig)
			p.settle(t)
		}
		p.goOn(t)
		p.says(t, "forwards")
		p.kill(t, unix.SIGUSR1)
		p.getsOne(t, unix.SIGUSR1)
		p.runs(t)
	}
}

// TestStoppedBeforeForward: a SIGCONT that a later stop has revoked continues neither,
// and the job does not get it.
func TestStoppedBeforeForward(t *testing.T) {
	for _, stop := range stopping {
		p := startHolding(t)
		for _, sig := range []syscall.Signal{stop, unix.SIGCONT, stop} {
			p.kill(t, sig)
			p.settle(t)
		}
		p.goOn(t)
		p.changes(t, fmt.Sprint("stopped by ", int(stop)))
		p.getsOne(t, stop)
	}
}

// TestGuarded: after a Guard, which has caught signals before, all of them reach the
// job, and at once.
func TestGuarded(t *testing.T) {
	p := startForwarding(t, "guarded")
	for _, sig := range []syscall.Signal{unix.SIGWINCH, unix.SIGTERM, unix.SIGCONT, 40, unix.SIGINT, unix.SIGHUP} {
		p.settle(t) // its goroutines sleep
		p.kill(t, sig)
		p.getsOne(t, sig)
	}
}

// TestGuardedQueue: after a Guard, queued signals are counted one by one, too.
func TestGuardedQueue(t *testing.T) {
	for range 5 { // the goroutines compete
		p := startForwarding(t, "guarded")
		p.kill(t, unix.SIGSTOP)
		p.changes(t, "stopped by 19")
		const sig, times = 40, 30
		for range times {
			p.kill(t, sig)
		}
		p.kill(t, unix.SIGCONT)
		got := make(map[syscall.Signal]int)
		for got[sig] < times || got[unix.SIGCONT] < 1 {
			s, n := p.gets(t)
			got[s] += n
		}
		// One more of another kind: those before it that are too many have arrived.
		const last = 63
		p.kill(t, last)
		p.collect(t, got, last)
		wantCounts(t, got, map[syscall.Signal]int{sig: times, unix.SIGCONT: 1, last: 1})
	}
}

// waiterRole starts a job, reports its pid, waits for it, and ends as it did.
func waiterRole(args string) {
	var pid int
	if code, ok := strings.CutPrefix(args, "clone "); ok {
		pid = cloned(uintptr(number(code)))
	} else {
		pid = startJob(args)
	}
	fmt.Fprintln(os.NewFile(reportFD, "report"), pid)
	end, err := Wait(pid)
	must(err)
	os.Exit(EndAs(end))
}

// cloned makes a child that exits with code, and whose exit signal is not SIGCHLD: a
// wait without __WALL does not return it.
//
//go:norace
func cloned(code uintptr) int {
	pid, _, errno := unix.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGWINCH), 0, 0, 0, 0, 0)
	if errno != 0 {
		must(errno)
	}
	if pid == 0 {
		unix.RawSyscall(unix.SYS_EXIT_GROUP, code, 0, 0)
	}
	return int(pid)
}

// TestEnd: the parent ends as the job ends, without a core file of its own, and not
// before.
func TestEnd(t *testing.T) {
	t.Chdir(t.TempDir())
	for job, want := range map[string]string{
		"exit 0":   "exit 0",
		"exit 7":   "exit 7",
		"exit 255": "exit 255",
		"clone 5":  "exit 5",
	} {
		start(t, "waiter", job).ends(t, "", want)
	}
	for _, sig := range []int{1, 2, 3, 4, 6, 8, 9, 11, 13, 14, 15, 24, 27, 31, 32, 33, 34, 40, 63, 64} {
		start(t, "waiter die control", sig).ends(t, "", fmt.Sprint("signal ", sig))
	}
}

// TestEndStopped: that the job stops is not its end.
func TestEndStopped(t *testing.T) {
	p := start(t, "waiter stop", 3)
	var pid int
	if _, err := fmt.Fscan(p.report, &pid); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		job, err := proc.Read(pid)
		if err != nil {
			t.Fatal(err)
		}
		if job.State == 'T' {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the job does not stop, its state is %c", job.State)
		}
	}
	if err := unix.Kill(pid, unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	p.ends(t, "", "exit 3")
}

// TestNoChild: the error for what is not a child of this process.
func TestNoChild(t *testing.T) {
	for _, pid := range []int{os.Getppid(), os.Getpid(), 1<<22 + 1} {
		if status, err := Wait(pid); err != unix.ECHILD {
			t.Errorf("Wait(%d) = %v, %v; want ECHILD", pid, status, err)
		}
	}
}

// TestChildIgnored: the job's status arrives even in a process that was started with
// SIGCHLD ignored, in which the kernel would discard it.
func TestChildIgnored(t *testing.T) {
	start(t, "ignoring", int(unix.SIGCHLD), "/proc/self/exe", "waiter exit", 9).ends(t, "", "exit 9")
}
