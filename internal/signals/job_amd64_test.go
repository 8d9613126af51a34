package signals

import (
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// collect adds up what the job reports until it has got the signal last.
func (p *jobProgram) collect(t *testing.T, last syscall.Signal) map[syscall.Signal]int {
	t.Helper()
	got := make(map[syscall.Signal]int)
	for {
		sig, n := p.gets(t)
		got[sig] += n
		if sig == last {
			return got
		}
	}
}

// TestHeld pins that what comes before ForwardToJob is not lost: each signal reaches
// the job as often as it came, and nothing else does.
func TestHeld(t *testing.T) {
	p := forwarder(t, "")
	want := make(map[syscall.Signal]int)
	for sig := syscall.Signal(1); sig <= 64; sig++ {
		if sig == unix.SIGKILL || sig == unix.SIGSTOP || stops(sig) {
			continue
		}
		times := 1
		if sig > 31 {
			times = int(sig) // these queue
		}
		for range times {
			p.kill(t, sig)
		}
		if forwarded(sig) {
			want[sig] = times
		}
		p.settle(t)
	}
	p.adopt(t)
	total := 0
	for _, n := range want {
		total += n
	}
	got := make(map[syscall.Signal]int)
	for total > 0 {
		sig, n := p.gets(t)
		got[sig] += n
		total -= n
	}
	// One after the other, so that what is too much has come before them.
	for _, sig := range []syscall.Signal{unix.SIGUSR1, unix.SIGUSR2} {
		p.kill(t, sig)
		for s, n := range p.collect(t, sig) {
			got[s] += n
		}
		want[sig]++
	}
	for sig := range syscall.Signal(65) {
		if got[sig] != want[sig] {
			t.Errorf("signal %d: the job got %d, want %d", int(sig), got[sig], want[sig])
		}
	}
}

// TestForward pins that each signal reaches the job as it comes, but for
// SIGCHLD, which is about the job, and 64, which is BLCR's.
func TestForward(t *testing.T) {
	p := forwarder(t, "")
	p.adopt(t)
	for sig := syscall.Signal(1); sig <= 64; sig++ {
		if sig == unix.SIGKILL || sig == unix.SIGSTOP || stops(sig) {
			continue
		}
		p.kill(t, sig)
		if forwarded(sig) {
			if got, n := p.gets(t); got != sig || n != 1 {
				t.Errorf("sent %d, the job got %d, %d times", int(sig), int(got), n)
			}
			continue
		}
		p.settle(t)
		for _, fence := range []syscall.Signal{unix.SIGUSR1, unix.SIGUSR2} {
			p.kill(t, fence)
			for got := range p.collect(t, fence) {
				if got != fence {
					t.Errorf("sent %d, the job got %d", int(sig), int(got))
				}
			}
		}
	}
}

// TestStopping pins that the terminal's stop signals reach the job and stop the
// parent by the same signal, so that a shell sees what it has done; SIGCONT
// continues both, any number of times.
func TestStopping(t *testing.T) {
	p := forwarder(t, "")
	p.adopt(t)
	for range 2 {
		for _, sig := range []syscall.Signal{unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU} {
			p.kill(t, sig)
			if got, n := p.gets(t); got != sig || n != 1 {
				t.Errorf("sent %d, the job got %d, %d times", int(sig), int(got), n)
			}
			if got, want := describe(p.changes(t)), fmt.Sprintf("stopped by %d", int(sig)); got != want {
				t.Errorf("parent: %s, want %s", got, want)
			}
			p.kill(t, unix.SIGCONT)
			if got := describe(p.changes(t)); got != "continued" {
				t.Errorf("parent: %s, want continued", got)
			}
			if got, n := p.gets(t); got != unix.SIGCONT || n != 1 {
				t.Errorf("the job got %d, %d times, want 18 once", int(got), n)
			}
		}
	}
	p.kill(t, unix.SIGUSR1)
	if got, _ := p.gets(t); got != unix.SIGUSR1 {
		t.Errorf("afterwards the job gets %d, want 10", int(got))
	}
}

// TestStopHeld pins that a stop that comes before ForwardToJob stops both afterwards.
func TestStopHeld(t *testing.T) {
	p := forwarder(t, "")
	p.kill(t, unix.SIGTSTP)
	p.settle(t)
	p.goOn(t)
	if got := describe(p.changes(t)); got != "stopped by 20" {
		t.Errorf("parent: %s", got)
	}
	if got, _ := p.gets(t); got != unix.SIGTSTP {
		t.Errorf("the job got %d", int(got))
	}
}

// TestStopHeldTwice pins that whoever wants to stop what is not running yet, and
// tries twice, has to continue it only once.
func TestStopHeldTwice(t *testing.T) {
	p := forwarder(t, "")
	for range 2 {
		p.kill(t, unix.SIGTSTP)
		p.settle(t)
	}
	p.goOn(t)
	if got := describe(p.changes(t)); got != "stopped by 20" {
		t.Errorf("parent: %s", got)
	}
	p.kill(t, unix.SIGCONT)
	p.changes(t)
	p.kill(t, unix.SIGUSR1)
	for sig := syscall.Signal(0); sig != unix.SIGUSR1; {
		if sig = p.getsUnlessStopped(t); sig == 0 {
			t.Fatal("continued, and stopped again")
		}
	}
}

// TestContinuedBeforeAdopt pins that a stop that somebody has taken back stops
// nobody: both are running afterwards.
func TestContinuedBeforeAdopt(t *testing.T) {
	for _, stop := range []syscall.Signal{unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU} {
		p := forwarder(t, "")
		p.kill(t, stop)
		p.settle(t)
		p.kill(t, unix.SIGCONT)
		p.settle(t)
		p.goOn(t)
		p.kill(t, unix.SIGUSR1)
		var last syscall.Signal
		for sig := last; sig != unix.SIGUSR1; {
			last = sig
			if sig = p.getsUnlessStopped(t); sig == 0 {
				t.Errorf("%d, then SIGCONT: the parent is stopped", int(stop))
				break
			}
		}
		if last == stop {
			t.Errorf("%d, then SIGCONT: the job got them in the wrong order", int(stop))
		}
	}
}

// TestStoppedBeforeAdopt pins the other way round: somebody who continues, and
// then stops, wants it stopped.
func TestStoppedBeforeAdopt(t *testing.T) {
	for _, stop := range []syscall.Signal{unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU} {
		p := forwarder(t, "")
		for _, sig := range []syscall.Signal{stop, unix.SIGCONT, stop} {
			p.kill(t, sig)
			p.settle(t)
		}
		p.goOn(t)
		if got, want := describe(p.changes(t)), fmt.Sprintf("stopped by %d", int(stop)); got != want {
			t.Errorf("parent: %s, want %s", got, want)
		}
		if got, n := p.gets(t); got != stop || n != 1 {
			t.Errorf("%d last: the job first got %d, %d times", int(stop), int(got), n)
		}
	}
}

// getsUnlessStopped is gets, but returns 0 if the parent stops meanwhile.
func (p *jobProgram) getsUnlessStopped(t *testing.T) syscall.Signal {
	t.Helper()
	got := make(chan syscall.Signal, 1)
	go func() {
		line, _ := p.report.ReadString('\n')
		var sig syscall.Signal
		fmt.Sscan(line, &sig)
		got <- sig
	}()
	for {
		select {
		case sig := <-got:
			return sig
		case <-time.After(time.Millisecond):
		}
		var status unix.WaitStatus
		if pid, _ := unix.Wait4(p.Process.Pid, &status, unix.WUNTRACED|unix.WNOHANG, nil); pid > 0 {
			// Does away with both, and so with the goroutine.
			unix.Kill(-p.Process.Pid, unix.SIGKILL)
			<-got
			return 0
		}
	}
}

// TestGuarded pins the handing over from a Guard, which has caught
// signals before: all of them reach the job, and at once.
func TestGuarded(t *testing.T) {
	p := forwarder(t, "guarded")
	p.adopt(t)
	for _, sig := range []syscall.Signal{unix.SIGWINCH, unix.SIGTERM, unix.SIGCONT, 40, unix.SIGINT, unix.SIGHUP} {
		// The parent's goroutines fall asleep; a signal that comes before
		// shows less.
		time.Sleep(5 * time.Millisecond)
		p.kill(t, sig)
		if got, n := p.gets(t); got != sig || n != 1 {
			t.Errorf("sent %d, the job got %d, %d times", int(sig), int(got), n)
		}
	}
}

// TestGuardedQueue pins that what is queued up at the handing over is counted
// one by one, too.
func TestGuardedQueue(t *testing.T) {
	for range 5 { // it depends on who wakes first
		p := forwarder(t, "guarded")
		p.adopt(t)
		p.kill(t, unix.SIGSTOP)
		p.changes(t)
		const sig, times = 40, 30
		for range times {
			p.kill(t, sig)
		}
		p.kill(t, unix.SIGCONT)
		got := 0
		for got < times {
			if s, n := p.gets(t); s == sig {
				got += n
			}
		}
		// One more of another kind, so that what is too much has come before it.
		const last = 63
		p.kill(t, last)
		if got += p.collect(t, last)[sig]; got != times {
			t.Errorf("sent %d times, the job got %d", times, got)
		}
	}
}

// TestEnd pins that the parent ends as the job ends, without a core file of its
// own, and not before.
func TestEnd(t *testing.T) {
	t.Chdir(t.TempDir())
	type ending struct{ job, want string }
	tests := []ending{
		{"exit 0", "exit 0"},
		{"exit 7", "exit 7"},
		{"exit 255", "exit 255"},
		// Stopped and continued on the way.
		{"stop 3", "exit 3"},
		// A child of another kind, as a restored process may be one.
		{"clone 5", "exit 5"},
	}
	for _, sig := range []int{1, 2, 3, 4, 6, 8, 9, 11, 13, 14, 15, 24, 27, 31, 32, 33, 34, 40, 63, 64} {
		tests = append(tests, ending{fmt.Sprint("kill ", sig), fmt.Sprint("signal ", sig)})
	}
	for _, c := range tests {
		p := startParent(t, "waiter "+c.job)
		if c.job == "stop 3" {
			continueJob(t, p.Process.Pid)
		}
		p.Wait()
		if got := describe(unix.WaitStatus(p.ProcessState.Sys().(syscall.WaitStatus))); got != c.want {
			t.Errorf("job %s: parent %s, want %s", c.job, got, c.want)
		}
	}
}

// continueJob waits until the one child of that process is stopped, and
// continues it.
func continueJob(t *testing.T, parent int) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		entries, err := os.ReadDir("/proc")
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			stat, _ := os.ReadFile("/proc/" + e.Name() + "/stat")
			var pid, ppid int
			var comm, state string
			fmt.Sscan(string(stat), &pid, &comm, &state, &ppid)
			if ppid == parent && state == "T" {
				if err := unix.Kill(pid, unix.SIGCONT); err != nil {
					t.Fatal(err)
				}
				return
			}
		}
	}
	t.Fatal("the job does not stop")
}

// TestNoChild pins the error for what is no child of ours.
func TestNoChild(t *testing.T) {
	for _, pid := range []int{os.Getppid(), os.Getpid(), 1<<22 + 1} {
		if status, err := WaitJob(pid); err != unix.ECHILD {
			t.Errorf("WaitJob(%d) = %v, %v; want ECHILD", pid, status, err)
		}
	}
}

// TestChildIgnored pins that the job's status arrives even in a process that
// was started with SIGCHLD ignored, of which the system would reap children by
// itself.
func TestChildIgnored(t *testing.T) {
	sh, err := syscall.ForkExec("/bin/sh", []string{"sh", "-c", `trap "" CHLD; exec "/proc/$PPID/exe"`}, &syscall.ProcAttr{
		Env:   append(os.Environ(), roleEnv+"=waiter exit 9"),
		Files: []uintptr{0, 1, 2},
	})
	if err != nil {
		t.Fatal(err)
	}
	if status, err := WaitJob(sh); err != nil || describe(status) != "exit 9" {
		t.Errorf("parent: %s, %v; want exit 9", describe(status), err)
	}
}
