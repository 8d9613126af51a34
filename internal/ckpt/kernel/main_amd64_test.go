package kernel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
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

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/signals"
	"blcr-cli/test/ctrlsim"
	"blcr-cli/test/harness"
)

// roleEnv makes this binary one of the programs that the tests run under the
// simulated control file.
const roleEnv = "KERNEL_TEST_ROLE"

var roles = map[string]func(args []string){
	"checkpoint": roleCheckpoint,
	"own number": roleOwnNumber,
	"restart":    roleRestart,
	"threads":    roleThreads,
	"close":      roleClose,
	"blocked":    roleBlocked,
	"abandon":    roleAbandon,
}

func init() {
	if os.Getenv(roleEnv) != "" {
		// As cr_restart does: the restored processes become children of this thread.
		runtime.LockOSThread()
	}
}

func TestMain(m *testing.M) {
	ctrlsim.Init()
	if role := os.Getenv(roleEnv); role != "" {
		os.Unsetenv(roleEnv)
		poller()
		before := openFDs()
		roles[role](os.Args[1:])
		checkFDs(os.Stdout, before)
		os.Exit(0)
	}
	os.Exit(harness.Main(m))
}

// poller has the runtime open the descriptors that it never closes.
func poller() {
	if r, w, err := os.Pipe(); err == nil {
		r.Close()
		w.Close()
	}
	exec.Command("/nonexistent").Run()
}

// openFDs maps the open descriptors to the links in /proc.
func openFDs() map[int]string {
	fds := map[int]string{}
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		panic(err)
	}
	for _, e := range entries {
		// The descriptor that ReadDir used is gone by now.
		name, err := os.Readlink("/proc/self/fd/" + e.Name())
		fd, _ := strconv.Atoi(e.Name())
		if err == nil && fd != int(callbackCtrl) { // which stays
			fds[fd] = name
		}
	}
	return fds
}

// checkFDs reports a set of open descriptors other than before.
func checkFDs(report *os.File, before map[int]string) bool {
	// A supervisor's goroutines close theirs a little later.
	for deadline := time.Now().Add(harness.Patience); ; time.Sleep(time.Millisecond) {
		after := openFDs()
		if maps.Equal(before, after) {
			return true
		}
		if time.Now().After(deadline) {
			fmt.Fprintf(report, "descriptors were %v, are %v\n", before, after)
			return false
		}
	}
}

// program runs this binary in a role under the simulated control file.
type program struct {
	ctrlsim.Command
	output bytes.Buffer
}

func newProgram(t *testing.T, scenario, role string, args ...any) *program {
	t.Helper()
	if err := ctrlsim.Supported(); err != nil {
		harness.Missing(t, "%v", err)
	}
	p := &program{Command: ctrlsim.Command{
		Path:     "/proc/self/exe",
		Argv0:    role,
		Env:      append(os.Environ(), roleEnv+"="+role),
		Scenario: ctrlsim.MustScenario(scenario),
		Linger:   -1,
	}}
	for _, arg := range args {
		p.Args = append(p.Args, fmt.Sprint(arg))
	}
	p.Stdout, p.Stderr = &p.output, &p.output
	return p
}

// run runs it to its end. It must do nothing that the module would refuse, and
// leave no process behind.
func (p *program) run(t *testing.T) *ctrlsim.Result {
	t.Helper()
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	return p.wait(t)
}

func (p *program) wait(t *testing.T) *ctrlsim.Result {
	t.Helper()
	res, err := p.Wait()
	if err != nil {
		t.Errorf("%v; output:\n%s", err, p.output.String())
	}
	if res == nil {
		t.FailNow()
	}
	if res.ExitCode != 0 || len(res.Problems) != 0 || len(res.Leftover) != 0 {
		t.Errorf("exit %d, signal %d, problems %q, processes left %v; output:\n%s",
			res.ExitCode, int(res.Signal), res.Problems, res.Leftover, p.output.String())
	}
	return res
}

// says compares the program's output.
func (p *program) says(t *testing.T, want string) {
	t.Helper()
	if got := p.output.String(); got != want {
		t.Errorf("output:\n%swant:\n%s", got, want)
	}
}

// transcript compares the operations.
func transcript(t *testing.T, res *ctrlsim.Result, want ...string) {
	t.Helper()
	if got := res.Requests(); !slices.Equal(got, want) {
		t.Errorf("operations:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// say prints the result of a step, and returns whether it succeeded.
func say(step string, err error) bool {
	var e *ckpt.Error
	switch {
	case err == nil:
		fmt.Println(step, "ok")
	case errors.As(err, &e):
		fmt.Printf("%s: %s: %s", step, e.Op, ctrlsim.ErrnoName(int(e.Errno)))
		for _, d := range e.Detail {
			fmt.Printf(" (%s)", d)
		}
		fmt.Println()
	default:
		fmt.Printf("%s: %T %v\n", step, err, err)
	}
	return err == nil
}

func sayLog(lines []string, err error) {
	say("log", err)
	for _, l := range lines {
		fmt.Printf("- %s\n", l)
	}
}

func atoi(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		panic(err)
	}
	return n
}

// open opens a file by its raw descriptor.
func open(name string, flags int) int {
	fd, err := unix.Open(name, flags|unix.O_CLOEXEC, 0o600)
	if err != nil {
		panic(err)
	}
	return fd
}

// roleCheckpoint TARGET LIMIT [FILE] makes a checkpoint.
func roleCheckpoint(args []string) {
	engine, err := Open()
	if !say("open", err) {
		return
	}
	defer func() { say("close", engine.Close()) }()
	file := "/dev/null"
	if len(args) > 2 {
		file = args[2]
	}
	fd := open(file, unix.O_WRONLY|unix.O_CREAT)
	defer unix.Close(fd)
	limit, err := time.ParseDuration(args[1])
	if err != nil {
		panic(err)
	}
	var start time.Time
	_, err = engine.Capture(context.Background(), &ckpt.CheckpointRequest{
		ID: int32(atoi(args[0])), Scope: ckpt.ScopeTree, FD: int32(fd), Limit: limit, WantLog: true,
		Signal: int32(unix.SIGKILL), PtracedSkip: true, SaveShared: true,
		Progressed: func(step ckpt.Step) {
			if step == ckpt.StepWait {
				start = time.Now()
			}
		},
	})
	sayRequest(engine, err)
	if ckpt.StepOf(err) == ckpt.StepWait {
		if waited := time.Since(start); waited < limit || limit == 0 {
			fmt.Println("after only", waited)
		}
	}
}

// sayRequest prints the result of each step of a request.
func sayRequest(engine ckpt.Engine, err error) bool {
	step := ckpt.StepOf(err)
	if err != nil && step == ckpt.StepIssue {
		return say("request", err)
	}
	say("request", nil)
	if err != nil && step == ckpt.StepWait {
		return say("wait", err)
	}
	say("wait", nil)
	sayLog(engine.Log(), nil)
	return say("reap", err)
}

// roleOwnNumber requests a context in a closed descriptor whose number the control
// file has got.
func roleOwnNumber(args []string) {
	for _, restart := range []bool{false, true} {
		engine, err := Open()
		if !say("open", err) {
			return
		}
		fd := int32(engine.(*Engine).ctrl)
		if restart {
			_, err = engine.Restart(context.Background(), &ckpt.RestartRequest{FD: fd, WantLog: true})
		} else {
			_, err = engine.Capture(context.Background(), &ckpt.CheckpointRequest{ID: 1, FD: fd, WantLog: true})
		}
		sayRequest(engine, err)
		say("close", engine.Close())
	}
}

// roleRestart makes a restart and waits for the jobs. A child that it had before,
// as with "exec cr_restart", must not be touched.
func roleRestart([]string) {
	old, err := syscall.ForkExec("/bin/sleep", []string{"sleep", "100"}, nil)
	if err != nil {
		panic(err)
	}
	restored := tryRestart(old)
	var status unix.WaitStatus
	if got, err := unix.Wait4(old, &status, unix.WNOHANG, nil); got != 0 || err != nil {
		fmt.Printf("the old child has ended: status %#x, %v\n", status, err)
	}
	unix.Kill(old, unix.SIGKILL)
	unix.Wait4(old, nil, 0, nil)
	for n := 0; ; n++ {
		switch pid, err := unix.Wait4(-1, nil, unix.WALL, nil); {
		case err == unix.ECHILD:
			fmt.Println(n, "more children")
			return
		case !restored || err != nil:
			fmt.Println("left behind:", pid, err)
		}
	}
}

// tryRestart prints the result of each step. Where one fails, none of the restart's
// processes may be left even before the engine is closed.
func tryRestart(old int) (restored bool) {
	engine, err := Open()
	if !say("open", err) {
		return false
	}
	defer func() { say("close", engine.Close()) }()
	fd := open("/dev/null", unix.O_RDONLY)
	defer unix.Close(fd)
	before := threadMask()
	pid, err := engine.Restart(context.Background(), &ckpt.RestartRequest{
		FD: int32(fd), Signal: int32(unix.SIGCONT), RestorePid: true, WantLog: true,
		Relocations: []ckpt.Relocation{{Old: "/a", New: "/b"}, {Old: "/c d", New: "/"}},
	})
	if threadMask() != before {
		fmt.Println("other signals are blocked than before")
	}
	alone := func() bool {
		all := children()
		if len(all) > 0 && (len(all) != 1 || !all[old]) {
			fmt.Println("children", all, "before closing")
		}
		return false
	}
	if !sayRequest(engine, err) {
		return alone()
	}
	// The job does not end with the request.
	say("close", engine.Close())
	if pid == 0 {
		fmt.Println("init's child")
		return true
	}
	if status, err := signals.Wait(pid); say("job", err) {
		fmt.Printf("status %#x\n", uint32(status))
	}
	return true
}

func threadMask() unix.Sigset_t {
	var mask unix.Sigset_t
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, nil, &mask); err != nil {
		panic(err)
	}
	return mask
}

// roleThreads describes the restart children, whose threads are to be in
// RSTRT_CHILD, and closes the engine.
func roleThreads(args []string) {
	engine, err := Open()
	if !say("open", err) {
		return
	}
	fd := open("/dev/null", unix.O_RDONLY)
	defer unix.Close(fd)
	_, err = engine.Restart(context.Background(), &ckpt.RestartRequest{FD: int32(fd), Made: func() bool {
		say("request", nil)
		for i, pid := range engine.(*Engine).children.forked {
			fmt.Println("process", i+1, look(pid))
		}
		return false
	}})
	if ckpt.ErrnoOf(err) != unix.ECANCELED {
		fmt.Println("not cancelled:", err)
	}
	say("close", engine.Close())
	if pid, err := unix.Wait4(-1, nil, unix.WALL, nil); err != unix.ECHILD {
		fmt.Println("left behind:", pid, err)
	}
}

// look describes the threads of a process.
func look(pid int) string {
	tasks := fmt.Sprintf("/proc/%d/task/", pid)
	entries, err := os.ReadDir(tasks)
	if err != nil {
		return err.Error()
	}
	blocked, handled, waiting := 0, 0, 0
	var stacks []uint64 // their pointers
	var main uint64     // the first thread's
	for _, e := range entries {
		status, _ := os.ReadFile(tasks + e.Name() + "/status")
		if strings.Contains(string(status), "SigBlk:\tfffffffffffbfeff\n") {
			blocked++
		}
		for line := range strings.Lines(string(status)) {
			if set, ok := strings.CutPrefix(line, "SigCgt:\t"); ok && set[0] >= '8' {
				handled++
			}
		}
		// Its number, six arguments, sp and pc.
		call, _ := os.ReadFile(tasks + e.Name() + "/syscall")
		fields := strings.Fields(string(call))
		if len(fields) == 9 && fields[0] == strconv.Itoa(unix.SYS_IOCTL) && fields[2] == "0xa123" {
			waiting++
			sp, _ := strconv.ParseUint(fields[7], 0, 64)
			stacks = append(stacks, sp)
			if e.Name() == strconv.Itoa(pid) {
				main = sp
			}
		}
	}
	slices.Sort(stacks)
	good := 0
	for i, sp := range stacks {
		// The first thread has the goroutine's stack, which need not be as
		// large.
		room := uint64(stackSize)
		if sp == main {
			room = 1024
		}
		if writable(pid, sp-room, sp) && (i == 0 || sp-stacks[i-1] >= room) {
			good++
		}
	}
	return fmt.Sprintf("has %d threads: %d block all signals, %d handle 64, %d are in RSTRT_CHILD, %d have a stack",
		len(entries), blocked, handled, waiting, good)
}

// writable says whether a process may write everywhere from low to below high.
func writable(pid int, low, high uint64) bool {
	maps, _ := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	for line := range strings.Lines(string(maps)) {
		var start, end uint64
		var rights string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &start, &end, &rights); err != nil {
			return false
		}
		if start <= low && high <= end && strings.HasPrefix(rights, "rw") {
			return true
		}
	}
	return false
}

// roleClose closes an engine twice. The second time, its descriptor's number is
// that of another file.
func roleClose([]string) {
	engine, err := Open()
	if !say("open", err) {
		return
	}
	number := int(engine.(*Engine).ctrl)
	say("close", engine.Close())
	fd := open("/dev/null", unix.O_RDONLY)
	if fd != number {
		fmt.Println("got descriptor", fd, "for", number)
	}
	say("close", engine.Close())
	if err := unix.Close(fd); err != nil {
		fmt.Println("the second time closed another descriptor")
	}
}

// roleBlocked cancels a Restart when its stdin ends.
func roleBlocked([]string) {
	engine, err := Open()
	if !say("open", err) {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		os.Stdin.Read(make([]byte, 1))
		cancel()
	}()
	fd := open("/dev/null", unix.O_RDONLY)
	defer unix.Close(fd)
	if _, err = engine.Restart(ctx, &ckpt.RestartRequest{FD: int32(fd)}); ckpt.ErrnoOf(err) != unix.ECANCELED {
		fmt.Println("not cancelled:", err)
	}
	if pid, err := unix.Wait4(-1, nil, unix.WALL, nil); err != unix.ECHILD {
		fmt.Println("left behind:", pid, err)
	}
	say("close", engine.Close())
}
