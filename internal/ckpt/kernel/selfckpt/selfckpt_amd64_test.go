package selfckpt_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	_ "embed"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt/kernel/abi"
	"blcr-cli/internal/ckpt/kernel/selfckpt"
)

//go:embed selfckpt_amd64.s
var assembly string

// atInit is what was in place for signal 64 when this package was initialised,
// which is before main and before any other goroutine.
var atInit = disposition()

// disposition describes what this process does about signal 64.
func disposition() string {
	var act struct {
		handler, flags, restorer uintptr
		mask                     uint64
	}
	_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, 64, 0, uintptr(unsafe.Pointer(&act)), 8, 0, 0)
	if errno != 0 {
		return errno.Error()
	}
	name := "none"
	if f := runtime.FuncForPC(act.handler); f != nil {
		name = f.Name()
	}
	return fmt.Sprintf("%s flags %#x mask %#x caught %v", name, act.flags, act.mask, caught())
}

// caught says whether the kernel lists signal 64 as caught (SigCgt).
func caught() bool {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return false
	}
	m := regexp.MustCompile(`(?m)^SigCgt:\s+([0-9a-f]{16})$`).FindSubmatch(status)
	if m == nil {
		return false
	}
	set, err := strconv.ParseUint(string(m[1]), 16, 64)
	return err == nil && set&(1<<63) != 0
}

// The kernel takes KILL and STOP out of every mask.
const installed = "blcr-cli/internal/ckpt/kernel/selfckpt.handler flags 0x1c000004 mask 0xfffffffffffbfeff caught true"

// TestFirst pins that no goroutine of the program runs before the handler is
// in place.
func TestFirst(t *testing.T) {
	out, err := asRole("first").Output()
	if err != nil {
		t.Fatal(err)
	}
	if string(out) != installed {
		t.Errorf("when packages are initialised:\n%s\nwant:\n%s", out, installed)
	}
	if got := disposition(); got != installed {
		t.Errorf("later:\n%s\nwant:\n%s", got, installed)
	}
	if selfckpt.Errno != 0 {
		t.Errorf("Errno = %d", selfckpt.Errno)
	}
}

// TestInitOrder pins that the runtime initialises this package before every
// package but its own.
func TestInitOrder(t *testing.T) {
	cmd := asRole("nothing")
	cmd.Env = append(cmd.Env, "GODEBUG=inittrace=1")
	var trace bytes.Buffer
	cmd.Stderr = &trace
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	var before []string
	for sc := bufio.NewScanner(&trace); sc.Scan(); {
		pkg, ok := strings.CutPrefix(sc.Text(), "init ")
		if !ok {
			continue
		}
		pkg, _, _ = strings.Cut(pkg, " ")
		switch {
		case pkg == "blcr-cli/internal/ckpt/kernel/selfckpt":
			if len(before) != 0 {
				t.Errorf("initialised before it: %q", before)
			}
			return
		case pkg == "runtime", strings.HasPrefix(pkg, "internal/"):
			// The runtime and what it is made of.
		default:
			before = append(before, pkg)
		}
	}
	t.Error("the package is not in the trace")
}

// TestKept pins that the Go runtime cannot change the disposition, whatever the
// program asks it for. If it fails with a new Go release, see selfckpt_install.
func TestKept(t *testing.T) {
	if out, err := asRole("kept").Output(); err != nil || string(out) != "" {
		t.Errorf("%v, output:\n%s", err, out)
	}
}

// kept prints the disposition where it has changed.
func kept() {
	c := make(chan os.Signal, 1)
	for name, change := range map[string]func(){
		"Notify":         func() { signal.Notify(c, syscall.Signal(64)) },
		"Stop":           func() { signal.Stop(c) },
		"Ignore":         func() { signal.Ignore(syscall.Signal(64)) },
		"Reset":          func() { signal.Reset(syscall.Signal(64)) },
		"Notify for all": func() { signal.Notify(c) },
		"Reset for all":  func() { signal.Reset() },
	} {
		change()
		if got := disposition(); got != installed {
			fmt.Printf("after %s:\n%s\n", name, got)
		}
	}
}

// TestConstants holds the numbers in the assembly, which can import nothing,
// against those of package abi and the system's.
func TestConstants(t *testing.T) {
	var info abi.ChkptInfo
	var fwd abi.FwdArgs
	want := map[string]uint64{
		"CR_OP_HAND_CHKPT":      uint64(abi.OpHandChkpt),
		"CR_OP_HAND_ABORT":      uint64(abi.OpHandAbort),
		"CR_OP_HAND_PHASE1":     uint64(abi.OpHandPhase1),
		"CR_OP_HAND_SUSP":       uint64(abi.OpHandSusp),
		"CR_OP_HAND_CHKPT_INFO": uint64(abi.OpHandChkptInfo),
		"CR_OP_CHKPT_FWD":       uint64(abi.OpChkptFwd),
		"CR_CHECKPOINT_OMIT":    abi.CheckpointOmit,
		"CR_CHECKPOINT_STUB":    abi.CheckpointStub,
		"CR_SCOPE_TREE":         abi.ScopeTree,
		"CR_SIGNUM":             abi.Sig,
		"SI_KERNEL":             abi.SigCode,

		"INFO_REQUESTER": uint64(unsafe.Offsetof(info.Requester)),
		"INFO_TARGET":    uint64(unsafe.Offsetof(info.Target)),
		"INFO_SIGNAL":    uint64(unsafe.Offsetof(info.Signal)),
		"INFO_DEST":      uint64(unsafe.Offsetof(info.Dest)),
		"INFO_SIZE":      uint64(abi.SizeofChkptInfo),
		"FWD_TARGET":     uint64(unsafe.Offsetof(fwd.Target)),
		"FWD_SCOPE":      uint64(unsafe.Offsetof(fwd.Scope)),
		"FWD_SIZE":       uint64(abi.SizeofFwdArgs),
		"PATH_MAX":       unix.PathMax,

		"SYS_rt_sigaction":   unix.SYS_RT_SIGACTION,
		"SYS_rt_sigprocmask": unix.SYS_RT_SIGPROCMASK,
		"SYS_rt_sigreturn":   unix.SYS_RT_SIGRETURN,
		"SYS_rt_sigpending":  unix.SYS_RT_SIGPENDING,
		"SYS_ioctl":          unix.SYS_IOCTL,
		"SYS_getpid":         unix.SYS_GETPID,
		"SYS_clone":          unix.SYS_CLONE,
		"SYS_exit":           unix.SYS_EXIT,
		"SYS_getppid":        unix.SYS_GETPPID,
		"SYS_futex":          unix.SYS_FUTEX,
		"EINTR":              uint64(unix.EINTR),
		"EAGAIN":             uint64(unix.EAGAIN),
		"EINVAL":             uint64(unix.EINVAL),
		"ETIMEDOUT":          uint64(unix.ETIMEDOUT),
		"SIG_SETMASK":        unix.SIG_SETMASK,
		// <linux/futex.h>
		"FUTEX_WAIT_PRIVATE": 0 | 128,
		"FUTEX_WAKE_PRIVATE": 1 | 128,
		// SA_SIGINFO|SA_RESTORER|SA_ONSTACK|SA_RESTART of <asm/signal.h>
		"SA_FLAGS":    0x4 | 0x04000000 | 0x08000000 | 0x10000000,
		"CLONE_FLAGS": unix.CLONE_VM | unix.CLONE_FS | unix.CLONE_FILES | unix.CLONE_SIGHAND | unix.CLONE_THREAD | unix.CLONE_SYSVSEM,

		"SAVE_DEFAULTS":      selfckpt.SaveDefaults,
		"SAVE_AS_IS":         selfckpt.SaveUnchanged,
		"POLICY_CHECKPOINT":  uint64(selfckpt.CheckpointPolicy),
		"POLICY_OMIT_ALWAYS": uint64(selfckpt.OmitAlways),
		"POLICY_OMIT_NEVER":  uint64(selfckpt.OmitNever),
		"STATE_REGISTERED":   selfckpt.Registered,
		"STATE_ENDED":        selfckpt.Ended,
		"STACK_SIZE":         uint64(len(selfckpt.Stack())),
		"CHILD_STACK_SIZE":   selfckpt.ChildStackSize,
		// <asm/ucontext.h>, <asm/sigcontext.h>: flags, link, stack_t, then r8 to r15,
		// rdi, rsi, rbp, rbx, rdx, rax, rcx.
		"UCONTEXT_RSP": 8 + 8 + 24 + 8*8 + 7*8,
	}
	for _, m := range regexp.MustCompile(`(?m)^#define\s+(\w+)\s+(\w+)`).FindAllStringSubmatch(assembly, -1) {
		name := m[1]
		got, err := strconv.ParseUint(m[2], 0, 64)
		if w, ok := want[name]; err != nil || !ok || got != w {
			t.Errorf("#define %s %s, want %#x", name, m[2], w)
		}
		delete(want, name)
	}
	for name := range want {
		t.Errorf("no #define of %s", name)
	}
}

// call is an ioctl that the handler issued.
type call struct {
	tid         int
	fd, op, arg uint64
}

// requests sends itself signal 64 in many ways.
func requests() {
	trapSelf()
	runtime.LockOSThread()
	tid, pid := unix.Gettid(), unix.Getpid()
	for i, send := range []func() error{
		func() error { return unix.Tgkill(pid, tid, 64) },
		func() error { return unix.Kill(pid, 64) },
		func() error { return queueHere(siQueue, 98) },
		func() error { return queueHere(siUser, 99) },
		func() error { return queueHere(siKernel, 100) },
		func() error { return queueHere(siKernel, 0) },
		func() error { return queueHere(siKernel+1, 101) },
		func() error { return queueHere(siKernel, 1<<30) },
		func() error { return queueHere(siKernel, int32(pid)) },
		func() error { return queueHere(siQueue, 102) },
		func() error { selfckpt.Save(); return queueHere(siKernel, 200) },
		func() error { return unix.Tgkill(pid, tid, 64) },
		func() error { return queueHere(siKernel, 201) },
		func() error { selfckpt.SaveAsIs(); return queueHere(siKernel, 300) },
		func() error { selfckpt.Hold(); return queueHere(siKernel, 301) },
		// Without a callback thread the answer stays "omit me".
		func() error { selfckpt.Release(); return queueHere(siKernel, 302) },
		func() error { selfckpt.SaveAsIs(); selfckpt.Omit(); return queueHere(siKernel, 303) },
	} {
		if err := send(); err != nil {
			fmt.Println(i, err)
			os.Exit(1)
		}
	}
	fmt.Println(tid, pid)
}

// TestRequest pins what the handler answers, and to which signals. The module's
// request gets an ioctl on the descriptor in si_pid, whatever its number, from the
// thread that was signalled: "omit me", or after Save "save me". A signal 64 from
// elsewhere is dropped.
func TestRequest(t *testing.T) {
	var got []call
	out := runTrapped(t, "requests", func(n notification, _ func()) int64 {
		if n.args[1] == uint64(abi.OpHandChkptInfo) {
			return 0 // see TestSaved
		}
		got = append(got, call{int(n.pid), n.args[0], n.args[1], n.args[2]})
		return 0
	})
	var tid, pid int
	if _, err := fmt.Sscan(out, &tid, &pid); err != nil {
		t.Fatalf("%v in %q", err, out)
	}
	const handChkpt, handAbort, save, omit = 0x4008a101, 0x4008a102, 0x4000, 4
	want := []call{
		{tid, 100, handAbort, omit},
		{tid, 0, handAbort, omit},
		{tid, 1 << 30, handAbort, omit},
		{tid, uint64(pid), handAbort, omit},
		{tid, 200, handChkpt, save},
		{tid, 201, handChkpt, save},
		{tid, 300, handChkpt, save},
		{tid, 301, handAbort, omit},
		{tid, 302, handAbort, omit},
		{tid, 303, handAbort, omit},
	}
	if !slices.Equal(got, want) {
		t.Errorf("ioctls %+v, want %+v", got, want)
	}
}

// saved answers "save me", with SaveAsIs and with Save, and prints which signals it
// catches and ignores.
func saved() {
	trapSelf()
	runtime.LockOSThread()
	signal.Ignore(unix.SIGHUP)
	for _, save := range []func(){selfckpt.SaveAsIs, selfckpt.Save, selfckpt.Save} {
		save()
		if err := queueHere(siKernel, 100); err != nil {
			panic(err)
		}
		dispositions()
	}
}

// dispositions prints which of the signals 1, 15 and 64 are caught and ignored.
func dispositions() {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		panic(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^Sig(?:Cgt|Ign):\s+(.*)$`).FindAllSubmatch(status, -1) {
		set, err := strconv.ParseUint(string(m[1]), 16, 64)
		if err != nil {
			panic(err)
		}
		// Others may be ignored because the caller ignores them.
		fmt.Printf("%#x\n", set&(1<<63|1<<14|1))
	}
}

// TestSaved pins that a saved process keeps its handlers unless it has called Save:
// then every signal but 64 has its default action in the restored copy, and in the
// original that has been sent the request's signal. Ignored signals stay ignored.
func TestSaved(t *testing.T) {
	const (
		kept  = "0x1\n0x8000000000004000\n"
		plain = "0x1\n0x8000000000000000\n"
	)
	for _, c := range []struct {
		name   string
		result int64          // of the last HAND_CHKPT
		signal syscall.Signal // of the last request
		sent   bool           // it arrives meanwhile
		want   string
	}{
		{"goes on", 0, 0, false, kept},
		{"goes on, signal for others", 0, unix.SIGWINCH, false, kept},
		{"goes on, signalled", 0, unix.SIGWINCH, true, plain},
		{"goes on, other signal", 0, unix.SIGURG, true, kept},
		{"restarted", 1, 0, false, plain},
	} {
		saves := 0
		out := runTrapped(t, "saved", func(n notification, _ func()) int64 {
			switch n.args[1] {
			case uint64(abi.OpHandChkptInfo):
				var info abi.ChkptInfo
				if saves == 2 {
					info.Signal = int32(c.signal)
					if err := poke(n.pid, n.args[2], bytesOf(&info)[:unsafe.Offsetof(info.Dest)]); err != nil {
						t.Error(err)
					}
				}
			case uint64(abi.OpHandChkpt):
				if saves++; saves < 3 {
					return 0
				}
				if c.sent {
					// Whatever is not blocked is delivered to other threads.
					unix.Tgkill(int(n.pid), int(n.pid), unix.SIGWINCH)
				}
				return c.result
			}
			return 0
		})
		if want := kept + kept + c.want; out != want {
			t.Errorf("%s: signals:\n%swant:\n%s", c.name, out, want)
		}
	}
}

// work is what the busy program computes: allocations, goroutine switches,
// vector registers, maps.
func work(seed byte) string {
	const rounds = 300
	sum := sha256.Sum256([]byte{seed})
	ch := make(chan [32]byte)
	go func() {
		defer close(ch)
		for range rounds {
			sum = sha256.Sum256(append(make([]byte, 4096), sum[:]...))
			ch <- sum
		}
	}()
	seen := make(map[[32]byte]int)
	x := 1.0
	for s := range ch {
		seen[s]++
		x = x*1.0000001 + float64(s[0])
	}
	return fmt.Sprintf("%x %d %v", sum, len(seen), x)
}

const (
	busyWorkers = 4
	busySignals = 2000
	busyFD      = 77
)

// busy does the work of several goroutines while signals arrive in all of its
// threads, and prints the results.
func busy() {
	trapSelf()
	results := make([]string, busyWorkers)
	var workers sync.WaitGroup
	for i := range results {
		workers.Go(func() { results[i] = work(byte(i)) })
	}
	workers.Go(func() {
		// Blocked here, a signal hits one of the other threads. For good: the
		// thread ends with the goroutine.
		runtime.LockOSThread()
		var set unix.Sigset_t
		set.Val[0] = 1 << 63
		if err := unix.PthreadSigmask(unix.SIG_BLOCK, &set, nil); err != nil {
			panic(err)
		}
		for i := range busySignals {
			err := queue(siKernel, busyFD)
			for err == unix.EAGAIN { // more than the system queues
				runtime.Gosched()
				err = queue(siKernel, busyFD)
			}
			if err != nil {
				panic(err)
			}
			if i%100 == 0 {
				runtime.GC()
			}
		}
	})
	workers.Wait()
	// The parent writes when it has seen all of them.
	if n, err := unix.Read(trapFD, make([]byte, 1)); n != 1 {
		panic(err)
	}
	fmt.Println(strings.Join(results, "\n"))
}

// TestBusy pins that requests at any moment disturb neither the program nor the
// answers.
func TestBusy(t *testing.T) {
	answered := 0
	byThread := make(map[uint32]int)
	out := runTrapped(t, "busy", func(n notification, wake func()) int64 {
		if n.args[0] != busyFD || n.args[1] != uint64(abi.OpHandAbort) || n.args[2] != abi.CheckpointOmit {
			t.Errorf("ioctl(%d, %#x, %#x)", n.args[0], n.args[1], n.args[2])
		}
		byThread[n.pid]++
		if answered++; answered == busySignals {
			wake()
		}
		return 0
	})
	var want strings.Builder
	for i := range busyWorkers {
		fmt.Fprintln(&want, work(byte(i)))
	}
	if out != want.String() {
		t.Errorf("results:\n%s\nwant:\n%s", out, want.String())
	}
	if answered != busySignals {
		t.Errorf("%d answers to %d requests", answered, busySignals)
	}
	if len(byThread) < 2 {
		t.Errorf("only %d thread was signalled", len(byThread))
	}
}
