// The runtime must not watch cgroup limits: it keeps files open for that, under
// descriptor numbers that a caller may mean to be closed.
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Cr_info tells what is in a context, without restoring it. See cr_info(1).
package main

import (
	"os"

	"blcr-cli/internal/cli"
)

func main() {
	os.Exit(run(os.Args, cli.FD(1), cli.FD(2)))
}
