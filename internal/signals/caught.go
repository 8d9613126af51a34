package signals

import (
	"math"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/proc"
)

// What has been caught. On amd64 the handler in catch_amd64.s writes these, too.
var (
	counts   [maxSignal + 1]uint32 // signals caught and not taken yet, by number
	latest   [maxSignal + 1]uint32 // the value of arrivals before the last signal of each
	arrivals uint32                // signals caught so far, modulo 2^32; a futex
)

// add counts sig as if it had been caught.
func add(sig syscall.Signal) {
	const futexWakePrivate = 129
	atomic.AddUint32(&counts[sig], 1)
	atomic.StoreUint32(&latest[sig], atomic.AddUint32(&arrivals, 1)-1)
	unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(&arrivals)), futexWakePrivate, math.MaxInt32, 0, 0, 0)
}

// CaughtBy returns the signals, bit N-1 for signal N, that another process has caught and
// not taken yet: it has been frozen in between. The process must run this very program,
// whose variables are at the same addresses in all processes. It returns none where this
// process may not read the other one's memory.
func CaughtBy(pid int) (set uint64) {
	var theirs [maxSignal + 1]uint32
	if !read(pid, uintptr(unsafe.Pointer(&counts)), &theirs) {
		return 0
	}
	for sig, n := range theirs {
		if sig > 0 && n > 0 {
			set |= 1 << (sig - 1)
		}
	}
	return set | handledBy(pid)
}

// read reads a variable of another process at an address, without following pointers in it.
func read[T any](pid int, address uintptr, to *T) bool {
	return proc.ReadMemory(pid, address, unsafe.Slice((*byte)(unsafe.Pointer(to)), unsafe.Sizeof(*to)))
}

// take returns how often sig was caught since the last take.
func take(sig syscall.Signal) int {
	return int(atomic.SwapUint32(&counts[sig], 0))
}

// pending returns the signals that have been caught and not taken, in the order
// of their arrival. For a signal that came several times the last arrival counts.
func pending() []syscall.Signal {
	caught := all(func(sig syscall.Signal) bool { return atomic.LoadUint32(&counts[sig]) > 0 })
	later := func(a, b syscall.Signal) bool {
		// By their difference, since arrivals may overflow.
		return int32(atomic.LoadUint32(&latest[a])-atomic.LoadUint32(&latest[b])) > 0
	}
	for i := range caught {
		for ; i > 0 && later(caught[i-1], caught[i]); i-- {
			caught[i-1], caught[i] = caught[i], caught[i-1]
		}
	}
	return caught
}

// watch calls handle, and again after each signal that arrives, until handle
// returns true. A signal that arrives while handle runs is not missed.
func watch(handle func() (done bool)) {
	for {
		seen := atomic.LoadUint32(&arrivals)
		if handle() {
			return
		}
		sleep(seen)
	}
}

// sleep returns as soon as arrivals is not seen.
func sleep(seen uint32) {
	const futexWaitPrivate = 128
	for atomic.LoadUint32(&arrivals) == seen {
		_, _, errno := unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(&arrivals)), futexWaitPrivate, uintptr(seen), 0, 0, 0)
		if errno != 0 && errno != unix.EAGAIN && errno != unix.EINTR {
			return
		}
	}
}
