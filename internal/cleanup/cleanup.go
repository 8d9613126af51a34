// Package cleanup is what a command does when a signal ends it: it undoes what
// it has begun, and then dies of that signal, as its parent expects.
//
// It knows nothing of what there is to undo.
package cleanup

import (
	"os"
	"sync"
	"syscall"

	"blcr-cli/internal/rawsig"
)

// fatal are the signals that end a program by default and can be caught, but
// for those of its own faults and the real-time ones.
var fatal = []os.Signal{
	syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGABRT,
	syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGPIPE, syscall.SIGALRM,
	syscall.SIGTERM, syscall.SIGSTKFLT, syscall.SIGXCPU, syscall.SIGXFSZ,
	syscall.SIGVTALRM, syscall.SIGIO, syscall.SIGPWR,
}

// Guard stands between signals and the program's end.
type Guard struct {
	mu      sync.Mutex
	cleanup func()
	late    func(syscall.Signal) // not nil after Finish
}

// NewGuard begins to watch. Signals that are ignored stay so, as nohup wants
// it.
func NewGuard() *Guard {
	g := &Guard{cleanup: func() {}}
	caught := catch()
	go func() {
		for sig := range caught {
			g.end(sig.(syscall.Signal))
		}
	}()
	return g
}

func (g *Guard) end(sig syscall.Signal) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.late != nil {
		g.late(sig)
		return
	}
	g.cleanup()
	rawsig.DieOf(sig)
}

// Create runs a function that makes something, and takes over the cleanup that
// it returns, nil for no change. A signal comes before both or after both.
func (g *Guard) Create(make func() (cleanup func())) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if cleanup := make(); cleanup != nil {
		g.cleanup = cleanup
	}
}

// Finish lets no signal end the program from here on: late is given those that
// come. A signal that came before has ended it.
func (g *Guard) Finish(late func(syscall.Signal)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.late = late
}
