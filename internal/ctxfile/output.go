package ctxfile

import (
	"sync"

	"golang.org/x/sys/unix"
)

// output is the file that a Writer writes.
type output struct {
	fd     int
	gate   *gate
	random bool  // any offset can be written
	base   int64 // if random: where the context begins in the file
	kind   uint32
	once   bool // a pipe: no more than a page at once, for that does not block

	mu   sync.Mutex
	next int64 // where free space begins, counted from the context's beginning
	err  error // not random: the write that failed, after which nothing fits

	allocated int64 // random: space on disk is asked for up to here; -1 not at all
}

// newOutput finds out what kind of file fd is.
func newOutput(fd int, g *gate) (*output, error) {
	o := &output{fd: fd, gate: g}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil {
		return nil, err
	}
	switch o.kind = st.Mode & unix.S_IFMT; o.kind {
	case unix.S_IFREG, unix.S_IFBLK:
		if flags&unix.O_APPEND == 0 { // else pwrite and splice ignore offsets
			o.random = true
			o.base, err = unix.Seek(fd, 0, unix.SEEK_CUR)
		}
	case unix.S_IFIFO:
		enlarge(fd)
	}
	return o, err
}

// reserve takes n bytes of free space, at an aligned offset if they do not go
// on at after. To be called with mu held.
func (o *output) reserve(n int64, align bool, after int64) extent {
	if align && after != o.next {
		o.next = roundUp(o.next)
	}
	x := extent{o.next, n}
	o.next += n
	if align && o.random && o.kind == unix.S_IFREG && o.allocated >= 0 && o.next > o.allocated {
		o.allocate()
	}
	return x
}

// The space that is asked for at once: as much as there is already, within
// limits, so that it is seldom asked for and never far too much.
const (
	leastAhead = 64 << 20
	mostAhead  = 1 << 30
)

// allocate asks for space before it is written to, which spares the file system
// the work for each page while processes are frozen. That it may be refused, for
// want of space also, says nothing about the writing.
func (o *output) allocate() {
	from := max(o.allocated, o.next-leastAhead)
	until := o.next + min(max(o.next, leastAhead), mostAhead)
	err := unix.Fallocate(o.fd, unix.FALLOC_FL_KEEP_SIZE, o.base+from, until-from)
	if o.allocated = until; err != nil {
		o.allocated = -1
	}
}

// trim gives back the space that was asked for and not used. To be called when
// all is written.
func (o *output) trim() {
	var st unix.Stat_t
	if o.allocated > 0 && unix.Fstat(o.fd, &st) == nil && st.Size == o.base+o.next {
		_ = unix.Ftruncate(o.fd, st.Size)
	}
}

// release gives back the end of a reservation, if nobody has got space behind
// it yet. Otherwise it remains a gap.
func (o *output) release(x extent, used int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.next == x.end() {
		o.next = x.offset + used
	}
}

// store writes p somewhere, and says where.
func (o *output) store(p []byte, align bool, after int64) (extent, error) {
	o.mu.Lock()
	if o.random {
		x := o.reserve(int64(len(p)), align, after)
		o.mu.Unlock()
		return x, o.writeAt(p, x.offset)
	}
	defer o.mu.Unlock()
	start := o.next
	x := o.reserve(int64(len(p)), align, after)
	return x, o.append(make([]byte, x.offset-start), p)
}

// writeAt writes p at an offset of the context.
func (o *output) writeAt(p []byte, offset int64) error {
	for len(p) > 0 {
		n, err := unix.Pwrite(o.fd, p, o.base+offset)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return err
		case n == 0:
			return unix.EIO
		}
		p = p[n:]
		offset += int64(n)
	}
	return nil
}

// append writes to the end of what is not random.
func (o *output) append(parts ...[]byte) error {
	for _, p := range parts {
		for len(p) > 0 && o.err == nil {
			if o.gate.isAborted() {
				o.err = unix.ECANCELED
				break
			}
			n, err := o.write(p)
			p = p[n:]
			switch {
			case err == unix.EAGAIN:
				o.err = o.wait()
			case err != nil && err != unix.EINTR:
				o.err = err
			case err == nil && n == 0:
				o.err = unix.EIO
			}
		}
	}
	return o.err
}

// write writes some of p. On pipes and sockets it does not block, whatever mode
// the descriptor is in: an abort could not end that. (That mode is shared with
// whoever opened the file, and not ours to change.)
func (o *output) write(p []byte) (n int, err error) {
	switch {
	case o.kind == unix.S_IFSOCK:
		n, err = unix.SendmsgN(o.fd, p, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	case o.kind == unix.S_IFIFO && !o.once:
		n, err = unix.Pwritev2(o.fd, [][]byte{p}, -1, unix.RWF_NOWAIT)
		if err == unix.EOPNOTSUPP || err == unix.ENOSYS { // before Linux 6.4
			o.once = true
			return 0, unix.EINTR // the same again
		}
	case o.once:
		if err = o.wait(); err == nil {
			n, err = unix.Write(o.fd, p[:min(len(p), pageSize)])
		}
	default:
		n, err = unix.Write(o.fd, p)
	}
	return max(n, 0), err
}

// wait returns when there may be room to write, or after an abort, for which it
// looks 20 times a second.
func (o *output) wait() error {
	fds := []unix.PollFd{{Fd: int32(o.fd), Events: unix.POLLOUT}}
	for !o.gate.isAborted() {
		n, err := unix.Poll(fds, 50)
		if err != nil && err != unix.EINTR {
			return err
		}
		if n > 0 {
			return nil
		}
	}
	return unix.ECANCELED
}

func roundUp(n int64) int64 { return (n + pageSize - 1) &^ (pageSize - 1) }
