package signals

import (
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// saying returns a cleanup that prints a line.
func saying(line string) func() { return func() { fmt.Println(line) } }

// guardRole watches, after as many cleanups as args says, of which the last counts.
// It has caught other signals, too.
func guardRole(args string) {
	HoldStops()
	g := NewGuard()
	for i := range number(args) {
		g.Create(func() func() { return saying(fmt.Sprint("cleanup ", i+1)) })
		g.Create(func() func() { return nil })
	}
	fmt.Println("ready")
	waitForEOF()
}

// TestGuard: each of the signals that end programs runs the cleanup that was given
// last, and then ends the process.
func TestGuard(t *testing.T) {
	for cleanups, output := range []string{"", "cleanup 1\n", "cleanup 2\n"} {
		for _, sig := range ending {
			p := start(t, "guard", cleanups)
			p.says(t, "ready")
			p.kill(t, sig)
			p.ends(t, output, fmt.Sprint("signal ", int(sig)))
		}
	}
}

// TestGuardOthers: signals that end no program do not end this one, and run no
// cleanup, even if they are caught.
func TestGuardOthers(t *testing.T) {
	p := start(t, "guard", 1)
	p.says(t, "ready")
	for _, sig := range append(stopping, harmless...) {
		p.kill(t, sig)
		p.settle(t)
	}
	p.in.Close()
	p.ends(t, "", "exit 0")
}

// createRole gets a signal while it makes something.
func createRole() {
	g := NewGuard()
	g.Create(func() func() { return saying("not yet made") })
	g.Create(func() func() {
		seen := atomic.LoadUint32(&arrivals)
		fmt.Println("making")
		sleep(seen)
		// The guard's goroutine must not act now. The longer it is given, the more
		// this shows.
		time.Sleep(20 * time.Millisecond)
		fmt.Println("made")
		return saying("undone")
	})
	waitForEOF()
}

// TestCreate: a signal waits for what is being made, which is then undone.
func TestCreate(t *testing.T) {
	p := start(t, "create")
	p.says(t, "making")
	p.kill(t, unix.SIGTERM)
	p.ends(t, "made\nundone\n", "signal 15")
}

// finishRole takes the signals itself after the guard has finished.
func finishRole() {
	g := NewGuard()
	g.Create(func() func() { return saying("cleanup") })
	g.Finish()
	fmt.Println("ready")
	taken := 0
	watch(func() bool {
		for _, sig := range pending() {
			fmt.Println(int(sig), take(sig))
			taken++
		}
		return taken == len(ending)
	})
	fmt.Println("goes on")
	waitForEOF()
}

// TestFinish: afterwards no signal ends the process; all can be taken, each once.
func TestFinish(t *testing.T) {
	p := start(t, "finish")
	p.says(t, "ready")
	for _, sig := range ending {
		p.kill(t, sig)
		p.says(t, fmt.Sprint(int(sig), " ", 1))
	}
	p.says(t, "goes on")
	p.in.Close()
	p.ends(t, "", "exit 0")
}

// disarmRole disarms the guard, with "pending" right after a signal has been caught.
func disarmRole(args string) {
	g := NewGuard()
	g.Create(func() func() { return saying("cleanup") })
	if args == "pending" {
		g.Create(func() func() { add(unix.SIGTERM); return nil })
	}
	g.Disarm()
	fmt.Println("ready")
	waitForEOF()
}

// TestDisarm: afterwards a signal has its default action.
func TestDisarm(t *testing.T) {
	for _, sig := range ending {
		p := start(t, "disarm")
		p.says(t, "ready")
		p.kill(t, sig)
		p.ends(t, "", fmt.Sprint("signal ", int(sig)))
	}
}

// TestDisarmPending: a signal that came before is not lost.
func TestDisarmPending(t *testing.T) {
	for range 5 { // Disarm and the guard's goroutine compete
		p := start(t, "disarm", "pending")
		p.ends(t, "cleanup\n", "signal 15")
	}
}

// tryFinishRole has a cleanup that waits for the caller of TryFinish.
func tryFinishRole() {
	g := NewGuard()
	cleaning, tried := make(chan bool), make(chan bool)
	g.Create(func() func() {
		return func() {
			close(cleaning)
			fmt.Println("finished:", <-tried)
		}
	})
	fmt.Println("ready")
	<-cleaning
	tried <- g.TryFinish()
	select {}
}

// TestTryFinish: a caller that the cleanup waits for is told that a signal ends the
// process, instead of waiting in turn; without a signal it finishes the guard.
func TestTryFinish(t *testing.T) {
	p := start(t, "try-finish")
	p.says(t, "ready")
	p.kill(t, syscall.SIGTERM)
	p.ends(t, "finished: false\n", "signal 15")
	g := &Guard{}
	if !g.TryFinish() || !g.finished {
		t.Error("not finished, though no signal ends the process")
	}
}
