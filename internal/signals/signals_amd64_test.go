package signals

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// catchable says whether a program can do anything about a signal.
func catchable(sig syscall.Signal) bool {
	return sig != unix.SIGKILL && sig != unix.SIGSTOP
}

// report catches all signals but 64 and prints which come, and how often.
func report() {
	for sig := syscall.Signal(1); sig < 64; sig++ {
		if err := Catch(sig); (err == nil) != catchable(sig) {
			fmt.Println("Catch", int(sig), err)
		}
	}
	fmt.Println("ready")
	for {
		seen := bellNow()
		for sig := syscall.Signal(1); sig < 64; sig++ {
			if n := take(sig); n != 0 {
				fmt.Println(int(sig), n)
			}
		}
		sleep(seen)
	}
}

// TestEverySignal pins that each signal can be caught and is told from others,
// those included that the Go runtime keeps to itself (27, 32 to 34) or uses
// (23), and the faults when somebody sends them.
func TestEverySignal(t *testing.T) {
	p := start(t, "report")
	if got := p.line(t); got != "ready" {
		t.Fatal(got)
	}
	for sig := syscall.Signal(1); sig < 64; sig++ {
		if !catchable(sig) {
			continue
		}
		p.kill(t, sig)
		if got, want := p.line(t), fmt.Sprint(int(sig), " ", 1); got != want {
			t.Errorf("sent %d, caught %q", int(sig), got)
		}
	}
}

// TestQueued pins that signals that queue up are counted one by one.
func TestQueued(t *testing.T) {
	p := start(t, "report")
	if got := p.line(t); got != "ready" {
		t.Fatal(got)
	}
	want := map[int]int{
		int(unix.SIGCONT): 1,
		int(unix.SIGUSR1): 1, // of several only one is pending
		32:                50, 33: 60, 34: 70, 40: 300, 63: 400,
	}
	p.kill(t, unix.SIGSTOP)
	p.stopped(t)
	total := 0
	for sig, n := range want {
		total += n
		for range n {
			if sig != int(unix.SIGCONT) {
				p.kill(t, syscall.Signal(sig))
			}
		}
	}
	p.kill(t, unix.SIGUSR1)
	p.kill(t, unix.SIGCONT)

	got := make(map[int]int)
	take := func() (sig, n int) {
		line := p.line(t)
		if _, err := fmt.Sscan(line, &sig, &n); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		got[sig] += n
		return sig, n
	}
	for total > 0 {
		_, n := take()
		total -= n
	}
	// One more of another kind, so that nothing can be on its way any longer.
	p.kill(t, unix.SIGUSR2)
	for sig := 0; sig != int(unix.SIGUSR2); {
		sig, _ = take()
	}
	want[int(unix.SIGUSR2)] = 1
	for sig := range 64 {
		if got[sig] != want[sig] {
			t.Errorf("signal %d: counted %d, sent %d", sig, got[sig], want[sig])
		}
	}
}

// queueHere sends this thread a signal with a si_code and si_pid of its
// choice. It has been handled when this returns.
func queueHere(sig syscall.Signal, code, pid int32) error {
	info := struct {
		signo, errno, code, _, pid int32
		_                          [108]byte
	}{signo: int32(sig), code: code, pid: pid}
	_, _, errno := unix.Syscall6(unix.SYS_RT_TGSIGQUEUEINFO, uintptr(unix.Getpid()), uintptr(unix.Gettid()),
		uintptr(sig), uintptr(unsafe.Pointer(&info)), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// The si_codes that matter.
const (
	siUser   = 0
	siQueue  = -1
	siTimer  = -2
	siTkill  = -6
	siKernel = 0x80
)

// counters holds Take, Bell, Add and Sleep against what it does itself, and
// prints what is wrong.
func counters() {
	runtime.LockOSThread()
	const sig = 40
	must(Catch(sig))
	self := int32(unix.Getpid())
	other := self + 1
	for _, c := range []struct {
		what  string
		send  func() error
		count int
	}{
		{"nothing", func() error { return nil }, 0},
		{"kill by ourselves", func() error { return unix.Kill(unix.Getpid(), sig) }, 0},
		{"tgkill by ourselves", func() error { return unix.Tgkill(unix.Getpid(), unix.Gettid(), sig) }, 0},
		{"SI_USER of ourselves", func() error { return queueHere(sig, siUser, self) }, 0},
		{"SI_TKILL of ourselves", func() error { return queueHere(sig, siTkill, self) }, 0},
		{"kill by another", func() error { return queueHere(sig, siUser, other) }, 1},
		{"tgkill by another", func() error { return queueHere(sig, siTkill, other) }, 1},
		{"kill from outside our pid namespace", func() error { return queueHere(sig, siUser, 0) }, 1},
		{"sigqueue by ourselves", func() error { return queueHere(sig, siQueue, self) }, 1},
		{"a timer whose id is our pid", func() error { return queueHere(sig, siTimer, self) }, 1},
		{"the kernel", func() error { return queueHere(sig, siKernel, self) }, 1},
		{"Add", func() error { add(sig); return nil }, 1},
		{"three", func() error {
			add(sig)
			return errors.Join(queueHere(sig, siUser, other), queueHere(sig, siUser, other))
		}, 3},
	} {
		bell := bellNow()
		must(c.send())
		if c.what == "kill by ourselves" {
			// It may have gone to any thread. Theirs is over when the next
			// one that is counted has been.
			must(queueHere(sig, siUser, other))
			bell++
			take(sig)
		}
		if n := bellNow() - bell; n != uint32(c.count) {
			fmt.Printf("%s: Bell moved by %d, want %d\n", c.what, n, c.count)
		}
		if n := take(sig); n != c.count {
			fmt.Printf("%s: counted %d, want %d\n", c.what, n, c.count)
		}
		if n := take(sig) + take(sig-1) + take(sig+1); n != 0 {
			fmt.Printf("%s: %d more", c.what, n)
		}
	}

	// Pending goes by the last arrival of each, and by nothing else.
	for _, sig := range []syscall.Signal{50, sig, 60, 45, sig} {
		must(Catch(sig))
		must(queueHere(sig, siUser, other))
	}
	add(60)
	if got := pending(); !slices.Equal(got, []syscall.Signal{50, 45, sig, 60}) {
		fmt.Println("pending", got)
	}
	for _, sig := range pending() {
		take(sig)
	}
	if got := pending(); len(got) != 0 {
		fmt.Println("pending after Take", got)
	}

	// Catching twice is no harm.
	must(Catch(sig))
	must(queueHere(sig, siUser, other))
	if n := take(sig); n != 1 {
		fmt.Printf("caught twice: counted %d\n", n)
	}

	// A signal between Bell and Sleep does not get lost.
	seen := bellNow()
	must(queueHere(sig, siUser, other))
	sleep(seen)

	// Whoever sleeps is woken by a signal, and by an Add.
	for _, wake := range []func(){
		func() { must(queueHere(sig, siUser, other)) },
		func() { add(sig) },
	} {
		const sleepers = 3
		seen, woken := bellNow(), make(chan bool, sleepers)
		for range sleepers {
			tid := make(chan int)
			go func() {
				runtime.LockOSThread()
				tid <- unix.Gettid()
				sleep(seen)
				woken <- true
			}()
			waitAsleep(<-tid)
		}
		must(queueHere(sig, siUser, self)) // no reason to wake
		if len(woken) != 0 {
			fmt.Println("Sleep ended by itself")
		}
		wake()
		deadline := time.After(2 * time.Second)
		for n := range sleepers {
			select {
			case <-woken:
			case <-deadline:
				fmt.Printf("%d of %d woken\n", n, sleepers)
				return
			}
		}
	}
}

// waitAsleep waits until a thread waits for a futex.
func waitAsleep(tid int) {
	for {
		// Begins with the number of the system call it is in.
		call, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/syscall", tid))
		if err != nil {
			return // no right to look; then this does not test waking up
		}
		if strings.HasPrefix(string(call), fmt.Sprintf("%d 0x%x ", unix.SYS_FUTEX, uintptr(unsafe.Pointer(&bell)))) {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

func TestCounters(t *testing.T) { says(t, "counters", "") }

// says runs a role that is to print just that.
func says(t *testing.T, role, want string) {
	t.Helper()
	cmd := command(role)
	deadline := time.AfterFunc(20*time.Second, func() { cmd.Process.Kill() })
	defer deadline.Stop()
	out, err := cmd.Output()
	if err != nil || string(out) != want {
		t.Errorf("%v, output:\n%swant:\n%s", err, out, want)
	}
}

// preempt has the runtime preempt what does not let go by itself, and counts
// what arrives of the signals that this takes.
func preempt() {
	must(Catch(unix.SIGURG))
	var workers sync.WaitGroup
	var stop atomic.Bool
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for !stop.Load() {
			}
		})
	}
	for range 3 {
		runtime.GC() // would wait for them for ever
	}
	stop.Store(true)
	workers.Wait()
	own := take(unix.SIGURG)
	runtime.LockOSThread()
	must(queueHere(unix.SIGURG, siUser, 1)) // somebody's
	fmt.Println(own, take(unix.SIGURG))
}

// TestPreemption pins that the runtime's own requests still reach it, and are
// not taken for somebody's signals.
func TestPreemption(t *testing.T) { says(t, "preempt", "0 1\n") }

// faults makes faults of its own while their signals are caught.
func faults() {
	for _, sig := range []syscall.Signal{unix.SIGSEGV, unix.SIGBUS, unix.SIGFPE, unix.SIGILL, unix.SIGTRAP} {
		must(Catch(sig))
		must(Catch(sig)) // must not take itself for the handler before
	}
	var sink byte
	nilPointer := func() {
		var p *[1 << 10]byte
		sink += p[sink&1]
	}
	// Beyond the end of a file: SIGBUS.
	file, err := unix.MemfdCreate("short", 0)
	must(err)
	mapping, err := unix.Mmap(file, 0, 4096, unix.PROT_READ, unix.MAP_SHARED)
	must(err)
	beyond := func() {
		debug.SetPanicOnFault(true)
		sink += mapping[sink&1]
	}
	var workers sync.WaitGroup
	for range 4 {
		workers.Go(func() {
			for range 50 {
				for _, fault := range []func(){nilPointer, beyond} {
					if err := recovered(fault); err == nil {
						fmt.Println("no panic")
					}
				}
			}
		})
	}
	workers.Wait()
	fmt.Println(take(unix.SIGSEGV), take(unix.SIGBUS))

	runtime.LockOSThread()
	must(queueHere(unix.SIGSEGV, siUser, 1)) // somebody's
	must(queueHere(unix.SIGBUS, siTkill, 1))
	fmt.Println(take(unix.SIGSEGV), take(unix.SIGBUS))
}

func recovered(f func()) (err runtime.Error) {
	defer func() { err, _ = recover().(runtime.Error) }()
	f()
	return nil
}

// TestFaults pins that a fault of the program's own remains a Go panic.
func TestFaults(t *testing.T) { says(t, "faults", "0 0\n1 1\n") }

// die ends this process by a signal, or so it should.
func die(args string) {
	how, sig, _ := strings.Cut(args, " ")
	// A core file is welcome.
	var limit unix.Rlimit
	must(unix.Getrlimit(unix.RLIMIT_CORE, &limit))
	limit.Cur = limit.Max
	must(unix.Setrlimit(unix.RLIMIT_CORE, &limit))
	switch how {
	case "control":
		must(raiseDefault(number(sig)))
		return
	case "caught":
		must(Catch(number(sig)))
	}
	DieOf(number(sig))
}

// shut goes on as die, started with every signal ignored and blocked.
func shut(args string) {
	runtime.LockOSThread()
	_, err := BlockAll()
	must(err)
	for sig := syscall.Signal(1); sig <= maxSignal; sig++ {
		if catchable(sig) {
			must(rtSigaction(sig, &sigaction{handler: 1}, nil)) // SIG_IGN
		}
	}
	must(os.Setenv(roleEnv, "die plain "+args))
	must(unix.Exec("/proc/self/exe", os.Args[:1], os.Environ()))
}

// terminating says whether a signal's default action ends a process.
func terminating(sig syscall.Signal) bool {
	switch sig {
	case unix.SIGCHLD, unix.SIGCONT, unix.SIGURG, unix.SIGWINCH,
		unix.SIGSTOP, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU:
		return false
	}
	return true
}

// TestDieOf pins how a process ends by DieOf: by that very signal, without a
// core file and without a word, whatever it did about the signal before; with
// the status that shells use where the signal ends nobody.
func TestDieOf(t *testing.T) {
	t.Chdir(t.TempDir())
	if status := ending(t, command("die", "control", int(unix.SIGQUIT))); !status.CoreDump() {
		t.Log("this machine writes no core files, so it says little that there is none")
	} else if left := leftovers(t); len(left) == 0 {
		t.Log("core files go elsewhere on this machine, so it says little that there is none")
	}
	for _, role := range []string{"die plain", "die caught", "shut"} {
		for sig := syscall.Signal(1); sig <= maxSignal; sig++ {
			var want string
			switch {
			case terminating(sig):
				want = fmt.Sprintf("signal %d", int(sig))
			case sig == unix.SIGCHLD, sig == unix.SIGCONT, sig == unix.SIGURG, sig == unix.SIGWINCH:
				want = fmt.Sprintf("exit %d", 128+int(sig))
			default:
				continue // stops, see TestStop
			}
			if role == "die caught" && !catchable(sig) {
				continue
			}
			if got := describe(ending(t, command(role, int(sig)))); got != want {
				t.Errorf("%s %d: %s, want %s", role, int(sig), got, want)
			}
			if left := leftovers(t); len(left) != 0 {
				t.Errorf("%s %d leaves %q", role, int(sig), left)
			}
		}
	}
}

// ending runs a program that is to print nothing and returns how it ended.
func ending(t *testing.T, cmd *exec.Cmd) unix.WaitStatus {
	t.Helper()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.Run()
	if cmd.ProcessState == nil {
		t.Fatalf("%v could not be started", cmd)
	}
	if out.Len() != 0 {
		t.Errorf("output:\n%s", out.String())
	}
	return unix.WaitStatus(cmd.ProcessState.Sys().(syscall.WaitStatus))
}

// leftovers lists the files in the working directory and removes them.
func leftovers(t *testing.T) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
		os.Remove(e.Name())
	}
	return names
}

// raise catches a signal, blocks it or not, raises it, and says what is so
// afterwards.
func raise(args string) {
	runtime.LockOSThread()
	how, arg, _ := strings.Cut(args, " ")
	sig := number(arg)
	must(Catch(sig))
	if how == "blocked" {
		set := setOf(sig)
		must(unix.PthreadSigmask(unix.SIG_BLOCK, &set, nil))
	}
	before := threadMask()
	must(raiseDefault(sig))
	var act sigaction
	must(rtSigaction(sig, nil, &act))
	fmt.Println("went on, handler", act.handler, "mask changed", before != threadMask(), "counted", take(sig))
}

func threadMask() unix.Sigset_t {
	var mask unix.Sigset_t
	must(unix.PthreadSigmask(unix.SIG_BLOCK, nil, &mask))
	return mask
}

// TestStop pins that RaiseDefault stops the process, and returns when it is
// continued.
func TestStop(t *testing.T) {
	for _, sig := range []syscall.Signal{unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU} {
		for _, how := range []string{"open", "blocked"} {
			p := start(t, "raise", how, int(sig))
			if got := p.stopped(t); got != sig {
				t.Errorf("stopped by %d, want %d", got, sig)
			}
			p.kill(t, unix.SIGCONT)
			if got, want := p.line(t), "went on, handler 0 mask changed false counted 0"; got != want {
				t.Errorf("%s %v: %q, want %q", how, sig, got, want)
			}
			if got := describe(p.silent(t)); got != "exit 0" {
				t.Errorf("%s %v: %s", how, sig, got)
			}
		}
	}
}

// mask holds BlockAll and Restore against the thread's mask.
func mask() {
	runtime.LockOSThread()
	start := setOf(unix.SIGUSR1)
	must(unix.PthreadSigmask(unix.SIG_SETMASK, &start, nil))
	old, err := BlockAll()
	must(err)
	all := threadMask()
	must(RestoreMask(old))
	fmt.Printf("%#x %#x %#x\n", old.Val[0], all.Val[0], threadMask().Val[0])
}

// TestMask pins that BlockAll blocks all that can be blocked, and that Restore
// brings back what was there.
func TestMask(t *testing.T) { says(t, "mask", "0x200 0xfffffffffffbfeff 0x200\n") }

// TestSetOf pins where a signal stands in a set.
func TestSetOf(t *testing.T) {
	for sig := syscall.Signal(1); sig <= maxSignal; sig++ {
		set := setOf(sig)
		if set.Val[0] != 1<<(sig-1) || set != (unix.Sigset_t{Val: [16]uint64{set.Val[0]}}) {
			t.Errorf("setOf(%d) = %#x", int(sig), set.Val)
		}
	}
}
