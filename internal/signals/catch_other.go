//go:build !amd64

package signals

import (
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
)

// The handler is written in assembly, for amd64. Elsewhere os/signal stands in
// for it, which does not deliver SIGPROF and 32 to 34, and merges signals that
// are queued.

var caught = struct {
	sync.Mutex
	sync.Once
	*sync.Cond
	signals chan os.Signal
	counts  [maxSignal + 1]int
	arrival [maxSignal + 1]uint32
	bell    uint32
}{signals: make(chan os.Signal, 8*maxSignal)}

// Catch counts sig from now on.
func Catch(sig syscall.Signal) error {
	caught.Do(func() {
		caught.Cond = sync.NewCond(&caught.Mutex)
		go func() {
			for sig := range caught.signals {
				add(sig.(syscall.Signal))
			}
		}()
	})
	signal.Notify(caught.signals, sig)
	return nil
}

// add counts sig as if it had been caught.
func add(sig syscall.Signal) {
	caught.Lock()
	defer caught.Unlock()
	caught.counts[sig]++
	caught.arrival[sig] = caught.bell
	caught.bell++
	caught.Broadcast()
}

// pending returns the signals that have been caught and not taken, in the order
// of their arrival; of several of one kind the last one's counts.
func pending() []syscall.Signal {
	caught.Lock()
	defer caught.Unlock()
	var pending []syscall.Signal
	for sig, n := range caught.counts {
		if n > 0 {
			pending = append(pending, syscall.Signal(sig))
		}
	}
	slices.SortFunc(pending, func(a, b syscall.Signal) int {
		return int(int32(caught.arrival[a] - caught.arrival[b]))
	})
	return pending
}

// take returns how often sig was caught since the last take.
func take(sig syscall.Signal) int {
	caught.Lock()
	defer caught.Unlock()
	n := caught.counts[sig]
	caught.counts[sig] = 0
	return n
}

// bellNow returns a number that changes with every signal caught. A caller that
// reads it, takes what there is, and then calls sleep with it misses none.
func bellNow() uint32 {
	caught.Lock()
	defer caught.Unlock()
	return caught.bell
}

// sleep returns when bellNow is no longer seen, at once where it is not now.
func sleep(seen uint32) {
	caught.Lock()
	defer caught.Unlock()
	for caught.bell == seen {
		caught.Wait()
	}
}

// Default gives the disposition back to the Go runtime, which for most
// signals then does what the kernel would.
func Default(sig syscall.Signal) error {
	signal.Reset(sig)
	return nil
}
