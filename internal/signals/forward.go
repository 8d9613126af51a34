package signals

import (
	"io"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Forwarder hands the signals that would end this process to another one, which
// knows how to end, and by whose end this process is to be guided.
type Forwarder struct {
	mu   sync.Mutex
	seen map[syscall.Signal]bool
}

// NewForwarder begins to catch.
func NewForwarder() *Forwarder {
	f := &Forwarder{seen: make(map[syscall.Signal]bool)}
	catch()
	return f
}

// To hands what has been caught and all that follows to the process pid, which
// must be a child of ours that has not been waited for.
func (f *Forwarder) To(pid int) {
	f.each(func(sig syscall.Signal) { _ = syscall.Kill(pid, sig) })
}

// ToPipe hands them to whoever reads from a pipe, a byte each. Where nobody does
// any more alone decides: true for a signal that is to end this process.
func (f *Forwarder) ToPipe(pipe int, alone func(syscall.Signal) bool) {
	f.each(func(sig syscall.Signal) {
		_, err := unix.Write(pipe, []byte{byte(sig)})
		for err == unix.EINTR {
			_, err = unix.Write(pipe, []byte{byte(sig)})
		}
		if err == unix.EPIPE && alone(sig) {
			DieOf(sig)
		}
	})
}

// AddFromPipe counts what ToPipe writes as if it had been caught here, until the
// pipe is closed.
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

// AddSet counts what is in a set of signals, bit N-1 for signal N, as if it had
// been caught here.
func AddSet(set uint64) {
	for sig := syscall.Signal(1); sig <= maxSignal; sig++ {
		if set>>(sig-1)&1 != 0 && fatal(sig) {
			add(sig)
		}
	}
}

// each calls forward for every signal.
func (f *Forwarder) each(forward func(syscall.Signal)) {
	go func() {
		for {
			seen := bellNow()
			for _, sig := range pending() {
				take(sig)
				f.mu.Lock()
				f.seen[sig] = true
				forward(sig)
				f.mu.Unlock()
			}
			sleep(seen)
		}
	}()
}

// Seen reports whether sig has been caught.
func (f *Forwarder) Seen(sig syscall.Signal) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.seen[sig] || take(sig) > 0
}

// Await is Seen for a signal that may have been sent to both processes at the
// same time, and come a moment after the other one has died of it.
func (f *Forwarder) Await(sig syscall.Signal) bool {
	const milliseconds = 200
	for range milliseconds {
		if f.Seen(sig) {
			return true
		}
		_, _ = unix.Poll(nil, 1)
	}
	return f.Seen(sig)
}
