package signals

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/test/harness"
)

// What signals do to a process cannot be undone, so the tests use programs: this
// test binary, started again in a role. The variable has the role's name and its
// arguments.
const roleEnv = "SIGNALS_TEST_ROLE"

func TestMain(m *testing.M) {
	role, args, _ := strings.Cut(os.Getenv(roleEnv), " ")
	if role == "" {
		harness.Start()
		os.Exit(m.Run())
	}
	roles[role](args)
	os.Exit(0)
}

var roles map[string]func(args string)

func init() { // not in the declaration, since roles start others
	plain := func(role func()) func(string) { return func(string) { role() } }
	roles = map[string]func(string){
		// signals_amd64_test.go
		"die":          dieRole,
		"die-ignored":  dieIgnoredRole,
		"raise":        raiseRole,
		"mask":         plain(maskRole),
		"dispositions": dispositionsRole,
		"ignoring":     ignoringRole,
		// catch_amd64_test.go
		"report":   plain(reportRole),
		"counters": plain(countersRole),
		"preempt":  plain(preemptRole),
		"faults":   plain(faultsRole),
		// guard_amd64_test.go
		"guard":      guardRole,
		"create":     plain(createRole),
		"finish":     plain(finishRole),
		"try-finish": plain(tryFinishRole),
		"disarm":     disarmRole,
		// forward_amd64_test.go
		"forward": forwardRole,
		"await":   plain(awaitRole),
		"pipe":    plain(pipeRole),
		"add":     plain(addRole),
		"keep":    plain(keepRole),
		// job_amd64_test.go
		"parent": parentRole,
		"waiter": waiterRole,
		"exit":   func(args string) { os.Exit(number(args)) },
		"stop": func(args string) {
			must(raiseDefault(unix.SIGSTOP))
			os.Exit(number(args))
		},
	}
}

// must ends a role in which something fails.
func must(err error) {
	if err != nil {
		_, file, line, _ := runtime.Caller(1)
		fmt.Printf("%s:%d: %v\n", file, line, err)
		os.Exit(125)
	}
}

// number reads a role's argument.
func number(s string) int {
	n, err := strconv.Atoi(s)
	must(err)
	return n
}

// coreFiles allows this process to write a core file, if that can be.
func coreFiles() {
	var limit unix.Rlimit
	must(unix.Getrlimit(unix.RLIMIT_CORE, &limit))
	limit.Cur = limit.Max
	must(unix.Setrlimit(unix.RLIMIT_CORE, &limit))
}

// reportFD is where a role, or the job that it starts, reports to the test apart
// from its output.
const reportFD = 3

// startJob starts a role from a role, with the same descriptors.
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

// readByte waits until the test calls goOn.
func readByte() {
	_, err := io.ReadFull(os.Stdin, make([]byte, 1))
	must(err)
}

// waitForEOF waits until the test closes the standard input.
func waitForEOF() { io.Copy(io.Discard, os.Stdin) }

// program is this test binary in a role, in a process group of its own whose
// leader's parent, the test, is in another group of the same session. So it is
// not orphaned, however the tests were started, and SIGTSTP stops it.
type program struct {
	*exec.Cmd
	in     *os.File      // its standard input
	out    *bufio.Reader // its standard output and error
	report *bufio.Reader // its descriptor reportFD
}

// patience is how long a test waits for what should take milliseconds.
const patience = time.Minute

// command makes a role without starting it. Its path also works for users that
// may not enter the directory in which "go test" has built it.
func command(role string, args ...any) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleEnv+"="+strings.TrimSpace(role+" "+fmt.Sprintln(args...)))
	return cmd
}

// start starts a role. It and its job are killed when the test ends.
func start(t *testing.T, role string, args ...any) *program {
	t.Helper()
	return startCommand(t, command(role, args...))
}

func startCommand(t *testing.T, cmd *exec.Cmd) *program {
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
	p := &program{Cmd: cmd, in: inW, out: bufio.NewReader(outR), report: bufio.NewReader(reportR)}
	p.Stdin, p.Stdout, p.Stderr = inR, outW, outW
	p.ExtraFiles = []*os.File{reportW}
	p.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	for _, f := range []*os.File{inR, outW, reportW} {
		f.Close()
	}
	outR.SetReadDeadline(time.Now().Add(patience))
	reportR.SetReadDeadline(time.Now().Add(patience))
	t.Cleanup(func() {
		if p.ProcessState == nil { // else another process may have the pid
			unix.Kill(-p.Process.Pid, unix.SIGKILL)
			p.Wait()
		}
		for _, f := range []*os.File{inW, outR, reportR} {
			f.Close()
		}
	})
	return p
}

// expect compares the next line from r.
func (p *program) expect(t *testing.T, r *bufio.Reader, want string) {
	t.Helper()
	if line, err := r.ReadString('\n'); line != want+"\n" {
		t.Fatalf("%q, %v; want %q", line, err, want)
	}
}

// says compares the next line that the program prints.
func (p *program) says(t *testing.T, want string) {
	t.Helper()
	p.expect(t, p.out, want)
}

// ends compares the rest of the output, and how the program ends.
func (p *program) ends(t *testing.T, output, status string) {
	t.Helper()
	rest, err := io.ReadAll(p.out)
	if err != nil {
		t.Fatalf("output %q, then %v", rest, err)
	}
	p.Wait()
	got := describe(unix.WaitStatus(p.ProcessState.Sys().(syscall.WaitStatus)))
	if string(rest) != output || got != status {
		t.Errorf("%q: output %q, %s; want %q, %s", p.Env[len(p.Env)-1], rest, got, output, status)
	}
}

// goOn lets readByte return.
func (p *program) goOn(t *testing.T) {
	t.Helper()
	if _, err := p.in.Write([]byte{0}); err != nil {
		t.Fatal(err)
	}
}

// kill sends the program a signal.
func (p *program) kill(t *testing.T, sig syscall.Signal) {
	t.Helper()
	if err := unix.Kill(p.Process.Pid, sig); err != nil {
		t.Fatal(err)
	}
}

// gets returns the next signal that reportRole reports, and how many of it.
func (p *program) gets(t *testing.T) (sig syscall.Signal, n int) {
	t.Helper()
	line, err := p.report.ReadString('\n')
	if err != nil {
		t.Fatalf("no more signals are reported: %v", err)
	}
	if _, err := fmt.Sscan(line, &sig, &n); err != nil {
		t.Fatalf("%v in %q", err, line)
	}
	return sig, n
}

// getsOne compares the next signal that reportRole reports.
func (p *program) getsOne(t *testing.T, want syscall.Signal) {
	t.Helper()
	if sig, n := p.gets(t); sig != want || n != 1 {
		t.Errorf("signal %d is reported %d times, want %d once", int(sig), n, int(want))
	}
}

// collect adds up what reportRole reports until it has got last.
func (p *program) collect(t *testing.T, got map[syscall.Signal]int, last syscall.Signal) {
	t.Helper()
	for {
		sig, n := p.gets(t)
		got[sig] += n
		if sig == last {
			return
		}
	}
}

// settle waits until the program has counted every signal sent so far: none is
// pending, and no thread is running that may be in the handler. The threads of a
// program that waits all sleep.
func (p *program) settle(t *testing.T) {
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

// changes compares how the program stops or goes on.
func (p *program) changes(t *testing.T, want string) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(100 * time.Microsecond) {
		var status unix.WaitStatus
		pid, err := unix.Wait4(p.Process.Pid, &status, unix.WUNTRACED|unix.WCONTINUED|unix.WNOHANG, nil)
		if err != nil && err != unix.EINTR {
			t.Fatal(err)
		}
		if pid > 0 {
			if got := describe(status); got != want {
				t.Errorf("%s, want %s", got, want)
			}
			return
		}
	}
	t.Fatalf("the program is not %s", want)
}

// describe is a wait status as text.
func describe(s unix.WaitStatus) string {
	switch {
	case s.Stopped():
		return fmt.Sprintf("stopped by %d", s.StopSignal())
	case s.Continued():
		return "continued"
	case s.Signaled() && s.CoreDump():
		return fmt.Sprintf("signal %d, core dumped", s.Signal())
	case s.Signaled():
		return fmt.Sprintf("signal %d", s.Signal())
	}
	return fmt.Sprintf("exit %d", s.ExitStatus())
}
