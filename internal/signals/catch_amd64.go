package signals

import (
	"math"
	"os"
	"slices"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sigaction is the kernel's struct sigaction of x86-64, not glibc's.
type sigaction struct {
	handler  uintptr
	flags    uint64
	restorer uintptr
	mask     uint64
}

const (
	saRestorer = 0x04000000
	saSiginfo  = 0x4
	saOnStack  = 0x08000000
	saRestart  = 0x10000000
)

// Written by the handler in catch_amd64.s, and by nobody else but take.
var (
	counts  [maxSignal + 1]uint32 // signals caught and not taken yet, by number
	arrival [maxSignal + 1]uint32 // the bell at the last one of each
	bell    uint32                // goes up with each; a futex
)

// Read by the handler.
var (
	self     uint32                 // our pid
	previous [maxSignal + 1]uintptr // the handlers before ours, for our own faults
)

func handlerAddr() uintptr
func restorerAddr() uintptr

// Catch counts sig from now on. Not counted are a fault of this process's own
// (SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP sent by the kernel) and the runtime's
// preemption requests (SIGURG sent by the process itself), which still go to the
// handler that was there before, and anything else that the process sends itself
// by kill or tgkill, such as a broken pipe of its own, which is dropped.
func Catch(sig syscall.Signal) error {
	atomic.StoreUint32(&self, uint32(os.Getpid()))
	act := sigaction{
		handler:  handlerAddr(),
		flags:    saSiginfo | saOnStack | saRestart | saRestorer,
		restorer: restorerAddr(),
		mask:     ^uint64(0),
	}
	var old sigaction
	if err := rtSigaction(sig, nil, &old); err != nil {
		return err
	}
	if old.handler != act.handler {
		// Before the handler is in place: it may run at once.
		atomic.StoreUintptr(&previous[sig], old.handler)
	}
	return rtSigaction(sig, &act, nil)
}

// pending returns the signals that have been caught and not taken, in the order
// of their arrival; of several of one kind the last one's counts.
func pending() []syscall.Signal {
	var pending []syscall.Signal
	for sig := range counts {
		if atomic.LoadUint32(&counts[sig]) > 0 {
			pending = append(pending, syscall.Signal(sig))
		}
	}
	slices.SortFunc(pending, func(a, b syscall.Signal) int {
		// By their difference, since the bell may go round.
		return int(int32(atomic.LoadUint32(&arrival[a]) - atomic.LoadUint32(&arrival[b])))
	})
	return pending
}

// take returns how often sig was caught since the last take.
func take(sig syscall.Signal) int {
	return int(atomic.SwapUint32(&counts[sig], 0))
}

// add counts sig as if it had been caught.
func add(sig syscall.Signal) {
	const futexWakePrivate = 129
	atomic.AddUint32(&counts[sig], 1)
	atomic.StoreUint32(&arrival[sig], atomic.AddUint32(&bell, 1)-1)
	unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(&bell)), futexWakePrivate, math.MaxInt32, 0, 0, 0)
}

// bellNow returns a number that changes with every signal caught. A caller that
// reads it, takes what there is, and then calls sleep with it misses none.
func bellNow() uint32 { return atomic.LoadUint32(&bell) }

// sleep returns when bellNow is no longer seen, at once where it is not now.
func sleep(seen uint32) {
	const futexWaitPrivate = 128
	for atomic.LoadUint32(&bell) == seen {
		_, _, errno := unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(&bell)), futexWaitPrivate, uintptr(seen), 0, 0, 0)
		if errno != 0 && errno != unix.EAGAIN && errno != unix.EINTR {
			return
		}
	}
}

// Default gives sig the kernel's default action.
func Default(sig syscall.Signal) error {
	return rtSigaction(sig, &sigaction{}, nil)
}

func rtSigaction(sig syscall.Signal, act, old *sigaction) error {
	_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig),
		uintptr(unsafe.Pointer(act)), uintptr(unsafe.Pointer(old)), 8, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
