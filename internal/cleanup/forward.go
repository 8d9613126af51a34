package cleanup

import (
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// Forwarder hands the signals that would end this process to another one, which
// knows how to end, and by whose end this process is to be guided.
type Forwarder struct {
	caught chan os.Signal

	mu   sync.Mutex
	seen map[os.Signal]bool
}

// NewForwarder begins to catch. Signals that are ignored stay so.
func NewForwarder() *Forwarder {
	return &Forwarder{caught: catch(), seen: make(map[os.Signal]bool)}
}

// To hands what has been caught and all that follows to the process pid, which
// must be a child of ours that has not been waited for.
func (f *Forwarder) To(pid int) {
	go func() {
		for sig := range f.caught {
			f.mu.Lock()
			f.seen[sig] = true
			_ = syscall.Kill(pid, sig.(syscall.Signal))
			f.mu.Unlock()
		}
	}()
}

// Seen reports whether sig has been caught.
func (f *Forwarder) Seen(sig syscall.Signal) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.seen[sig]
}

// catch catches the fatal signals that are not ignored.
func catch() chan os.Signal {
	caught := make(chan os.Signal, len(fatal))
	for _, sig := range fatal {
		if !signal.Ignored(sig) {
			signal.Notify(caught, sig)
		}
	}
	return caught
}
