// The runtime must not watch cgroup limits: it would keep files open for that, under
// descriptor numbers that the caller may expect to be closed.
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Cr_run starts a program with BLCR's library. BLCR's module can save only programs
// that have it. See cr_run(1).
package main

import (
	"os"
	"runtime"

	"blcr-cli/internal/cli"
)

// The thread that execs becomes the main thread, but keeps its own attributes of a
// thread. If it were not the main thread before, the program would lose those that
// the caller has set, such as the parent death signal (prctl(2)).
func init() { runtime.LockOSThread() }

func main() {
	os.Exit(run(os.Args, cli.FD(1), cli.FD(2)))
}
