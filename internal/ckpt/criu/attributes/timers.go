package attributes

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/proc"
)

// The kernel says of a timer of timerfd_create(2) that it has not expired and is not set, if
// that is asked after its time and before the interrupt. CRIU then restores one that never
// expires. What is noted is asked some time after CRIU has asked, of processes that still do
// not run: a timer that is set or has expired by then was so before.

// isSetOrExpired reports whether a timer of a process is set or has expired.
func isSetOrExpired(pid, fd int) bool {
	t, err := proc.TimerOf(pid, fd)
	return err == nil && (t.Expired > 0 || t.Value != unix.Timespec{})
}

// setTimers has those of the timers in a list expire that CRIU has restored as neither set
// nor expired.
func setTimers(pid int, list string) {
	for text := range strings.SplitSeq(list, ",") {
		fd, err := strconv.Atoi(text)
		if err != nil {
			return
		}
		t, err := proc.TimerOf(pid, fd)
		if err != nil || t.Expired > 0 || t.Value != (unix.Timespec{}) {
			continue
		}
		own, err := proc.CopyDescriptor(pid, fd)
		if err != nil {
			continue
		}
		atOnce := unix.ItimerSpec{Interval: t.Interval, Value: unix.Timespec{Nsec: 1}}
		_ = unix.TimerfdSettime(own, 0, &atOnce, nil)
		unix.Close(own)
	}
}
