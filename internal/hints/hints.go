// Package hints explains failures that have nothing to do with a particular engine by
// what this machine shows: which limit was hit, how full a file system is, which user
// owns a file or a process, what uses a pid, how to get a criu.
//
// Its functions return lines that are printed below a message. They are called after a
// failure, examine the machine as it is then, and return nothing if they are not sure.
// What belongs here is useful for any engine; CRIU's own messages belong to package
// explain. The package prints nothing and knows no requests.
package hints

import (
	"fmt"
	"os/user"
	"strconv"

	"blcr-cli/internal/proc"
	"blcr-cli/internal/show"
)

// User returns a name for a user: "root", "user alice", or "user 1000" for one without
// a name.
func User(uid int) string {
	if uid == 0 {
		return "root"
	}
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil && u.Username != "" {
		return fmt.Sprintf("user %s", show.Name(u.Username))
	}
	return fmt.Sprintf("user %d", uid)
}

// Group returns a name for a group, such as "games", or its number.
func Group(gid int) string {
	if g, err := user.LookupGroupId(strconv.Itoa(gid)); err == nil && g.Name != "" {
		return show.Name(g.Name)
	}
	return strconv.Itoa(gid)
}

// MembersOnly returns a line that says that only members of a group may run a program,
// and how root makes the user uid one.
func MembersOnly(uid, gid int) string {
	line := "only members of the group %s may run it"
	u, err := user.LookupId(strconv.Itoa(uid))
	g, err2 := user.LookupGroupId(strconv.Itoa(gid))
	if err != nil || err2 != nil {
		return fmt.Sprintf(line, strconv.Itoa(gid))
	}
	group := show.Name(g.Name)
	return fmt.Sprintf(line+"; 'sudo usermod -aG %s %s' adds you, from the next login on", group, group, show.Name(u.Username))
}

// Process returns a name for a process, with its command: "process 4185 (sim)".
func Process(pid int) string {
	p, err := proc.Read(pid)
	if err != nil {
		return fmt.Sprintf("process %d", pid)
	}
	return fmt.Sprintf("process %d (%s)", pid, show.Name(p.Comm))
}
