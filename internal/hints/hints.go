// Package hints is what the machine can tell about a failure, for the lines below
// a message: who somebody is, what limit was hit, how full a file system is, where
// a program can be had.
//
// Everything here is looked at after something has failed, costs what it costs then,
// and says nothing where it is not sure. The package prints nothing, and knows
// neither requests nor engines.
package hints

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"

	"blcr-cli/internal/show"
)

// User is how to call the user with that number.
func User(uid int) string {
	if uid == 0 {
		return "root"
	}
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil && u.Username != "" {
		return fmt.Sprintf("user %s", show.Name(u.Username))
	}
	return fmt.Sprintf("user %d", uid)
}

// Process is a process with its command, "process 4185 (sim)".
func Process(pid int) string {
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return fmt.Sprintf("process %d", pid)
	}
	return fmt.Sprintf("process %d (%s)", pid, show.Name(strings.TrimSuffix(string(comm), "\n")))
}
