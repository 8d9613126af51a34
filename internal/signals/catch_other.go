//go:build !amd64

package signals

import (
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// The handler is written in assembly for amd64 only. On other architectures
// os/signal is used, which does not deliver SIGPROF and 32 to 34, and merges
// queued signals.

var notified = sync.OnceValue(func() chan<- os.Signal {
	c := make(chan os.Signal, 8*maxSignal)
	go func() {
		for sig := range c {
			add(sig.(syscall.Signal))
		}
	}()
	return c
})

// Catch counts sig from now on. The error is always nil.
func Catch(sig syscall.Signal) error {
	signal.Notify(notified(), sig)
	return nil
}

// Default gives the disposition back to the Go runtime, which for most signals
// does what the kernel would. The error is always nil.
func Default(sig syscall.Signal) error {
	signal.Reset(sig)
	return nil
}

// handledBy returns none: what os/signal has received cannot be seen from outside.
func handledBy(int) uint64 { return 0 }
