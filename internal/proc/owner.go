package proc

import (
	"fmt"
	"os"
	"strconv"
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
	link, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, kind))
	if err != nil {
		return 0, err
	}
	if _, err := fmt.Sscanf(link, kind+":[%d]", &inode); err != nil {
		return 0, syscall.EINVAL
	}
	return inode, nil
}
