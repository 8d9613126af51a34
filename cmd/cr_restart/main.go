// Cr_restart brings processes back from a context file, stays their parent, and
// ends as they end. See cr_restart(1).
package main

import (
	"os"
	"runtime"
)

// The restored job becomes a child of the thread that asks for it; only the
// main thread lives as long as the process.
func init() { runtime.LockOSThread() }

func main() {
	os.Exit(run(os.Args, os.Stdout, os.Stderr))
}
