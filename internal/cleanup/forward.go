package cleanup

import (
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/rawsig"
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
	go func() {
		for {
			seen := rawsig.Bell()
			for _, sig := range rawsig.Pending() {
				rawsig.Take(sig)
				f.forward(sig, pid)
			}
			rawsig.Sleep(seen)
		}
	}()
}

func (f *Forwarder) forward(sig syscall.Signal, pid int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen[sig] = true
	_ = syscall.Kill(pid, sig)
}

// Seen reports whether sig has been caught.
func (f *Forwarder) Seen(sig syscall.Signal) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.seen[sig] || rawsig.Take(sig) > 0
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
