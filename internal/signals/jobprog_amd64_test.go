package signals

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// reportFD is where the job says what it gets: a pipe to the test.
const reportFD = 3

// parent starts a job that reports what it gets and forwards to it: all that
// comes after it has said "held", once the test lets it go on.
func parent(args string) {
	// The test answers when the job is ready.
	pid := startJob("reporter")
	read(0)
	if args == "guarded" {
		NewGuard().Finish()
	}
	HoldForJob()
	fmt.Println("held")
	read(0)
	ForwardToJob(pid)
	fmt.Println("adopted")
	end, err := WaitJob(pid)
	must(err)
	os.Exit(EndAs(end))
}

// waiter starts a job, waits for it, and ends alike.
func waiter(args string) {
	var pid int
	if code, ok := strings.CutPrefix(args, "clone "); ok {
		pid = cloned(uintptr(number(code)))
	} else {
		pid = startJob(args)
	}
	end, err := WaitJob(pid)
	must(err)
	os.Exit(EndAs(end))
}

// cloned makes a child that exits with code, and whose end is told by another
// signal than SIGCHLD: an ordinary wait does not see it.
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

// reporter prints what signals it gets, and how often.
func reporter() {
	for sig := syscall.Signal(1); sig <= maxSignal; sig++ {
		if sig != unix.SIGKILL && sig != unix.SIGSTOP {
			must(Catch(sig))
		}
	}
	report := os.NewFile(reportFD, "report")
	fmt.Fprintln(report, "ready")
	for {
		seen := bellNow()
		for sig := syscall.Signal(1); sig <= maxSignal; sig++ {
			if n := take(sig); n != 0 {
				fmt.Fprintln(report, int(sig), n)
			}
		}
		sleep(seen)
	}
}

// killSelf dies of a signal the way a program does that knows nothing better,
// with a core file if there can be one.
func killSelf(sig syscall.Signal) {
	var limit unix.Rlimit
	must(unix.Getrlimit(unix.RLIMIT_CORE, &limit))
	limit.Cur = limit.Max
	must(unix.Setrlimit(unix.RLIMIT_CORE, &limit))
	must(raiseDefault(sig))
}

// startJob starts this binary once more, with our descriptors.
func startJob(role string) (pid int) {
	env := slices.DeleteFunc(os.Environ(), func(s string) bool { return strings.HasPrefix(s, roleEnv+"=") })
	pid, err := syscall.ForkExec("/proc/self/exe", []string{"job"}, &syscall.ProcAttr{
		Env:   append(env, roleEnv+"="+role),
		Files: []uintptr{0, 1, 2, reportFD},
		Sys:   &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL},
	})
	must(err)
	return pid
}

// read waits for a byte.
func read(fd int) {
	for {
		n, err := unix.Read(fd, make([]byte, 1))
		if err == unix.EINTR {
			continue
		}
		if n != 1 {
			must(fmt.Errorf("read: %d, %v", n, err))
		}
		return
	}
}

// jobProgram is this binary in a role.
type jobProgram struct {
	*exec.Cmd
	in     *os.File      // to its stdin
	out    *bufio.Reader // its stdout
	report *bufio.Reader // what its job reports
}

// patience is how long a test waits for what should take a few milliseconds.
const patience = 10 * time.Second

// startParent starts the program. It and its job are killed with the test's end.
func startParent(t *testing.T, role string) *jobProgram {
	t.Helper()
	pipe := func() (r, w *os.File) {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		return r, w
	}
	inR, inW := pipe()
	outR, outW := pipe()
	reportR, reportW := pipe()
	p := &jobProgram{Cmd: exec.Command("/proc/self/exe"), in: inW, out: bufio.NewReader(outR), report: bufio.NewReader(reportR)}
	p.Env = append(os.Environ(), roleEnv+"="+role)
	p.Stdin, p.Stdout, p.Stderr = inR, outW, os.Stderr
	p.ExtraFiles = []*os.File{reportW}
	p.SysProcAttr = &syscall.SysProcAttr{
		// A process group with no parent outside of it is stopped by nobody.
		Setpgid: true,
		// Not even a test that is killed leaves anything behind.
		Pdeathsig: syscall.SIGKILL,
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	for _, f := range []*os.File{inR, outW, reportW} {
		f.Close()
	}
	outR.SetReadDeadline(time.Now().Add(patience))
	reportR.SetReadDeadline(time.Now().Add(patience))
	t.Cleanup(func() {
		if p.ProcessState == nil { // else the number may be anybody's by now
			unix.Kill(-p.Process.Pid, unix.SIGKILL)
			p.Wait()
		}
		for _, f := range []*os.File{inW, outR, reportR} {
			f.Close()
		}
	})
	return p
}

// forwarder starts a parent and a job that reports. The parent holds signals.
func forwarder(t *testing.T, how string) *jobProgram {
	t.Helper()
	p := startParent(t, strings.TrimSpace("parent "+how))
	p.expect(t, p.report, "ready")
	p.goOn(t)
	p.expect(t, p.out, "held")
	return p
}

// adopt lets the parent go on to forward.
func (p *jobProgram) adopt(t *testing.T) {
	t.Helper()
	p.goOn(t)
	p.expect(t, p.out, "adopted")
}

func (p *jobProgram) goOn(t *testing.T) {
	t.Helper()
	if _, err := p.in.Write([]byte{0}); err != nil {
		t.Fatal(err)
	}
}

func (p *jobProgram) expect(t *testing.T, r *bufio.Reader, want string) {
	t.Helper()
	line, err := r.ReadString('\n')
	if err != nil || line != want+"\n" {
		t.Fatalf("%q, %v; want %q", line, err, want)
	}
}

// gets returns the next signal that the job reports, and how many of it.
func (p *jobProgram) gets(t *testing.T) (sig syscall.Signal, n int) {
	t.Helper()
	line, err := p.report.ReadString('\n')
	if err != nil {
		t.Fatalf("the job reports nothing more: %v", err)
	}
	if _, err := fmt.Sscan(line, &sig, &n); err != nil {
		t.Fatalf("%v in %q", err, line)
	}
	return sig, n
}

// kill sends the parent a signal.
func (p *jobProgram) kill(t *testing.T, sig syscall.Signal) {
	t.Helper()
	if err := unix.Kill(p.Process.Pid, sig); err != nil {
		t.Fatal(err)
	}
}

// settle waits until the parent has counted every signal sent so far: none is
// pending, and no thread is running that may have taken one and not come to the
// end of its handler. The threads of an idle parent all sleep.
func (p *jobProgram) settle(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(100 * time.Microsecond) {
		busy := false
		tasks := fmt.Sprintf("/proc/%d/task", p.Process.Pid)
		entries, err := os.ReadDir(tasks)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			status, _ := os.ReadFile(tasks + "/" + e.Name() + "/status")
			for line := range strings.Lines(string(status)) {
				name, value, _ := strings.Cut(line, ":")
				value = strings.TrimSpace(value)
				switch name {
				case "SigPnd", "ShdPnd":
					busy = busy || strings.Trim(value, "0") != ""
				case "State":
					busy = busy || strings.HasPrefix(value, "R")
				}
			}
		}
		if !busy {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("signals stay pending")
		}
	}
}

// changes waits until the parent stops, goes on or ends.
func (p *jobProgram) changes(t *testing.T) unix.WaitStatus {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(100 * time.Microsecond) {
		var status unix.WaitStatus
		pid, err := unix.Wait4(p.Process.Pid, &status, unix.WUNTRACED|unix.WCONTINUED|unix.WNOHANG, nil)
		if err != nil && err != unix.EINTR {
			t.Fatal(err)
		}
		if pid > 0 {
			return status
		}
	}
	t.Fatal("the parent neither stops nor goes on")
	panic("unreachable")
}
