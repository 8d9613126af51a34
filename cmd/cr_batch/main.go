// The runtime must not watch cgroup limits: it would keep files open for that, under
// descriptor numbers that the caller may expect to be closed.
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Cr_batch runs a command, saves it in time, and goes on from there when it is started
// again. See cr_batch(1).
package main

import (
	"os"
	"runtime"

	"blcr-cli/internal/cli"
)

// The main thread is the parent of cr_restart, which gets a signal when that thread ends.
func init() { runtime.LockOSThread() }

func main() {
	os.Exit(run(os.Args, cli.FD(1), cli.FD(2)))
}
