package signals

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What signals do cannot be taken back, so everything happens in programs of
// its own: this test binary, run again in a role. ROLE is a word with
// arguments.
const roleEnv = "SIGNALS_TEST_ROLE"

func TestMain(m *testing.M) {
	role, args, _ := strings.Cut(os.Getenv(roleEnv), " ")
	if role == "" {
		// What make or nohup has us ignore is not to be inherited.
		for _, sig := range []syscall.Signal{unix.SIGHUP, unix.SIGINT, 32, 33} {
			_ = Default(sig)
		}
		os.Exit(m.Run())
	}
	f, ok := roles[role]
	if !ok {
		fmt.Fprintf(os.Stderr, "no role %q\n", role)
		os.Exit(125)
	}
	f(args)
	os.Exit(0)
}

// roles are the programs that this test binary can be, by name.
var roles map[string]func(args string)

func init() { // the roles refer to the map
	bare := func(f func()) func(string) { return func(string) { f() } }
	// Many die here, and not all of them by DieOf.
	noCore := func(f func(string)) func(string) {
		return func(args string) {
			unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
			f(args)
		}
	}
	roles = map[string]func(args string){
		"report":   bare(report),
		"counters": bare(counters),
		"preempt":  bare(preempt),
		"faults":   bare(faults),
		"die":      die,
		"shut":     shut,
		"raise":    raise,
		"mask":     bare(mask),

		"guard":        noCore(guardRole),
		"create":       noCore(bare(createRole)),
		"finish":       noCore(bare(finishRole)),
		"try-finish":   noCore(bare(tryFinishRole)),
		"disarm":       noCore(disarmRole),
		"forward":      noCore(forwarderRole),
		"await":        noCore(bare(awaitRole)),
		"dispositions": noCore(dispositionsRole),

		"parent":   parent,
		"waiter":   waiter,
		"reporter": bare(reporter),
		"exit":     func(args string) { os.Exit(int(number(args))) },
		"kill":     func(args string) { killSelf(number(args)); os.Exit(125) },
		"stop": func(args string) {
			must(raiseDefault(unix.SIGSTOP))
			os.Exit(int(number(args)))
		},
	}
}

// program is this test binary in a role.
type program struct {
	*exec.Cmd
	lines *bufio.Reader // its stdout
}

// command makes the program without starting it. It works for users who may
// not enter the directory that "go test" built it in.
func command(role string, args ...any) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleEnv+"="+strings.TrimSpace(role+" "+fmt.Sprintln(args...)))
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		// A process group with no parent outside of it is stopped by nobody.
		Setpgid: true,
		// Not even a test that is killed leaves anything behind.
		Pdeathsig: syscall.SIGKILL,
	}
	return cmd
}

// start starts the program. It is killed with the test's end, and after 20 s.
func start(t *testing.T, role string, args ...any) *program {
	t.Helper()
	p := &program{Cmd: command(role, args...)}
	out, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.lines = bufio.NewReader(out)
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	deadline := time.AfterFunc(20*time.Second, func() { p.Process.Kill() })
	t.Cleanup(func() {
		deadline.Stop()
		p.Process.Kill()
		p.Wait()
	})
	return p
}

// line reads the next line that the program prints.
func (p *program) line(t *testing.T) string {
	t.Helper()
	line, err := p.lines.ReadString('\n')
	if err != nil {
		t.Fatalf("the program's output: %v", err)
	}
	return strings.TrimSuffix(line, "\n")
}

// silent holds the program's remaining output against nothing, and returns how
// it ended.
func (p *program) silent(t *testing.T) unix.WaitStatus {
	t.Helper()
	rest, err := io.ReadAll(p.lines)
	if err != nil {
		t.Error(err)
	}
	if len(rest) != 0 {
		t.Errorf("the program printed:\n%s", rest)
	}
	p.Wait()
	return unix.WaitStatus(p.ProcessState.Sys().(syscall.WaitStatus))
}

// kill sends the program a signal.
func (p *program) kill(t *testing.T, sig syscall.Signal) {
	t.Helper()
	if err := unix.Kill(p.Process.Pid, sig); err != nil {
		t.Fatal(err)
	}
}

// stopped waits until the program stops, and returns the signal that did it.
func (p *program) stopped(t *testing.T) syscall.Signal {
	t.Helper()
	var status unix.WaitStatus
	for {
		_, err := unix.Wait4(p.Process.Pid, &status, unix.WUNTRACED, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if !status.Stopped() {
			t.Fatalf("the program ended: %s", describe(status))
		}
		return status.StopSignal()
	}
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

// must ends a role for which something does not work.
func must(err error) {
	if err != nil {
		_, _, line, _ := runtime.Caller(1)
		fmt.Fprintf(os.Stderr, "line %d: %v\n", line, err)
		os.Exit(124)
	}
}

// number reads a signal's number.
func number(s string) syscall.Signal {
	n, err := strconv.Atoi(s)
	must(err)
	return syscall.Signal(n)
}
