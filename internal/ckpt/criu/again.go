package criu

import (
	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/criu/explain"
	"blcr-cli/internal/ckpt/criu/imagedir"
	"blcr-cli/internal/ckpt/criu/pstree"
)

// mostAgain is how often a dump is tried again that has failed with that error, because it came
// at a bad moment for the job. For its own TCP connections one in some 30 does, if it sends all
// the time; what shows itself only when the processes are frozen is as rare. A thread that does
// nothing but handle faults has one pending half of the time.
func mostAgain(err error) int {
	switch {
	case explain.IsInterrupted(err):
		return 20
	case explain.IsMoved(err), pstree.IsMomentary(err):
		return 3
	}
	return 0
}

// checkFaults has the dump fail if criu has stopped a thread that has a fault pending. If over is
// not nil it waits for criu to stop them until that is closed. Criu has code of its own in a first
// thread some milliseconds later, where it does no harm, and in the others when it has written the
// memory, which takes somebody who reads it.
func (c *capture) checkFaults(over <-chan struct{}) {
	if tid := c.tree.Faulting(over); tid != 0 {
		c.criu.Fail(explain.Interrupted(tid))
	}
}

func newCapture(r *ckpt.CheckpointRequest) *capture {
	return &capture{request: r, dumped: make(chan struct{}), reported: make(chan struct{})}
}

// fileState is how the file of a context was when nothing had been written to it. It is
// zero for what has no such state, as a pipe, of which a reader has the first attempt. A
// directory is empty.
type fileState struct {
	regular      bool
	offset, size int64
}

// whereItIs returns the state of the request's file.
func whereItIs(r *ckpt.CheckpointRequest) (f fileState) {
	var st unix.Stat_t
	if r.Dir != "" || unix.Fstat(int(r.FD), &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return f
	}
	offset, err := unix.Seek(int(r.FD), 0, unix.SEEK_CUR)
	return fileState{regular: err == nil, offset: offset, size: st.Size}
}

// restore makes the request's file as it was, and reports whether it could.
func (f fileState) restore(r *ckpt.CheckpointRequest) bool {
	if r.Dir != "" {
		dir, err := imagedir.Open(int(r.FD), r.Dir)
		if err != nil {
			return false
		}
		defer dir.Close()
		return dir.Empty() == nil
	}
	if !f.regular || unix.Ftruncate(int(r.FD), f.size) != nil {
		return false
	}
	_, err := unix.Seek(int(r.FD), f.offset, unix.SEEK_SET)
	return err == nil
}
