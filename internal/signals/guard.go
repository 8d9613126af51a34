package signals

import (
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Guard undoes what a command has begun when a signal ends it, and then lets the
// process die of that signal. A signal that is ignored has no effect.
type Guard struct {
	mu       sync.Mutex
	cleanup  func()
	finished bool
	ending   atomic.Bool // a signal is ending the process
	late     func(syscall.Signal) bool
}

// NewGuard catches the signals that end programs by default, and begins to watch
// for them.
func NewGuard() *Guard {
	g := &Guard{cleanup: func() {}}
	catch(fatal)
	go watch(g.look)
	return g
}

// look ends the process if a signal that is to end it has been caught. It
// returns true if the guard has finished.
func (g *Guard) look() (finished bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.finished {
		return true
	}
	for _, sig := range pending() {
		if !fatal(sig) {
			continue
		}
		if g.late != nil && g.late(sig) {
			take(sig)
			g.finished = true
			return true
		}
		g.end(sig)
	}
	return false
}

// end ends the process by a signal. The caller holds mu.
func (g *Guard) end(sig syscall.Signal) {
	g.ending.Store(true)
	g.cleanup()
	DieOf(sig)
}

// Create calls create, which makes something and returns the cleanup that undoes
// everything so far; nil keeps the previous cleanup. A signal takes effect before
// or after the call, not during it.
func (g *Guard) Create(create func() (cleanup func())) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if cleanup := create(); cleanup != nil {
		g.cleanup = cleanup
	}
}

// Late sets a function that tells whether a signal comes too late to end the
// process. It may block. If it returns true the guard drops the signal and has
// finished. If a signal is ending the process it changes nothing: the cleanup may
// be waiting for the caller.
func (g *Guard) Late(late func(syscall.Signal) bool) {
	if g.lock() {
		defer g.mu.Unlock()
		g.late = late
	}
}

// lock locks mu for a caller that the cleanup may be waiting for. It returns false,
// and does not lock it, if a signal is ending the process.
func (g *Guard) lock() bool {
	for !g.mu.TryLock() {
		if g.ending.Load() {
			return false
		}
		time.Sleep(100 * time.Microsecond)
	}
	return true
}

// Finish ends the guard: no later signal ends the process. Signals stay caught
// and pending, for ForwardToJob. An earlier signal has ended the process.
func (g *Guard) Finish() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.finished = true
}

// TryFinish is Finish for a caller that the cleanup may be waiting for. If a
// signal is ending the process it returns false, where Finish would wait.
func (g *Guard) TryFinish() bool {
	if !g.lock() {
		return false
	}
	defer g.mu.Unlock()
	g.finished = true
	return true
}

// Disarm ends the guard when there is nothing left to undo, and gives the signals
// their default action. An earlier signal ends the process here.
func (g *Guard) Disarm() {
	uncatch(fatal)
	g.look()
	g.Finish()
}
