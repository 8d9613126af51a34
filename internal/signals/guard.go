package signals

import (
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"blcr-cli/internal/entry"
)

// fatal tells whether a signal ends a program by default and can be caught.
// Faults are among them for the case that somebody sends them: a real one still
// goes to the runtime. 33 is not, which glibc keeps for itself, and a restart
// uses to interrupt itself; 64 belongs to package selfckpt.
func fatal(sig syscall.Signal) bool {
	switch sig {
	case syscall.SIGKILL, syscall.SIGSTOP, syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU,
		syscall.SIGCONT, syscall.SIGCHLD, syscall.SIGURG, syscall.SIGWINCH, 33, 64:
		return false
	}
	return true
}

// KeepIgnored ignores the signals again that this process's parent had it ignore
// and the Go runtime has given a handler. To be called first. SIGCHLD is not
// among them, since nobody could be waited for, and neither is 64, which belongs
// to package selfckpt.
func KeepIgnored() {
	for sig := syscall.Signal(1); sig < maxSignal; sig++ {
		if entry.Ignored(sig) && sig != syscall.SIGCHLD {
			signal.Ignore(sig)
		}
	}
}

// DieOfCaught ends the program by a signal that was caught and is for nobody any
// more, if there is one that ends programs.
func DieOfCaught() {
	for _, sig := range pending() {
		if fatal(sig) {
			DieOf(sig)
		}
	}
}

// catch catches the fatal signals from now on, but for those that are ignored:
// they stay so, as nohup wants it.
func catch() {
	for sig := syscall.Signal(1); sig <= maxSignal; sig++ {
		if fatal(sig) && !signal.Ignored(sig) {
			_ = Catch(sig)
		}
	}
}

// Guard stands between signals and the program's end.
type Guard struct {
	mu       sync.Mutex
	cleanup  func()
	finished bool
	ending   atomic.Bool // a signal is ending the program
	late     func(syscall.Signal) bool
}

// NewGuard begins to watch.
func NewGuard() *Guard {
	g := &Guard{cleanup: func() {}}
	catch()
	go func() {
		for {
			seen := bellNow()
			if g.look() {
				return
			}
			sleep(seen)
		}
	}()
	return g
}

// look ends the program if a signal has been caught that is to do so. It returns
// true when there is nothing more to look for.
func (g *Guard) look() (finished bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.finished {
		return true
	}
	for _, sig := range pending() {
		if fatal(sig) {
			if g.late != nil && g.late(sig) {
				take(sig)
				g.finished = true
				return true
			}
			g.ending.Store(true)
			g.cleanup()
			DieOf(sig)
		}
	}
	return false
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

// Late sets a function that is asked whether a signal comes too late to end the
// program. It may take its time.
func (g *Guard) Late(late func(syscall.Signal) bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.late = late
}

// Finish lets no signal end the program from here on. They stay pending
// for ForwardToJob, for one; a signal that came before has
// ended the program.
func (g *Guard) Finish() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.finished = true
}

// TryFinish is Finish for somebody whom the cleanup may be waiting for: where a
// signal is about to end the program it returns false instead of waiting.
func (g *Guard) TryFinish() bool {
	for !g.mu.TryLock() {
		if g.ending.Load() {
			return false
		}
		time.Sleep(100 * time.Microsecond)
	}
	defer g.mu.Unlock()
	g.finished = true
	return true
}

// Disarm gives the signals their default action back: there is nothing left to
// undo. One that came before ends the program here.
func (g *Guard) Disarm() {
	for sig := syscall.Signal(1); sig <= maxSignal; sig++ {
		if fatal(sig) && !signal.Ignored(sig) {
			_ = Default(sig)
		}
	}
	g.look()
	g.Finish()
}
