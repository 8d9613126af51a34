package signals

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// guarded is every signal that is to end the program after a cleanup: all that
// end programs and can be caught, but 33 and 64, which others need.
var guarded = []syscall.Signal{
	1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14, 15, 16, 24, 25, 26, 27, 29, 30, 31,
	32, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50,
	51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63,
}

// guardProgram is this binary in a role.
type guardProgram struct {
	*exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// startGuard starts it. It is killed with the test's end, and after 20 s.
func startGuard(t *testing.T, role string) *guardProgram {
	t.Helper()
	p := &guardProgram{Cmd: exec.Command("/proc/self/exe")}
	p.Env = append(os.Environ(), roleEnv+"="+role)
	p.Stderr = os.Stderr
	p.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := p.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.in, p.out = in, bufio.NewReader(out)
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

// says holds the program's next line against what it should be.
func (p *guardProgram) says(t *testing.T, want string) {
	t.Helper()
	if line, err := p.out.ReadString('\n'); line != want+"\n" {
		t.Fatalf("%q, %v; want %q", line, err, want)
	}
}

// ends returns the rest of the output, and how the program ended.
func (p *guardProgram) ends(t *testing.T) (output, status string) {
	t.Helper()
	rest, err := io.ReadAll(p.out)
	if err != nil {
		t.Error(err)
	}
	p.Wait()
	s := p.ProcessState.Sys().(syscall.WaitStatus)
	if s.Signaled() {
		return string(rest), fmt.Sprint("signal ", int(s.Signal()))
	}
	return string(rest), fmt.Sprint("exit ", s.ExitStatus())
}

func (p *guardProgram) kill(t *testing.T, sig syscall.Signal) {
	t.Helper()
	if err := p.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

// saying prints a line and returns the function that does.
func saying(line string) func() { return func() { fmt.Println(line) } }

// wait waits for the test to close stdin.
func wait() { io.Copy(io.Discard, os.Stdin) }

// guardRole watches, with as many cleanups one after the other as asked for.
func guardRole(args string) {
	g := NewGuard()
	n, _ := strconv.Atoi(args)
	for i := range n {
		g.Create(func() func() { return saying(fmt.Sprint("cleanup ", i+1)) })
		g.Create(func() func() { return nil })
	}
	fmt.Println("ready")
	wait()
}

// TestSignal pins that each of the signals that end programs runs the cleanup
// that was given last, and then ends this one, too.
func TestSignal(t *testing.T) {
	for _, c := range []struct{ cleanups, output string }{
		{"0", ""},
		{"1", "cleanup 1\n"},
		{"2", "cleanup 2\n"},
	} {
		for _, sig := range guarded {
			p := startGuard(t, "guard "+c.cleanups)
			p.says(t, "ready")
			p.kill(t, sig)
			output, status := p.ends(t)
			if want := fmt.Sprint("signal ", int(sig)); output != c.output || status != want {
				t.Errorf("%s cleanups, signal %d: output %q, %s; want %q, %s", c.cleanups, int(sig), output, status, c.output, want)
			}
		}
	}
}

// TestNoSignal pins that a program that nobody disturbs ends as it likes, and
// that signals that end no program do not end this one.
func TestNoSignal(t *testing.T) {
	p := startGuard(t, "guard 1")
	p.says(t, "ready")
	for _, sig := range []syscall.Signal{unix.SIGCHLD, unix.SIGCONT, unix.SIGURG, unix.SIGWINCH} {
		p.kill(t, sig)
	}
	p.in.Close()
	if output, status := p.ends(t); output != "" || status != "exit 0" {
		t.Errorf("output %q, %s", output, status)
	}
}

// createRole is disturbed while it makes something.
func createRole() {
	g := NewGuard()
	g.Create(func() func() { return saying("not yet made") })
	g.Create(func() func() {
		seen := bellNow()
		fmt.Println("making")
		sleep(seen)
		// The signal has come. This is for the goroutine that wants to see to
		// it; without its patience this shows less.
		time.Sleep(20 * time.Millisecond)
		fmt.Println("made")
		return saying("undone")
	})
	wait()
}

// TestCreate pins that a signal waits for what is just being made, which is
// then undone.
func TestCreate(t *testing.T) {
	p := startGuard(t, "create")
	p.says(t, "making")
	p.kill(t, unix.SIGTERM)
	if output, status := p.ends(t); output != "made\nundone\n" || status != "signal 15" {
		t.Errorf("output %q, %s", output, status)
	}
}

// finishRole takes the signals itself after the guard's time is over.
func finishRole() {
	g := NewGuard()
	g.Create(func() func() { return saying("cleanup") })
	g.Finish()
	fmt.Println("ready")
	for taken := 0; taken < len(guarded); {
		seen := bellNow()
		for _, sig := range pending() {
			// The guard's goroutine may have been faster, and puts it back.
			if n := take(sig); n > 0 {
				fmt.Println(int(sig), n)
				taken++
			}
		}
		if taken < len(guarded) {
			sleep(seen)
		}
	}
	fmt.Println("goes on")
	wait()
}

// TestFinish pins that afterwards no signal ends the program; whoever waits for
// signals gets them, each once.
func TestFinish(t *testing.T) {
	p := startGuard(t, "finish")
	p.says(t, "ready")
	for _, sig := range guarded {
		p.kill(t, sig)
		p.says(t, fmt.Sprint(int(sig), " ", 1))
	}
	p.says(t, "goes on")
	p.in.Close()
	if output, status := p.ends(t); output != "" || status != "exit 0" {
		t.Errorf("output %q, %s", output, status)
	}
}

// disarmRole lets the guard go, at once after a signal has been caught with
// "pending".
func disarmRole(args string) {
	g := NewGuard()
	g.Create(func() func() { return saying("cleanup") })
	if args == "pending" {
		g.Create(func() func() { add(unix.SIGTERM); return nil })
	}
	g.Disarm()
	fmt.Println("ready")
	wait()
}

// TestDisarm pins that afterwards a signal does what it does by default.
func TestDisarm(t *testing.T) {
	for _, sig := range guarded {
		p := startGuard(t, "disarm")
		p.says(t, "ready")
		p.kill(t, sig)
		if output, status := p.ends(t); output != "" || status != fmt.Sprint("signal ", int(sig)) {
			t.Errorf("signal %d: output %q, %s", int(sig), output, status)
		}
	}
}

// TestDisarmPending pins that a signal that came before is not lost.
func TestDisarmPending(t *testing.T) {
	for range 5 { // it depends on who is faster
		p := startGuard(t, "disarm pending")
		p.in.Close()
		if output, status := p.ends(t); output != "cleanup\n" || status != "signal 15" {
			t.Errorf("output %q, %s", output, status)
		}
	}
}

// forwarderRole starts a program without protection and hands it what comes. With
// "held" it does so only after a signal.
func forwarderRole(args string) {
	f := NewForwarder()
	cmd := exec.Command("sleep", "60")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	seen := bellNow()
	if err := cmd.Start(); err != nil {
		fmt.Println(err)
		return
	}
	if args == "held" {
		fmt.Println("ready")
		sleep(seen)
	}
	f.To(cmd.Process.Pid)
	if args != "held" {
		fmt.Println("ready")
	}
	cmd.Wait()
	var handed []int
	for sig := syscall.Signal(1); sig <= maxSignal; sig++ {
		if f.Seen(sig) {
			handed = append(handed, int(sig))
		}
	}
	fmt.Println(int(cmd.ProcessState.Sys().(syscall.WaitStatus).Signal()), handed)
}

// TestForwarder pins that a signal ends the other process, not this one, which
// knows of it; also where it came before To.
func TestForwarder(t *testing.T) {
	for _, how := range []string{"at once", "held"} {
		for _, sig := range guarded {
			p := startGuard(t, "forward "+how)
			p.says(t, "ready")
			p.kill(t, sig)
			output, status := p.ends(t)
			if want := fmt.Sprintf("%d [%d]\n", sig, sig); output != want || status != "exit 0" {
				t.Errorf("%s, signal %d: output %q, %s; want %q, exit 0", how, int(sig), output, status, want)
			}
		}
	}
}

// awaitRole holds Seen and Await against signals that come and that do not.
func awaitRole() {
	f := NewForwarder()
	fmt.Println(f.Seen(unix.SIGTERM), f.Await(unix.SIGTERM))
	add(unix.SIGTERM)
	fmt.Println(f.Seen(unix.SIGTERM), f.Await(unix.SIGHUP))
	go func() {
		time.Sleep(2 * time.Millisecond)
		add(unix.SIGINT)
	}()
	fmt.Println(f.Await(unix.SIGINT))
}

// TestAwait pins that a signal that comes a moment late is seen.
func TestAwait(t *testing.T) {
	p := startGuard(t, "await")
	if output, status := p.ends(t); output != "false false\ntrue false\ntrue\n" || status != "exit 0" {
		t.Errorf("output %q, %s", output, status)
	}
}

// dispositionsRole prints the signals that are ignored when a Guard or Forwarder
// watches.
func dispositionsRole(args string) {
	switch args {
	case "guard":
		NewGuard()
	case "forwarder":
		NewForwarder()
	case "kept":
		KeepIgnored()
		NewGuard()
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		fmt.Println(err)
		return
	}
	m := regexp.MustCompile(`SigIgn:\s+([0-9a-f]+)`).FindStringSubmatch(string(status))
	set, err := strconv.ParseUint(m[1], 16, 64)
	if err != nil {
		fmt.Println(err)
		return
	}
	var ignored []int
	for sig := 1; sig <= 64; sig++ {
		if set&(1<<(sig-1)) != 0 {
			ignored = append(ignored, sig)
		}
	}
	fmt.Println(ignored)
}

// trapped runs a program as dispositions, with signals ignored by a shell.
func trapped(t *testing.T, program, args, signals, want string) {
	t.Helper()
	script := "exec " + program
	if signals != "" {
		script = `trap "" ` + signals + "\n" + script
	}
	cmd := exec.Command("/bin/sh", "-c", script)
	cmd.Env = append(os.Environ(), roleEnv+"=dispositions "+args)
	out, err := cmd.CombinedOutput()
	if err != nil || string(out) != want+"\n" {
		t.Errorf("%s, trap %q: ignored %q, %v; want %s", args, signals, out, err, want)
	}
}

// TestIgnored pins that a signal that is ignored from the start stays so: a
// program under nohup outlives its terminal, one in the background an
// interrupt. For these two it does so by itself, for others see KeepIgnored.
func TestIgnored(t *testing.T) {
	for _, role := range []string{"guard", "forwarder"} {
		for signals, want := range map[string]string{"": "[]", "HUP": "[1]", "INT": "[2]", "HUP INT": "[1 2]"} {
			trapped(t, "/proc/$PPID/exe", role, signals, want)
		}
	}
}

// TestKeepIgnored pins that every signal but SIGCHLD stays ignored in a program
// that is linked as the commands are.
func TestKeepIgnored(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a test binary")
	}
	program := filepath.Join(t.TempDir(), "cleanup.test")
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-o", program, "-ldflags", "-E blcr-cli/internal/entry.entry", ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		if os.Getenv("CI") == "true" && os.Geteuid() == 0 {
			t.Fatalf("go test -c: %v\n%s", err, out)
		}
		t.Skipf("a program cannot be built here: go test -c: %v\n%s", err, out)
	}
	for signals, want := range map[string]string{
		"":                        "[]",
		"QUIT":                    "[3]",
		"INT QUIT":                "[2 3]", // a shell's background
		"TERM":                    "[15]",
		"HUP USR1 PIPE TERM XCPU": "[1 10 13 15 24]",
		"CHLD":                    "[]",
		"CHLD TSTP TTIN TTOU":     "[20 21 22]",
	} {
		trapped(t, program, "kept", signals, want)
	}
}

// tryFinishRole has a cleanup that waits for the one who tries to finish.
func tryFinishRole() {
	g := NewGuard()
	cleaning, tried := make(chan bool), make(chan bool)
	g.Create(func() func() {
		return func() {
			close(cleaning)
			fmt.Println("finished:", <-tried)
		}
	})
	fmt.Println("ready")
	<-cleaning
	tried <- g.TryFinish()
	select {}
}

// TestTryFinish pins that somebody whom the cleanup waits for is told that it is
// too late, instead of waiting in turn; and that before it is in time.
func TestTryFinish(t *testing.T) {
	p := startGuard(t, "try-finish")
	p.says(t, "ready")
	p.kill(t, syscall.SIGTERM)
	if output, status := p.ends(t); output != "finished: false\n" || status != "signal 15" {
		t.Errorf("output %q, %s", output, status)
	}
	g := &Guard{}
	if !g.TryFinish() || !g.finished {
		t.Error("not finished, though nothing ends the program")
	}
}
