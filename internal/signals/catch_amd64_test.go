package signals

import (
	"errors"
	"fmt"
	"os"
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

// reportRole catches all signals and reports which arrive, and how often.
func reportRole() {
	for sig := syscall.Signal(1); sig <= 64; sig++ {
		if err := Catch(sig); (err == nil) != slices.Contains(catchable, sig) {
			must(fmt.Errorf("Catch(%d): %v", sig, err))
		}
	}
	report := os.NewFile(reportFD, "report")
	fmt.Fprintln(report, "ready")
	watch(func() bool {
		for sig := syscall.Signal(1); sig <= 64; sig++ {
			if n := take(sig); n != 0 {
				fmt.Fprintln(report, int(sig), n)
			}
		}
		return false
	})
}

func startReport(t *testing.T) *program {
	t.Helper()
	p := start(t, "report")
	p.expect(t, p.report, "ready")
	return p
}

// TestEverySignal: each signal can be caught and is distinguished from others,
// including those that the Go runtime reserves (27, 32 to 34) or uses (23), and
// those of faults when another process sends them.
func TestEverySignal(t *testing.T) {
	p := startReport(t)
	for _, sig := range catchable {
		p.kill(t, sig)
		p.getsOne(t, sig)
	}
}

// TestQueued: queued signals are counted one by one.
func TestQueued(t *testing.T) {
	p := startReport(t)
	want := map[syscall.Signal]int{
		unix.SIGUSR1: 1, // of several only one is pending
		32:           50, 33: 60, 34: 70, 40: 300, 63: 400,
	}
	p.kill(t, unix.SIGSTOP)
	p.changes(t, "stopped by 19")
	total := 0
	for sig, n := range want {
		total += n
		for range n {
			p.kill(t, sig)
		}
	}
	p.kill(t, unix.SIGUSR1)
	p.kill(t, unix.SIGCONT)
	want[unix.SIGCONT] = 1
	total++

	got := make(map[syscall.Signal]int)
	for total > 0 {
		sig, n := p.gets(t)
		got[sig] += n
		total -= n
	}
	// One more of another kind: those before it that are too many have arrived.
	p.kill(t, unix.SIGUSR2)
	p.collect(t, got, unix.SIGUSR2)
	want[unix.SIGUSR2] = 1
	for sig := syscall.Signal(1); sig <= 64; sig++ {
		if got[sig] != want[sig] {
			t.Errorf("signal %d: counted %d, sent %d", int(sig), got[sig], want[sig])
		}
	}
}

// queueHere sends the calling thread a signal with a given si_code and si_pid. The
// handler has run when it returns.
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

// countersRole compares take, add, pending, arrivals and sleep with the signals that
// it sends itself, and prints what is wrong.
func countersRole() {
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
		{"add", func() error { add(sig); return nil }, 1},
		{"three", func() error {
			add(sig)
			return errors.Join(queueHere(sig, siUser, other), queueHere(sig, siUser, other))
		}, 3},
	} {
		before := atomic.LoadUint32(&arrivals)
		must(c.send())
		if c.what == "kill by ourselves" {
			// It may have gone to any thread. That thread has handled it when the
			// next signal that is counted has been handled.
			must(queueHere(sig, siUser, other))
			before++
			take(sig)
		}
		if n := atomic.LoadUint32(&arrivals) - before; n != uint32(c.count) {
			fmt.Printf("%s: arrivals moved by %d, want %d\n", c.what, n, c.count)
		}
		if n := take(sig); n != c.count {
			fmt.Printf("%s: counted %d, want %d\n", c.what, n, c.count)
		}
		if n := take(sig) + take(sig-1) + take(sig+1); n != 0 {
			fmt.Printf("%s: %d more", c.what, n)
		}
	}

	// pending is ordered by the last arrival of each.
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
		fmt.Println("pending after take", got)
	}

	// To catch a signal twice has no effect.
	must(Catch(sig))
	must(queueHere(sig, siUser, other))
	if n := take(sig); n != 1 {
		fmt.Printf("caught twice: counted %d\n", n)
	}

	// sleep returns if a signal arrived before it.
	seen := atomic.LoadUint32(&arrivals)
	must(queueHere(sig, siUser, other))
	sleep(seen)

	// All threads in sleep are woken by a signal, and by add.
	for _, wake := range []func(){
		func() { must(queueHere(sig, siUser, other)) },
		func() { add(sig) },
	} {
		const sleepers = 3
		seen, woken := atomic.LoadUint32(&arrivals), make(chan bool, sleepers)
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
		must(queueHere(sig, siUser, self)) // not counted
		if len(woken) != 0 {
			fmt.Println("sleep returned by itself")
		}
		wake()
		deadline := time.After(patience / 2)
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

// waitAsleep waits until a thread is in sleep.
func waitAsleep(tid int) {
	for {
		// Begins with the number of the system call that the thread is in.
		call, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/syscall", tid))
		if err != nil {
			return // not permitted; then this does not test waking
		}
		if strings.HasPrefix(string(call), fmt.Sprintf("%d 0x%x ", unix.SYS_FUTEX, uintptr(unsafe.Pointer(&arrivals)))) {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

func TestCounters(t *testing.T) { start(t, "counters").ends(t, "", "exit 0") }

// preemptRole makes the runtime preempt goroutines that do not yield, and prints how
// many SIGURG are counted meanwhile, and for one of another process.
func preemptRole() {
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
		runtime.GC() // without preemption it would wait for ever
	}
	stop.Store(true)
	workers.Wait()
	own := take(unix.SIGURG)
	runtime.LockOSThread()
	must(queueHere(unix.SIGURG, siUser, 1)) // as if sent by process 1
	fmt.Println(own, take(unix.SIGURG))
}

// TestPreemption: the runtime's preemption requests still reach it, and are not
// counted.
func TestPreemption(t *testing.T) { start(t, "preempt").ends(t, "0 1\n", "exit 0") }

// faultsRole causes faults while their signals are caught.
func faultsRole() {
	for _, sig := range []syscall.Signal{unix.SIGSEGV, unix.SIGBUS, unix.SIGFPE, unix.SIGILL, unix.SIGTRAP} {
		must(Catch(sig))
		must(Catch(sig)) // must not take itself for the previous handler
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
	must(queueHere(unix.SIGSEGV, siUser, 1)) // as if sent by process 1
	must(queueHere(unix.SIGBUS, siTkill, 1))
	fmt.Println(take(unix.SIGSEGV), take(unix.SIGBUS))
}

func recovered(f func()) (err runtime.Error) {
	defer func() { err, _ = recover().(runtime.Error) }()
	f()
	return nil
}

// TestFaults: a fault of the program itself remains a Go panic.
func TestFaults(t *testing.T) { start(t, "faults").ends(t, "0 0\n1 1\n", "exit 0") }
