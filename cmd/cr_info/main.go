// The runtime must not watch cgroup limits: it would keep files open for that, under
// descriptor numbers that the caller may expect to be closed.
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Cr_info shows what is in a context, without restoring it. See cr_info(1).
package main

import (
	"os"

	"blcr-cli/internal/cli"
)

func main() {
	os.Exit(run(os.Args, cli.FD(1), cli.FD(2)))
}
