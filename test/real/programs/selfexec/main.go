// Selfexec is the Go program of TestSelfSystem: it counts, runs the command that
// it is given with its own pid put in for @, and counts on.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

func main() {
	args := os.Args[1:]
	for i := range args {
		args[i] = strings.ReplaceAll(args[i], "@", strconv.Itoa(os.Getpid()))
	}
	for i := 1; i <= 3; i++ {
		fmt.Println(i)
	}
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil || len(out) > 0 {
		fmt.Printf("%v: %s\n", err, out)
	} else {
		fmt.Println("status 0")
	}
	for i := 4; i <= 6; i++ {
		fmt.Println(i)
	}
	os.Exit(7)
}
