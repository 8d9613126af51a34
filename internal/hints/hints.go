// Package hints says what this machine knows about a failure that is not the
// fault of any engine: which limit was hit, how full a file system is, who owns a
// file or a process, what has a number that is in use, where a criu can be had.
//
// Its functions return lines for below a message. They are called after something
// has failed, look at the machine as it is then, and return nothing where they are
// not sure. What belongs here is useful for any engine; what CRIU itself says about
// its failures is for package explain. The package prints nothing and knows no
// requests.
package hints

import (
	"fmt"
	"os/user"
	"strconv"

	"blcr-cli/internal/proc"
	"blcr-cli/internal/show"
)

// User names a user: "root", "user alice", or "user 1000" for one without a name.
func User(uid int) string {
	if uid == 0 {
		return "root"
	}
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil && u.Username != "" {
		return fmt.Sprintf("user %s", show.Name(u.Username))
	}
	return fmt.Sprintf("user %d", uid)
}

// Process names a process with its command: "process 4185 (sim)".
func Process(pid int) string {
	p, err := proc.Read(pid)
	if err != nil {
		return fmt.Sprintf("process %d", pid)
	}
	return fmt.Sprintf("process %d (%s)", pid, show.Name(p.Comm))
}
