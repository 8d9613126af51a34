package attributes

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/proc"
	"blcr-cli/test/harness"
)

// TestTimers: of timers that were set or had expired, those that are restored as neither
// expire at once. The others are left alone.
func TestTimers(t *testing.T) {
	second, far := unix.Timespec{Sec: 1}, unix.Timespec{Sec: 9000}
	type timer struct {
		saved, restored unix.ItimerSpec
		expired         bool // and not read, when it is saved
		want            bool // it expires
	}
	list := []timer{
		{saved: unix.ItimerSpec{Value: far}, want: true},
		{saved: unix.ItimerSpec{Value: unix.Timespec{Nsec: 1}}, expired: true, want: true},
		{saved: unix.ItimerSpec{Value: far, Interval: far}, restored: unix.ItimerSpec{Interval: far}, want: true},
		{saved: unix.ItimerSpec{Value: far}, restored: unix.ItimerSpec{Value: far}},
		{},
		{saved: unix.ItimerSpec{Interval: second}, restored: unix.ItimerSpec{Interval: second}},
	}
	var fds []int
	set := func(fd int, spec unix.ItimerSpec) {
		if err := unix.TimerfdSettime(fd, 0, &spec, nil); err != nil {
			t.Fatal(err)
		}
	}
	var want []string
	for _, x := range list {
		fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		fds = append(fds, fd)
		set(fd, x.saved)
		if x.expired {
			harness.Poll(t, "a timer to expire", func() bool { return expired(t, fd) })
		}
		if x.saved.Value != (unix.Timespec{}) {
			want = append(want, strconv.Itoa(fd))
		}
	}
	var noted string
	saved(os.Getpid(), func(name, value string) {
		if name == timers {
			noted = value
		}
	})
	if noted != strings.Join(want, ",") {
		t.Fatalf("noted %q, want %q", noted, want)
	}
	for i, x := range list {
		set(fds[i], x.restored)
	}
	setTimers(os.Getpid(), noted+",99999,x")
	for i, x := range list {
		if x.want {
			harness.Poll(t, "a timer to expire", func() bool { return expired(t, fds[i]) })
		}
		now, err := proc.TimerOf(os.Getpid(), fds[i])
		if err != nil || (now.Expired > 0) != x.want || now.Interval != x.restored.Interval {
			t.Errorf("timer %d: %+v, %v", i, now, err)
		}
		if x.restored.Value == (unix.Timespec{}) && now.Value != (unix.Timespec{}) {
			t.Errorf("timer %d is set", i)
		}
		// The kernel sets it again when it has been read.
		if count := make([]byte, 8); x.want && x.restored.Interval == far {
			_, _ = unix.Read(fds[i], count)
			if now, err := proc.TimerOf(os.Getpid(), fds[i]); err != nil || now.Value == (unix.Timespec{}) {
				t.Errorf("timer %d is not set again: %+v, %v", i, now, err)
			}
		}
	}
}

func expired(t *testing.T, fd int) bool {
	now, err := proc.TimerOf(os.Getpid(), fd)
	if err != nil {
		t.Fatal(err)
	}
	return now.Expired > 0
}
