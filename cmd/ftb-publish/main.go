// The runtime must not watch cgroup limits: it would keep files open for that, under
// descriptor numbers that the caller may expect to be closed.
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Ftb-publish publishes one event on a CIFTS Fault Tolerance Backplane. See
// ftb-publish(1).
package main

import (
	"os"

	"blcr-cli/internal/cli"
)

func main() {
	os.Exit(run(os.Args, cli.FD(0), cli.FD(1), cli.FD(2)))
}
