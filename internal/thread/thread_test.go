package thread

import (
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// TestRun: what a function does to its thread, here to its working directory, is seen
// neither in /proc/self nor by any other goroutine, also where the first thread is free.
func TestRun(t *testing.T) {
	before, err := os.Readlink("/proc/self/cwd")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for range 100 {
		called := false
		Run(func() {
			called = true
			if unix.Gettid() == unix.Getpid() {
				t.Error("it is called on the first thread")
			}
			if err := unix.Unshare(unix.CLONE_FS); err != nil {
				t.Error(err)
			}
			if err := unix.Chdir(dir); err != nil {
				t.Error(err)
			}
		})
		if !called {
			t.Fatal("it is not called")
		}
		runtime.Gosched()
		if after, err := os.Readlink("/proc/self/cwd"); err != nil || after != before {
			t.Fatalf("the process is in %s, was in %s: %v", after, before, err)
		}
		if after, err := unix.Getwd(); err != nil || after != before {
			t.Fatalf("another goroutine is in %s, was in %s: %v", after, before, err)
		}
	}
}
