package hints

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/proc"
	"blcr-cli/internal/show"
)

// Socket is what of a socket may take rights that a user does not have.
type Socket struct {
	Raw            bool
	Port           uint16
	Mark, Priority uint32 // SO_MARK, SO_PRIORITY
	Name           string // of a UNIX socket that is made again under its name
}

// Lacks returns which right this process lacks to make such a socket, as what follows
// "a socket" in a sentence, and the number of the error; 0 for none.
func (s Socket) Lacks() (errno syscall.Errno, what string) {
	const takes = ", which takes "
	switch {
	case s.Raw && !proc.Capable(unix.CAP_NET_RAW):
		return unix.EPERM, "for raw packets" + takes + "CAP_NET_RAW"
	case s.Port != 0 && uint64(s.Port) < freePorts() && !proc.Capable(unix.CAP_NET_BIND_SERVICE):
		return unix.EACCES, fmt.Sprintf("with the port %d%sCAP_NET_BIND_SERVICE", s.Port, takes)
	case s.Mark != 0 && !proc.Capable(unix.CAP_NET_ADMIN):
		return unix.EPERM, fmt.Sprintf("with the mark %d (SO_MARK)%sCAP_NET_ADMIN", s.Mark, takes)
	case s.Priority > 6 && !proc.Capable(unix.CAP_NET_ADMIN):
		return unix.EPERM, fmt.Sprintf("with the priority %d (SO_PRIORITY)%sCAP_NET_ADMIN", s.Priority, takes)
	case !strings.HasPrefix(s.Name, "/"): // below a directory that is not known
		return 0, ""
	}
	var st unix.Stat_t
	what = fmt.Sprintf("with the name %s, which %s may not make again", show.Name(s.Name), User(unix.Geteuid()))
	// CRIU makes directories that have been removed for a moment.
	dir, mode := filepath.Dir(s.Name), uint32(unix.W_OK|unix.X_OK)
	for dir != "/" && unix.Stat(dir, &st) == unix.ENOENT {
		dir, mode = filepath.Dir(dir), unix.R_OK|unix.W_OK|unix.X_OK
	}
	switch {
	case unix.Faccessat(unix.AT_FDCWD, dir, mode, unix.AT_EACCESS) == unix.EACCES:
		return unix.EACCES, what + " in that directory"
	case unix.Lstat(s.Name, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFSOCK && !MayGive(&st):
		return unix.EPERM, what + " as one of " + User(int(st.Uid))
	}
	return 0, ""
}

// freePorts is the first port that anybody may use.
func freePorts() uint64 {
	if n := proc.Numbers("/proc/sys/net/ipv4/ip_unprivileged_port_start"); len(n) == 1 {
		return n[0]
	}
	return 1024
}

// MayGive reports whether this process may make a file with that owner and group.
func MayGive(st *unix.Stat_t) bool {
	if proc.Capable(unix.CAP_CHOWN) {
		return true
	}
	groups, _ := unix.Getgroups()
	return int(st.Uid) == unix.Geteuid() && (int(st.Gid) == unix.Getegid() || slices.Contains(groups, int(st.Gid)))
}
