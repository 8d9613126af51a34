// The runtime must not watch cgroup limits: it keeps files open for that, under
// descriptor numbers that a caller may mean to be closed.
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Cr_checkpoint saves a process, a tree, a process group or a session into a
// context file. See cr_checkpoint(1).
package main

import (
	"os"

	"blcr-cli/internal/cli"
)

func main() {
	os.Exit(run(os.Args, cli.FD(1), cli.FD(2)))
}
