// Ftb-watch shows the events of a CIFTS Fault Tolerance Backplane. See ftb-watch(1).
package main

import (
	"os"

	"blcr-cli/internal/cli"
)

func main() {
	os.Exit(run(os.Args, cli.FD(1), cli.FD(2)))
}
