package attributes

import (
	"strconv"

	"golang.org/x/sys/unix"
)

// From Linux 6.12 on a thread may choose how long it runs at a time, by the sched_runtime of
// sched_setattr(2) with SCHED_OTHER and SCHED_BATCH.

// sliceOf is how long that is for a thread, in nanoseconds; 0 where it is not said.
func sliceOf(tid int) uint64 {
	if attr := fair(tid); attr != nil {
		return attr.Runtime
	}
	return 0
}

// fair returns the attributes of a thread; nil for one with another scheduling policy.
func fair(tid int) *unix.SchedAttr {
	attr, err := unix.SchedGetAttr(tid, 0)
	if err != nil || attr.Policy != unix.SCHED_NORMAL && attr.Policy != unix.SCHED_BATCH {
		return nil
	}
	return attr
}

// saveSlice notes that of a thread, unless it is as usual.
func saveSlice(tid int, usual uint64, add func(name, value string)) {
	if n := sliceOf(tid); n != 0 && n != usual {
		add(slice, strconv.FormatUint(n, 10))
	}
}

func setSlice(tid int, text string) {
	n, err := strconv.ParseUint(text, 10, 64)
	if attr := fair(tid); err == nil && attr != nil && attr.Runtime != n {
		attr.Runtime = n
		_ = unix.SchedSetAttr(tid, attr, 0)
	}
}
