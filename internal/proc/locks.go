package proc

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Lock is a lock on a file that somebody has; see proc_locks(5).
type Lock struct {
	Kind     string // "FLOCK", "POSIX", "OFDLCK", "LEASE", …
	Write    bool
	PID      int // who has taken it, and may have ended since; -1 for an "OFDLCK"
	Dev, Ino uint64

	First, Last int64 // the bytes; Last is math.MaxInt64 for all up to the end
}

// Locks returns the locks of processes that are to be seen here. What is waited for is not
// among them. Dev is that of Mounts.
func Locks() ([]Lock, error) {
	text, err := readAll("/proc/locks", mostLocks)
	if err != nil {
		return nil, err
	}
	return parseLocks(string(text)), nil
}

// LocksOf returns the locks that a process has on the file of one of its descriptors. Dev is
// another one than that of Mounts on some file systems.
func LocksOf(pid, fd int) ([]Lock, error) {
	text, err := readAll(fmt.Sprintf("/proc/%d/fdinfo/%d", pid, fd), mostLocks)
	if err != nil {
		return nil, err
	}
	return parseLocks(strings.ReplaceAll(string(text), "lock:\t", "")), nil
}

// parseLocks reads lines as "1: POSIX  ADVISORY  WRITE 3568 fd:00:2531452 0 EOF". That of
// one who waits has "->" behind the number.
func parseLocks(text string) (locks []Lock) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) != 8 {
			continue
		}
		l := Lock{Kind: f[1], Write: f[3] == "WRITE", Last: math.MaxInt64}
		var major, minor uint32
		if n, _ := fmt.Sscanf(f[5], "%x:%x:%d", &major, &minor, &l.Ino); n != 3 {
			continue
		}
		l.Dev = unix.Mkdev(major, minor)
		var err error
		if l.PID, err = strconv.Atoi(f[4]); err != nil {
			continue
		}
		if l.First, err = strconv.ParseInt(f[6], 10, 64); err != nil {
			continue
		}
		if f[7] != "EOF" {
			if l.Last, err = strconv.ParseInt(f[7], 10, 64); err != nil {
				continue
			}
		}
		locks = append(locks, l)
	}
	return locks
}
