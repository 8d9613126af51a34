package criu

import (
	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/criu/stream"
)

// mostAgain is how often a dump is tried again that came at a bad moment for the job's own
// TCP connections. One in some 30 does, of a job that sends all the time.
const mostAgain = 3

func newCapture(r *ckpt.CheckpointRequest) *capture {
	return &capture{request: r, reported: make(chan *stream.Stage, 1)}
}

// fileState is how the file of a context was when nothing had been written to it. It is
// zero for what has no such state, as a pipe, of which a reader has the first attempt.
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
	if !f.regular || unix.Ftruncate(int(r.FD), f.size) != nil {
		return false
	}
	_, err := unix.Seek(int(r.FD), f.offset, unix.SEEK_SET)
	return err == nil
}
