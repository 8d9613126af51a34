package signals

import (
	"io"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// Forwarder passes the signals that would end this process on to another process
// of ours, which ends in an orderly way; this process then ends as that one did.
type Forwarder struct {
	mu     sync.Mutex
	caught map[syscall.Signal]bool
}

// NewForwarder catches the signals that end programs by default. They are kept
// until To or ToPipe.
func NewForwarder() *Forwarder {
	f := &Forwarder{caught: make(map[syscall.Signal]bool)}
	catch(fatal)
	return f
}

// To sends the signals caught so far, and all that follow, to the process pid,
// which must be a child that has not been waited for. It returns at once.
func (f *Forwarder) To(pid int) {
	go watch(f.each(func(sig syscall.Signal) { _ = unix.Kill(pid, sig) }))
}

// ToPipe writes them to a pipe, one byte each, for AddFromPipe. If the pipe has no
// reader any more, alone is called, and the signal ends this process if it
// returns true. ToPipe returns at once; it keeps using the descriptor, which
// stays the caller's.
func (f *Forwarder) ToPipe(pipe int, alone func(syscall.Signal) bool) {
	go watch(f.each(func(sig syscall.Signal) {
		_, err := unix.Write(pipe, []byte{byte(sig)})
		for err == unix.EINTR {
			_, err = unix.Write(pipe, []byte{byte(sig)})
		}
		if err == unix.EPIPE && alone(sig) {
			DieOf(sig)
		}
	}))
}

// each returns a function for watch that calls forward for every pending signal.
func (f *Forwarder) each(forward func(syscall.Signal)) func() bool {
	return func() bool {
		for _, sig := range pending() {
			f.mu.Lock()
			f.caught[sig] = true
			// Taken afterwards: if this process is frozen in between, CaughtBy has it.
			n := atomic.LoadUint32(&counts[sig])
			forward(sig)
			atomic.AddUint32(&counts[sig], -n)
			f.mu.Unlock()
		}
		return false
	}
}

// Add records signals that have been caught and forwarded before. In the set, bit N-1
// is signal N.
func (f *Forwarder) Add(set uint64) {
	for _, sig := range all(fatal) {
		if set>>(sig-1)&1 != 0 {
			f.caught[sig] = true
		}
	}
}

// seen reports whether sig has been caught.
func (f *Forwarder) seen(sig syscall.Signal) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.caught[sig] || take(sig) > 0
}

// Await reports whether sig has been caught, or is caught within 200 ms. A signal
// that was sent to both processes may arrive here after the other one has died
// of it.
func (f *Forwarder) Await(sig syscall.Signal) bool {
	const milliseconds = 200
	for range milliseconds {
		if f.seen(sig) {
			return true
		}
		_, _ = unix.Poll(nil, 1)
	}
	return f.seen(sig)
}

// AddFromPipe counts the signals that ToPipe writes as if they had been caught
// here. It returns when the pipe is closed, at either end.
func AddFromPipe(pipe io.Reader) {
	var b [1]byte
	for {
		if _, err := io.ReadFull(pipe, b[:]); err != nil {
			return
		}
		if sig := syscall.Signal(b[0]); sig <= maxSignal && fatal(sig) {
			add(sig)
		}
	}
}

// AddSet counts the signals of a set, in which bit N-1 is signal N, as if they had
// been caught here. Those that do not end programs are left out. So is SIGTRAP: in a
// process that is traced it is pending for its tracer, such as CRIU.
func AddSet(set uint64) {
	for _, sig := range all(fatal) {
		if sig != unix.SIGTRAP && set>>(sig-1)&1 != 0 {
			add(sig)
		}
	}
}
