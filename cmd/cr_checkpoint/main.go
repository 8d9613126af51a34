// The runtime must not watch cgroup limits: it would keep files open for that, under
// descriptor numbers that the caller may expect to be closed.
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Cr_checkpoint saves a process, a tree, a process group or a session into a
// context file. See cr_checkpoint(1).
package main

import (
	"os"

	"blcr-cli/internal/cli"
	"blcr-cli/internal/reexec"
)

func main() {
	status, inner := reexec.Main()
	if !inner {
		status = run(os.Args, nil)
	}
	os.Exit(status)
}

// run is the command: args is its whole argument vector, and worker is not nil in
// a worker. It returns the exit status.
func run(args []string, worker *worker) int {
	return cli.Run(name, "save running processes into a context file", args, cli.FD(1), cli.FD(2),
		func(args []string, con *cli.Console) int { return checkpoint(args, con, worker) })
}
