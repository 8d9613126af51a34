package main

import (
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/test/harness"
)

// TestCatch: no kind of signal is lost while none is taken, and none comes twice for once.
func TestCatch(t *testing.T) {
	harness.Start()
	list := []os.Signal{unix.SIGWINCH, unix.SIGUSR2, unix.SIGTERM, unix.SIGUSR2}
	caught := catch(list)
	defer signal.Reset()
	self := os.Getpid()
	for range 500 {
		for _, sig := range list[:2] {
			if err := unix.Kill(self, sig.(syscall.Signal)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := unix.Kill(self, unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	seen := map[os.Signal]int{}
	for end := time.After(harness.Patience); len(seen) < 3; {
		select {
		case sig := <-caught:
			seen[sig]++
		case <-end:
			t.Fatalf("seen: %v", seen)
		}
	}
	if seen[unix.SIGTERM] != 1 {
		t.Errorf("seen: %v", seen)
	}
}
