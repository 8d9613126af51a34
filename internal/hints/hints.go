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
)

// User is how to call the user with that number.
func User(uid int) string {
	if uid == 0 {
		return "root"
	}
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil && u.Username != "" {
		return fmt.Sprintf("user %s", Shown(u.Username))
	}
	return fmt.Sprintf("user %d", uid)
}

// Shown is a name as it can be shown in a line.
func Shown(name string) string {
	if quoted := strconv.Quote(name); quoted[1:len(quoted)-1] != name {
		return quoted
	}
	return name
}

// Process is a process with its command, "process 4185 (sim)".
func Process(pid int) string {
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return fmt.Sprintf("process %d", pid)
	}
	return fmt.Sprintf("process %d (%s)", pid, Shown(strings.TrimSuffix(string(comm), "\n")))
}

// size is a number of bytes for people.
func size(n uint64) string {
	const units = "KMGTPE"
	if n < 1<<10 {
		return fmt.Sprintf("%d bytes", n)
	}
	f, unit := float64(n)/(1<<10), 0
	for f >= 1023.5 && unit < len(units)-1 {
		f /= 1 << 10
		unit++
	}
	if f < 9.95 {
		return fmt.Sprintf("%.1f %ciB", f, units[unit])
	}
	return fmt.Sprintf("%.0f %ciB", f, units[unit])
}
