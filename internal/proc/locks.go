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
// among them. Dev is that of DeviceOfMount.
func Locks() ([]Lock, error) {
	text, err := readAll("/proc/locks", mostLocks)
	if err != nil {
		return nil, err
	}
	return parseLocks(string(text)), nil
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

// DeviceOfMount returns the device number of the file system that is mounted here with that
// number. On some, as Btrfs, stat(2) says another one. Not ok is a mount that is not seen.
func DeviceOfMount(mount uint64) (dev uint64, ok bool) {
	text, err := readAll("/proc/self/mountinfo", mostMounts)
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(text)) {
		var number uint64
		var parent, major, minor uint32
		if n, _ := fmt.Sscanf(line, "%d %d %d:%d", &number, &parent, &major, &minor); n == 4 && number == mount {
			return unix.Mkdev(major, minor), true
		}
	}
	return 0, false
}
