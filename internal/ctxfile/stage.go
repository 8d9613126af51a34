package ctxfile

import (
	"golang.org/x/sys/unix"
)

// Compression takes longer than the processes need to be frozen. A Writer with a staging
// file has the kernel move their memory there, uncompressed, and compresses it in Close.

// Stage gives a Writer with compression a staging file for what Pipe gets with aligned:
// Pipe then returns when the data is in that file, and Close compresses it. What does not
// fit there is compressed by Pipe, as without Stage.
//
// It is to be called before the other methods. fd is a regular file that is empty, open
// for reading and writing, and has no name: the Writer closes it, whatever the result is.
func (w *Writer) Stage(fd int) error {
	o, err := newOutput(fd, w.calls)
	if err != nil || w.compress == nil {
		unix.Close(fd)
		return fail("write", "", err)
	}
	w.stage = o
	return nil
}

// stage takes what comes out of a pipe into the staging file. ended is false if some of
// it is still in the pipe.
func (m *memberWriter) stage(p *pipeEnd, pipe int) (ended bool, err error) {
	s := &memberWriter{w: m.w, aligned: true, entry: &entry{name: m.entry.name}, stagedFor: m}
	ok, err := s.relayPipe(pipe)
	if !ok {
		if err = p.read(s.splicePipe); err != nil && !m.w.calls.isAborted() {
			_, err = s.unstage()
			return false, err
		}
	}
	switch {
	case err != nil:
		return false, err
	case s.unstaged:
		return true, m.finish()
	}
	m.entry.staged = s.entry
	return true, nil
}

// unstage compresses what has been staged so far, and returns what takes the rest.
func (m *memberWriter) unstage() (intake, error) {
	m.unstaged = true
	to := m.stagedFor
	return to.frames, to.compressFrom(m.entry)
}

// compressFrom compresses what the staging file has of the member.
func (m *memberWriter) compressFrom(staged *entry) error {
	m.frames.counted = true
	defer func() { m.frames.counted = false }()
	for _, x := range staged.extents {
		for x.length > 0 {
			room, err := m.frames.room()
			if err != nil {
				return err
			}
			n, err := readAt(m.w.stage.readable, room[:min(int64(len(room)), x.length)], x.offset)
			if err == nil && n == 0 {
				err = unix.EIO
			}
			if err != nil {
				return err
			}
			x.offset, x.length = x.offset+int64(n), x.length-int64(n)
			if err := m.frames.filled(n); err != nil {
				return err
			}
		}
	}
	return nil
}

// compressStaged compresses all that has been staged.
func (w *Writer) compressStaged() error {
	for _, e := range w.entries {
		if e.staged == nil {
			continue
		}
		m := &memberWriter{w: w, aligned: true, entry: e, frames: &frameWriter{compressor: w.compress, entry: e}}
		err := m.compressFrom(e.staged)
		if err == nil {
			err = m.finish()
		}
		m.release()
		if err != nil {
			return fail("write", e.name, err)
		}
	}
	return nil
}
