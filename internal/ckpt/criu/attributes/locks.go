package attributes

import (
	"fmt"
	"math"
	"strings"

	"blcr-cli/internal/proc"
)

// Locks of fcntl(2): "FD:TYPE:FIRST:LAST", with the type r or w, separated by commas. CRIU does
// not save those of a process on a file that it has inherited open, and shares with its parent.

// Lock is one that a process has on the file of a descriptor.
type Lock struct {
	FD          uint32
	Write       bool
	First, Last int64 // the bytes; Last is math.MaxInt64 for all up to the end
}

// lockers are the processes here that have such locks.
func lockers() map[int]bool {
	list, _ := proc.Locks()
	pids := make(map[int]bool)
	for _, l := range list {
		if l.Kind == posix {
			pids[l.PID] = true
		}
	}
	return pids
}

// posix is what the kernel calls them.
const posix = "POSIX"

// saveLocks notes each lock once, by the first descriptor that would do.
func saveLocks(pid int, add func(name, value string)) {
	var noted []string
	seen := make(map[proc.Lock]bool)
	for d, err := range proc.Descriptors(pid) {
		if err != nil {
			break
		}
		if !strings.HasPrefix(d.Link, "/") {
			continue
		}
		have, _ := proc.LocksOf(pid, d.FD)
		for _, l := range have {
			if l.Kind != posix || seen[l] || !d.Writable && l.Write || !d.Readable && !l.Write {
				continue
			}
			seen[l] = true
			kind := 'r'
			if l.Write {
				kind = 'w'
			}
			noted = append(noted, fmt.Sprintf("%d:%c:%d:%d", d.FD, kind, l.First, l.Last))
		}
	}
	if noted != nil {
		add(locks, strings.Join(noted, ","))
	}
}

// Locks returns the locks that a process had.
func (s Saved) Locks(id int32) (list []Lock) {
	for _, word := range s[id] {
		value, ok := strings.CutPrefix(word, locks+"=")
		if !ok {
			continue
		}
		for text := range strings.SplitSeq(value, ",") {
			var l Lock
			var kind rune
			if n, _ := fmt.Sscanf(text, "%d:%c:%d:%d", &l.FD, &kind, &l.First, &l.Last); n == 4 && l.First >= 0 && l.Last >= l.First && l.FD <= math.MaxInt32 {
				l.Write = kind == 'w'
				list = append(list, l)
			}
		}
	}
	return list
}
