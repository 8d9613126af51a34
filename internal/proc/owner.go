package proc

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
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

// Namespace returns which namespace a process is in, as the inode of nsfs: kind is
// a name in /proc/PID/ns. The error is that of readlink(2).
func Namespace(pid int, kind string) (inode uint64, err error) {
	return namespace(fmt.Sprintf("/proc/%d", pid), kind)
}

// namespace reads "net:[4026531840]". The link of a kind "pid_for_children" begins with
// "pid".
func namespace(dir, kind string) (inode uint64, err error) {
	link, err := os.Readlink(dir + "/ns/" + kind)
	if err != nil {
		return 0, err
	}
	_, number, _ := strings.Cut(strings.TrimSuffix(link, "]"), ":[")
	if inode, err = strconv.ParseUint(number, 10, 64); err != nil {
		return 0, syscall.EINVAL
	}
	return inode, nil
}
