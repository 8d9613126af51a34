package ctxfile

import (
	"golang.org/x/sys/unix"
)

// memberWriter stores one member. One goroutine uses it.
type memberWriter struct {
	w       *Writer
	entry   *entry
	aligned bool // extents begin at multiples of pageSize
	buf     *[bufferSize]byte
	n       int // how much of buf is used

	frames *frameWriter // nil without compression

	// stagedFor is the member for which this one is staged, see stage.go; else nil.
	stagedFor *memberWriter
	unstaged  bool // it did not fit, and is compressed already
}

// out is where the member goes to.
func (m *memberWriter) out() *output {
	if m.stagedFor != nil {
		return m.w.stage
	}
	return m.w.out
}

// intake is where data from a pipe goes.
type intake interface {
	// room returns the free part of a buffer, which is not empty.
	room() ([]byte, error)
	// filled says that n bytes more of it are used.
	filled(n int) error
	// pause is called before a wait, which may be long, and resume after it.
	pause() error
	resume()
}

// tap is an intake that keeps the first bytes of what passes.
type tap struct {
	intake
	most       int
	kept, free []byte
}

func (t *tap) room() (free []byte, err error) {
	t.free, err = t.intake.room()
	return t.free, err
}

func (t *tap) filled(n int) error {
	t.kept = append(t.kept, t.free[:min(n, t.most-len(t.kept))]...)
	return t.intake.filled(n)
}

// copyPipe reads what there is in a pipe. It is a step of pipeEnd.read.
func (m *memberWriter) copyPipe(fd int, to intake) (bool, error) {
	to.resume()
	for {
		if m.w.calls.isAborted() {
			return false, unix.ECANCELED
		}
		room, err := to.room()
		if err != nil {
			return false, err
		}
		n, err := unix.Read(fd, room)
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			return false, to.pause()
		case err != nil:
			return false, err
		case n == 0:
			return true, nil
		default:
			if err := to.filled(n); err != nil {
				return false, err
			}
		}
	}
}

func (m *memberWriter) room() ([]byte, error) {
	if m.buf == nil {
		m.buf, m.n = getBuffer(), 0
	}
	return m.buf[m.n:], nil
}

func (m *memberWriter) filled(n int) error {
	if m.n += n; m.n < bufferSize {
		return nil
	}
	return m.flush()
}

func (m *memberWriter) pause() error {
	if m.n == 0 || buffersScarce() {
		if err := m.flush(); err != nil {
			return err
		}
		m.releaseBuffer()
	}
	if m.frames != nil {
		return m.frames.pause()
	}
	return nil
}

func (m *memberWriter) resume() {
	if m.frames != nil {
		m.frames.resume()
	}
}

// store stores p as the next bytes of the member.
func (m *memberWriter) store(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	if m.frames != nil {
		return m.frames.write(p)
	}
	e := m.entry
	x, err := m.w.out.store(p, m.aligned, e.end())
	if err != nil {
		return fail("write", e.name, err)
	}
	e.add(x)
	e.sum(p)
	m.w.stored.Add(x.length)
	return nil
}

// flush stores what is in the buffer.
func (m *memberWriter) flush() error {
	n := m.n
	m.n = 0
	if m.buf == nil {
		return nil
	}
	return m.store(m.buf[:n])
}

// finish stores the rest of the member.
func (m *memberWriter) finish() error {
	if err := m.flush(); err != nil || m.frames == nil {
		return err
	}
	f := m.frames
	plain, err := f.finish()
	if err == nil && plain != nil {
		m.frames = nil
		err = m.store(plain)
		m.frames = f
	}
	return err
}

// release gives back what the member needed, whatever has become of it.
func (m *memberWriter) release() {
	if m.frames != nil {
		m.frames.release()
	}
	m.releaseBuffer()
}

func (m *memberWriter) releaseBuffer() {
	if m.buf != nil {
		putBuffer(m.buf)
		m.buf = nil
	}
}

// splicePipe has the kernel move what there is in a pipe. It is a step of
// pipeEnd.read.
func (m *memberWriter) splicePipe(fd int) (bool, error) {
	for {
		if m.w.calls.isAborted() {
			return false, unix.ECANCELED
		}
		n, end, err := available(fd)
		if err != nil || end || n == 0 {
			return end, err
		}
		if err := m.spliceBytes(fd, n); err != nil {
			return false, err
		}
	}
}

// available returns how many bytes can be read from a pipe, or that it has ended.
func available(fd int) (n int64, end bool, err error) {
	count, err := unix.IoctlGetInt(fd, unix.TIOCINQ) // FIONREAD
	if err != nil || count > 0 {
		return int64(count), false, err
	}
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	if _, err := unix.Poll(fds, 0); err != nil && err != unix.EINTR {
		return 0, false, err
	}
	return availableAfter(fd, fds[0].Revents)
}

// availableAfter is available when poll(2) has answered. That takes no lock: a writer may
// write its last and close the pipe after poll has seen no data, and before it sees that
// there are no writers. So a hang-up alone does not say that the pipe is empty.
func availableAfter(fd int, events int16) (n int64, end bool, err error) {
	count, err := unix.IoctlGetInt(fd, unix.TIOCINQ)
	return int64(count), err == nil && count == 0 && events&(unix.POLLHUP|unix.POLLERR) != 0, err
}

// spliceBytes moves n bytes that are in the pipe.
func (m *memberWriter) spliceBytes(fd int, n int64) error {
	if n > pageSize {
		n &^= pageSize - 1 // the rest may be part of a page that comes whole later
	}
	e, o := m.entry, m.out()
	o.mu.Lock()
	x := o.reserve(n, true, e.end())
	o.mu.Unlock()

	var moved int64
	var err error
	for moved < n && err == nil {
		offset := o.base + x.offset + moved
		var k int64
		k, err = splice(fd, nil, o.fd, &offset, int(n-moved))
		moved += k
		if k == 0 { // another process reads the pipe, too
			break
		}
	}
	if moved < n {
		o.unreserve(x, moved)
	}
	if moved > 0 {
		e.unsummed = true
		e.add(extent{x.offset, moved})
		m.w.stored.Add(moved)
	}
	if err == unix.EAGAIN {
		return nil
	}
	return err
}
