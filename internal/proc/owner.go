package proc

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Owner returns the effective user of a process. The error is ESRCH if there is
// no such process.
func Owner(pid int) (uid int, err error) {
	words, err := field(pid, "Uid")
	if err != nil {
		return 0, err
	}
	if len(words) < 2 {
		return 0, syscall.ESRCH
	}
	return strconv.Atoi(words[1])
}

// RealIDs returns the real user and group of a process or a thread. The error is ESRCH if
// there is no such process.
func RealIDs(id int) (uid, gid int, err error) {
	words, err := fields(id, "Uid", "Gid")
	if err != nil || len(words["Uid"]) == 0 || len(words["Gid"]) == 0 {
		return 0, 0, syscall.ESRCH
	}
	if uid, err = strconv.Atoi(words["Uid"][0]); err == nil {
		gid, err = strconv.Atoi(words["Gid"][0])
	}
	return uid, gid, err
}

// Namespace returns which namespace a process is in, as the inode of nsfs: kind is
// a name in /proc/PID/ns. The error is that of readlink(2).
func Namespace(pid int, kind string) (inode uint64, err error) {
	return namespace(unix.AT_FDCWD, fmt.Sprintf("/proc/%d/ns/%s", pid, kind))
}

// Namespaces returns those of several kinds, in their order; 0 for what cannot be seen,
// and for a namespace that does not exist yet.
func Namespaces(pid int, kinds []string) []uint64 {
	return namespaces("/proc/"+strconv.Itoa(pid)+"/ns", kinds)
}

func namespaces(dir string, kinds []string) []uint64 {
	all := make([]uint64, len(kinds))
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return all
	}
	defer unix.Close(fd)
	for i, kind := range kinds {
		all[i], _ = namespace(fd, kind)
	}
	return all
}

// namespace reads a link such as "net:[4026531840]". That of pid_for_children begins with
// "pid".
func namespace(dir int, path string) (inode uint64, err error) {
	var link [64]byte
	n, err := unix.Readlinkat(dir, path, link[:])
	if err != nil {
		return 0, err
	}
	_, number, _ := strings.Cut(strings.TrimSuffix(string(link[:n]), "]"), ":[")
	if inode, err = strconv.ParseUint(number, 10, 64); err != nil {
		return 0, syscall.EINVAL
	}
	return inode, nil
}
