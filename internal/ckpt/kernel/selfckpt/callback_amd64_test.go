package selfckpt_test

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt/kernel/abi"
	"blcr-cli/internal/ckpt/kernel/selfckpt"
)

func init() {
	if os.Getenv(roleEnv) == "policies" {
		runtime.LockOSThread()
	}
}

// opMark is no operation of the module's. A program issues it to mark a point in
// the sequence of its calls.
const opMark = abi.IocType<<8 | 0xff

// policyCase is a request to the callback thread.
type policyCase struct {
	policy    selfckpt.Policy
	requester string // "self", "other"
	target    string
	unknown   bool // HAND_CHKPT_INFO fails
	orphan    bool
	job       int
	held      bool // until the request has been seen
	want      string
}

const (
	always = selfckpt.OmitAlways
	maybe  = selfckpt.OmitMaybe
	never  = selfckpt.OmitNever
)

// policyCases are all cases; CHKPT_FWD takes the process's own pid and the tree.
var policyCases = []policyCase{
	{policy: selfckpt.CheckpointPolicy, requester: "self", target: "other", want: "info omit"},
	{policy: selfckpt.CheckpointPolicy, requester: "self", target: "self", want: "info omit"},
	{policy: selfckpt.CheckpointPolicy, requester: "other", target: "self", want: "info save"},
	{policy: selfckpt.CheckpointPolicy, requester: "other", target: "other", orphan: true, want: "info save"},
	{policy: selfckpt.CheckpointPolicy, requester: "other", target: "other", held: true, want: "info released save"},
	{policy: selfckpt.CheckpointPolicy, requester: "other", unknown: true, want: "info omit"},

	{policy: maybe, requester: "other", target: "other", want: "info save"},
	{policy: always, requester: "other", target: "other", want: "info save"},
	{policy: never, requester: "other", target: "self", want: "info save"},
	{policy: maybe, requester: "other", target: "self", orphan: true, want: "info save"},

	{policy: maybe, requester: "other", target: "other", job: 77, want: "info forward parent save"},
	{policy: maybe, requester: "other", target: "self", job: 77, want: "info forward omit"},
	{policy: maybe, requester: "self", target: "self", job: 77, want: "info forward omit"},
	{policy: maybe, requester: "other", target: "other", orphan: true, job: 77, want: "info forward parent omit"},
	{policy: maybe, requester: "other", unknown: true, target: "self", job: 77, want: "info forward parent save"},
	{policy: maybe, requester: "other", unknown: true, orphan: true, job: 77, want: "info forward parent omit"},
	{policy: always, requester: "other", target: "other", job: 77, want: "info forward omit"},
	{policy: always, requester: "other", unknown: true, job: 77, want: "info forward omit"},
	{policy: never, requester: "other", target: "self", orphan: true, job: 77, want: "info forward save"},

	{policy: maybe, requester: "other", target: "other", job: 77, held: true, want: "info released forward parent save"},
	{policy: maybe, requester: "other", target: "self", job: 77, held: true, want: "info released forward omit"},
	{policy: always, requester: "other", target: "other", job: 77, held: true, want: "info released forward omit"},
	{policy: never, requester: "other", target: "other", job: 77, held: true, want: "info released forward save"},
	{policy: maybe, requester: "other", target: "other", held: true, want: "info released save"},
}

// firstFD is the descriptor of the first case, and so on.
const firstFD = 1000

// policies runs through the cases without a callback thread: this thread's handler
// gets the callback thread's stack.
func policies() {
	trapSelf()
	stack := struct {
		sp    *byte
		flags int32
		size  uintptr
	}{sp: &selfckpt.Stack()[0], size: uintptr(len(selfckpt.Stack()))}
	if _, _, errno := unix.RawSyscall(unix.SYS_SIGALTSTACK, uintptr(unsafe.Pointer(&stack)), 0, 0); errno != 0 {
		panic(errno)
	}
	go func() {
		// The test has seen a request that has to be held.
		for b := make([]byte, 1); ; {
			if n, err := unix.Read(trapFD, b); n != 1 || err != nil {
				return
			}
			unix.Poll(nil, 10)
			unix.Syscall(unix.SYS_IOCTL, 0, opMark, 0)
			selfckpt.Release()
		}
	}()
	for i, c := range policyCases {
		selfckpt.Set(c.policy, c.held, c.job)
		if err := queueHere(siKernel, int32(firstFD+i)); err != nil {
			panic(err)
		}
	}
	// And a request that is held for longer than the limit.
	selfckpt.SetLimit(0, 20e6)
	selfckpt.Set(selfckpt.CheckpointPolicy, true, 0)
	if err := queueHere(siKernel, int32(firstFD+len(policyCases))); err != nil {
		panic(err)
	}
}

// poke writes into a thread's memory.
func poke(tid uint32, addr uint64, b []byte) error {
	mem, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", tid), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer mem.Close()
	_, err = mem.WriteAt(b, int64(addr))
	return err
}

// bytesOf is a structure as it is in memory.
func bytesOf[T any](v *T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(v)), unsafe.Sizeof(*v))
}

// peek fills a structure from a thread's memory.
func peek[T any](tid uint32, addr uint64, v *T) error {
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", tid))
	if err != nil {
		return err
	}
	defer mem.Close()
	_, err = mem.ReadAt(bytesOf(v), int64(addr))
	return err
}

// TestPolicies pins the callback thread's calls and its answer, in order, for each
// policy.
func TestPolicies(t *testing.T) {
	cases := append(slices.Clone(policyCases), policyCase{
		policy: selfckpt.CheckpointPolicy, requester: "other", target: "other", want: "info omit",
	})
	got := make([]string, len(cases))
	current := 0
	runTrapped(t, "policies", func(n notification, wake func()) int64 {
		self := int32(n.pid) // the main thread's
		if n.nr == unix.SYS_GETPPID {
			got[current] += "parent "
			if cases[current].orphan {
				return 1
			}
			return 2
		}
		if n.args[1] != opMark {
			current = int(n.args[0]) - firstFD
			if current < 0 || current >= len(cases) {
				t.Errorf("ioctl on %d", n.args[0])
				current = 0
				return 0
			}
		}
		c := cases[current]
		switch n.args[1] {
		case opMark:
			got[current] += "released "
		case uint64(abi.OpHandChkptInfo):
			got[current] += "info "
			if c.held {
				wake()
			}
			var info abi.ChkptInfo
			if err := peek(n.pid, n.args[2], &info); err != nil {
				t.Error(err)
			}
			// The module writes up to PATH_MAX bytes there.
			if err := poke(n.pid, uint64(uintptr(unsafe.Pointer(info.Dest))), []byte(strings.Repeat("x", unix.PathMax))); err != nil {
				t.Error(err)
			}
			pids := map[string]int32{"self": self, "other": self + 1}
			info.Requester, info.Target, info.Scope = pids[c.requester], pids[c.target], abi.ScopeTree
			if c.unknown {
				return -int64(unix.EBADF)
			}
			if err := poke(n.pid, n.args[2], bytesOf(&info)); err != nil {
				t.Error(err)
			}
		case uint64(abi.OpChkptFwd):
			got[current] += "forward "
			var fwd abi.FwdArgs
			if err := peek(n.pid, n.args[2], &fwd); err != nil {
				t.Error(err)
			}
			if fwd.Target != self || fwd.Scope != abi.ScopeTree {
				t.Errorf("forwarded to %+v, we are %d", fwd, self)
			}
			return -int64(unix.ESRCH)
		case uint64(abi.OpHandAbort):
			got[current] += "omit"
			if n.args[2] != abi.CheckpointOmit {
				t.Errorf("HAND_ABORT %#x", n.args[2])
			}
			return -2358 // CR_EOMITTED
		case uint64(abi.OpHandChkpt):
			got[current] += "save"
			if n.args[2] != abi.CheckpointStub {
				t.Errorf("HAND_CHKPT %#x", n.args[2])
			}
			return 1 // restarted
		default:
			t.Errorf("ioctl %#x", n.args[1])
		}
		return 0
	})
	for i, c := range cases {
		if got[i] != c.want {
			t.Errorf("%+v: got %q", c, got[i])
		}
	}
}

// blocked is the signal mask of a thread, as the kernel shows it.
func blocked(tid int) string {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/status", tid))
	_, mask, _ := strings.Cut(string(status), "SigBlk:\t")
	mask, _, _ = strings.Cut(mask, "\n")
	return mask
}

// waitState waits until the callback thread's state is no longer state, and
// returns it.
func waitState(state uint32) uint32 {
	for *selfckpt.State() == state {
		unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(selfckpt.State())), 128, uintptr(state), 0, 0, 0)
	}
	return *selfckpt.State()
}

const callbackFD = 77

// callbackThread starts the callback thread and prints its states.
func callbackThread() {
	trapSelf()
	runtime.LockOSThread()
	before := blocked(unix.Gettid())
	selfckpt.SaveAsIs()
	if errno := selfckpt.StartCallbackThread(callbackFD, maybe); errno != 0 {
		panic(errno)
	}
	state := waitState(selfckpt.Starting)
	fmt.Println(state == selfckpt.Registered, blocked(unix.Gettid()) == before)
	selfckpt.Hold()
	fmt.Println(selfckpt.Answer())
	selfckpt.Release()
	fmt.Println(selfckpt.Answer())
	unix.Syscall(unix.SYS_IOCTL, 0, opMark, 0)
	state = waitState(selfckpt.Registered)
	fmt.Println(state == selfckpt.Ended, selfckpt.Answer())
	selfckpt.Hold()
	selfckpt.Release()
	fmt.Println(selfckpt.Answer())
}

// TestCallbackThread pins how the callback thread registers and waits, and that
// after the module has dismissed it the answer is "omit me".
func TestCallbackThread(t *testing.T) {
	var got []string
	answers := map[uint64][]int64{
		uint64(abi.OpHandPhase1): {-int64(unix.EAGAIN), -int64(unix.EAGAIN), 0},
		uint64(abi.OpHandSusp):   {0, -int64(unix.EINTR), 0},
	}
	marked := false
	names := map[uint64]string{uint64(abi.OpHandPhase1): "phase1", uint64(abi.OpHandSusp): "susp"}
	tids := map[uint32]bool{}
	out := runTrapped(t, "callback thread", func(n notification, _ func()) int64 {
		op := n.args[1]
		if op == opMark {
			marked = true
			return 0
		}
		got = append(got, fmt.Sprintf("%s %d %d", names[op], n.args[0], n.args[2]))
		tids[n.pid] = true
		status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.pid))
		if !strings.Contains(string(status), "SigBlk:\tfffffffffffbfeff\n") {
			t.Errorf("the callback thread blocks other signals:\n%s", status)
		}
		switch {
		case len(answers[op]) > 0:
		case op == uint64(abi.OpHandSusp) && !marked:
			return -int64(unix.EINTR)
		case op == uint64(abi.OpHandSusp):
			return -int64(unix.EINVAL)
		default:
			t.Errorf("one more %s", names[op])
			return -int64(unix.EIO)
		}
		result := answers[op][0]
		answers[op] = answers[op][1:]
		return result
	})
	got = slices.Compact(got)
	want := []string{"phase1 77 77", "susp 77 0"}
	if !slices.Equal(got, want) || len(tids) != 1 {
		t.Errorf("calls %q of %d threads, want %q of one", got, len(tids), want)
	}
	if want := "true true\n0\n2\ntrue 0\n0\n"; out != want {
		t.Errorf("output:\n%swant:\n%s", out, want)
	}
}

// collect collects garbage while the callback thread is in the module.
func collect() {
	trapSelf()
	runtime.GOMAXPROCS(1)
	if errno := selfckpt.StartCallbackThread(callbackFD, maybe); errno != 0 {
		panic(errno)
	}
	waitState(selfckpt.Starting)
	for range 100 {
		runtime.GC()
	}
	fmt.Println(work(1))
}

// TestCollect pins that nothing in the Go runtime waits for a callback thread that
// does not run.
func TestCollect(t *testing.T) {
	out := runTrapped(t, "collect", func(n notification, _ func()) int64 {
		if n.args[1] == uint64(abi.OpHandSusp) {
			return noAnswer
		}
		return 0
	})
	if want := work(1) + "\n"; out != want {
		t.Errorf("output %q, want %q", out, want)
	}
}
