package criu

import (
	"context"
	"os"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/criu/images"
	"blcr-cli/internal/proc"
)

// Numbers of processes and threads are given in turn. Where few have been given yet, as in a
// container, this process, its threads, and what it starts may get those of the job.

// makeWay is Collides. Where the context can only be read once, it does nothing.
func (e *engine) makeWay(r *ckpt.RestartRequest) (collides bool) {
	var st unix.Stat_t
	if !r.RestorePid || r.Closed || unix.Fstat(int(r.FD), &st) != nil || distrust(r) != nil {
		return false
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG, unix.S_IFDIR:
	default:
		return false
	}
	offset, err := unix.Seek(int(r.FD), 0, unix.SEEK_CUR)
	if err != nil {
		return false
	}
	if tasks := e.tasks(r); len(tasks) > 0 && !isContainer(tasks) {
		skipNumbers(tasks)
		collides = ownThreads(tasks)
	}
	if collides || e.opened == nil {
		_, _ = unix.Seek(int(r.FD), offset, unix.SEEK_SET)
	}
	return collides
}

// tasks returns the processes of the job, and keeps the context open for the restart. It
// returns none if there is anything wrong with it, which the restart says.
func (e *engine) tasks(r *ckpt.RestartRequest) []images.Task {
	source, err := openSource(context.Background(), r)
	if err != nil {
		return nil
	}
	pstree, err := source.Bytes(images.PstreeName)
	if err != nil {
		source.Close()
		return nil
	}
	e.opened = source
	tasks, _ := images.Tasks(pstree)
	return tasks
}

// ownThreads reports whether a thread of this process, other than the first one, has a number
// of the job's.
func ownThreads(tasks []images.Task) bool {
	own := make(map[int]bool)
	for _, tid := range proc.Threads(os.Getpid()) {
		own[tid] = tid != os.Getpid()
	}
	for _, task := range tasks {
		for _, id := range task.Numbers() {
			if own[int(id)] {
				return true
			}
		}
	}
	return false
}

// mostSkipped is how many numbers are used up at most where the next one cannot be set. With
// more none are: to stop among those of the job would be worse.
const mostSkipped = 10000

// skipNumbers sees to it that the next numbers are none of the job's.
func skipNumbers(tasks []images.Task) {
	last := proc.LastPid()
	if next := gap(tasks, last); next != last {
		proc.SkipNumbers(next, mostSkipped)
	}
}
