package criu

import (
	"os"
	"runtime"
	"testing"

	"blcr-cli/internal/ckpt/criu/images"
	"blcr-cli/internal/proc"
)

func TestGap(t *testing.T) {
	tasks := []images.Task{
		{PID: 1000, PGID: 1000, SID: 900, Threads: []int32{1000, 1001, 1250}},
		{PID: 1500, PGID: 1000, SID: 900, Threads: []int32{1500}},
		{PID: 5000, PGID: 5000, SID: 0, Threads: []int32{5000}},
	}
	for last, want := range map[int]int{0: 0, 599: 599, 600: 1500, 899: 1500, 950: 1500, 1499: 1500, 1500: 1500, 4699: 4699, 4700: 5000, 6000: 6000} {
		if got := gap(tasks, last); got != want {
			t.Errorf("after %d: %d, want %d", last, got, want)
		}
	}
}

// TestOwnThreads: threads of this process are in the way, and not the process itself, which
// keeps its number.
func TestOwnThreads(t *testing.T) {
	stop := make(chan struct{})
	defer close(stop)
	started := make(chan struct{})
	go func() {
		runtime.LockOSThread()
		close(started)
		<-stop
	}()
	<-started
	pid := int32(os.Getpid())
	other := int32(0)
	for _, tid := range proc.Threads(int(pid)) {
		if int32(tid) != pid {
			other = int32(tid)
		}
	}
	for _, c := range []struct {
		task images.Task
		want bool
	}{
		{images.Task{PID: pid, Threads: []int32{pid}}, false},
		{images.Task{PID: other, Threads: []int32{other}}, true},
		{images.Task{PID: 1, Threads: []int32{1, other}}, true},
		{images.Task{PID: 1, Threads: []int32{1}}, false},
	} {
		if got := ownThreads([]images.Task{c.task}); got != c.want {
			t.Errorf("%+v: %v", c.task, got)
		}
	}
}

// TestSkipTooMany: where the numbers of the job are too many to be used up, none are, as the
// next ones may do.
func TestSkipTooMany(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root sets the next number")
	}
	last := proc.LastPid()
	if last == 0 {
		t.Skip("the kernel does not tell the last number")
	}
	task := images.Task{PID: int32(last + 200)}
	for n := range int32(mostSkipped) {
		task.Threads = append(task.Threads, task.PID+n)
	}
	skipNumbers([]images.Task{task})
	if used := proc.LastPid() - last; used > mostSkipped/10 {
		t.Errorf("%d numbers were used up", used)
	}
}
