// Package thread runs functions on threads of the system that are of no use for
// anything else afterwards, such as one that has entered other namespaces.
package thread

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// Run calls a function on a thread that ends with it, and returns then. It is not the first
// thread of this process, which does not end, and by which /proc describes the process.
func Run(call func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			Run(call)
			runtime.UnlockOSThread()
			return
		}
		call()
	}()
	<-done
}
