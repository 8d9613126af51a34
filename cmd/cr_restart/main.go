// The runtime must not watch cgroup limits: it would keep files open for that, under
// descriptor numbers that the caller may expect to be closed.
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Cr_restart restores processes from a context file, stays their parent, and ends as
// they end. See cr_restart(1).
package main

import (
	"os"
	"runtime"

	"blcr-cli/internal/cli"
	"blcr-cli/internal/reexec"
)

// The restored job becomes a child of the thread that requests the restart. Only the
// main thread is certain to exist as long as the process.
func init() { runtime.LockOSThread() }

func main() {
	status, inner := reexec.Main()
	if !inner {
		status = run(os.Args, cli.FD(1), cli.FD(2))
	}
	os.Exit(status)
}
