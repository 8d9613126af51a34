package ctxfile

import (
	"golang.org/x/sys/unix"
)

// drain is an image on its way into a context. One goroutine uses it.
type drain struct {
	w       *Writer
	entry   *entry
	aligned bool
	buf     *[bufferSize]byte // nil or not yet stored
	n       int               // of buf

	packed *packed // nil without compression
}

// room returns the free part of the buffer, which is not empty.
func (d *drain) room() []byte {
	if d.buf == nil {
		d.buf, d.n = getBuffer(), 0
	}
	return d.buf[d.n:]
}

// store stores p as the next bytes of the image.
func (d *drain) store(p []byte) error {
	e := d.entry
	if len(p) == 0 {
		return nil
	}
	if d.packed != nil {
		return d.packed.write(p)
	}
	x, err := d.w.out.store(p, d.aligned, e.end())
	if err != nil {
		return fail("write", e.name, err)
	}
	e.add(x)
	e.sum = checksum(e.sum, p)
	d.w.stored.Add(x.length)
	return nil
}

// flush stores what is in the buffer.
func (d *drain) flush() error {
	n := d.n
	d.n = 0
	if d.buf == nil {
		return nil
	}
	return d.store(d.buf[:n])
}

func (d *drain) flushFull() error {
	if d.n < bufferSize {
		return nil
	}
	return d.flush()
}

// finish stores the rest.
func (d *drain) finish() error {
	if err := d.flush(); err != nil || d.packed == nil {
		return err
	}
	p := d.packed
	plain, err := p.finish()
	if err == nil && plain != nil {
		d.packed = nil
		err = d.store(plain)
		d.packed = p
	}
	return err
}

func (d *drain) done() {
	if d.packed != nil {
		d.packed.done()
	}
	d.release()
}

// release gives the buffer back, which must be empty.
func (d *drain) release() {
	if d.buf != nil {
		putBuffer(d.buf)
		d.buf = nil
	}
}

// copy reads as much as there is. It is a step of pipe.read.
func (d *drain) copy(fd int) (bool, error) {
	if d.packed != nil {
		d.packed.resume()
	}
	for {
		if d.w.gate.isAborted() {
			return false, unix.ECANCELED
		}
		n, err := unix.Read(fd, d.room())
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			return false, d.pause()
		case err != nil:
			return false, err
		case n == 0:
			return true, nil
		default:
			d.n += n
			if err := d.flushFull(); err != nil {
				return false, err
			}
		}
	}
}

// pause is called before a wait, which may be long.
func (d *drain) pause() error {
	if d.n == 0 || scarce() {
		if err := d.flush(); err != nil {
			return err
		}
		d.release()
	}
	if d.packed != nil {
		return d.packed.pause()
	}
	return nil
}

// splice has the kernel move as much as there is. It is a step of pipe.read.
func (d *drain) splice(fd int) (bool, error) {
	for {
		if d.w.gate.isAborted() {
			return false, unix.ECANCELED
		}
		n, end, err := available(fd)
		if err != nil || end || n == 0 {
			return end, err
		}
		if err := d.spliceBytes(fd, n); err != nil {
			return false, err
		}
	}
}

// available returns how much there is to read from a pipe, which may be
// nothing, or the end.
func available(fd int) (n int64, end bool, err error) {
	count, err := unix.IoctlGetInt(fd, unix.TIOCINQ) // FIONREAD
	if err != nil || count > 0 {
		return int64(count), false, err
	}
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	if _, err := unix.Poll(fds, 0); err != nil && err != unix.EINTR {
		return 0, false, err
	}
	if fds[0].Revents&unix.POLLIN == 0 {
		return 0, fds[0].Revents&(unix.POLLHUP|unix.POLLERR) != 0, nil
	}
	count, err = unix.IoctlGetInt(fd, unix.TIOCINQ)
	return int64(count), false, err
}

// spliceBytes moves n bytes that are in the pipe.
func (d *drain) spliceBytes(fd int, n int64) error {
	if n > pageSize {
		n &^= pageSize - 1 // the rest may be part of a page that comes whole
	}
	e, o := d.entry, d.w.out
	o.mu.Lock()
	x := o.reserve(n, true, e.end())
	o.mu.Unlock()

	var moved int64
	var err error
	for moved < n && err == nil {
		offset := o.base + x.offset + moved
		var m int64
		m, err = splice(fd, nil, o.fd, &offset, int(n-moved))
		moved += m
		if m == 0 { // somebody else reads the pipe, too
			break
		}
	}
	if moved < n {
		o.release(x, moved)
	}
	if moved > 0 {
		e.hasSum, e.sum = false, 0
		e.add(extent{x.offset, moved})
		d.w.stored.Add(moved)
	}
	if err == unix.EAGAIN {
		return nil
	}
	return err
}

// splice is splice(2) that never waits for a pipe and is not interrupted.
func splice(from int, fromOffset *int64, to int, toOffset *int64, n int) (int64, error) {
	for {
		m, err := unix.Splice(from, fromOffset, to, toOffset, n, unix.SPLICE_F_NONBLOCK)
		if err == unix.EINTR {
			continue
		}
		return max(int64(m), 0), err
	}
}
