package ctxfile

import (
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// output is the file that a Writer writes.
type output struct {
	fd       int
	calls    *callGroup
	kind     uint32 // S_IFREG …
	seekable bool   // any offset can be written, and read
	base     int64  // if seekable: where the context begins in the file
	readable int    // if seekable: a descriptor of the file to read from, otherwise -1
	pagewise bool   // a pipe that a write of more than a page may block on

	mu   sync.Mutex
	next int64 // where free space begins, counted from the context's beginning
	err  error // not seekable: of the write that failed, after which nothing fits

	preallocates bool  // disk space is asked for in advance
	allocated    int64 // up to here
	ahead        bool  // some was given, which trim has to give back

	empty     bool        // the file had no content
	preparing atomic.Bool // until there is memory to write
	prepared  int64       // up to here there were zeros
}

// newOutput finds out what kind of file fd is.
func newOutput(fd int, calls *callGroup) (*output, error) {
	o := &output{fd: fd, calls: calls, readable: -1}
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
			o.seekable = true
			o.base, err = unix.Seek(fd, 0, unix.SEEK_CUR)
		}
		switch {
		case o.seekable && flags&unix.O_ACCMODE == unix.O_WRONLY:
			// What is written anywhere has to be read for its checksums.
			o.readable = reopen(fd)
			o.seekable = o.readable >= 0
		case o.seekable:
			o.readable = fd
		}
	case unix.S_IFIFO:
		enlarge(fd)
	}
	// A file that has been given space beyond its end keeps it.
	o.preallocates = o.seekable && o.kind == unix.S_IFREG && st.Blocks*512 <= st.Size+maxSlack
	o.allocated = max(0, st.Size-o.base)
	o.empty = o.seekable && o.kind == unix.S_IFREG && st.Size == 0 && o.base == 0
	return o, err
}

const (
	// aheadStep is how much disk space is asked for at a time: seldom, and never far too much,
	// for some file systems have the disk discard what is given back, before fsync returns.
	aheadStep = 64 << 20

	// maxSlack is what a file takes on a disk beyond its size without having been
	// given space in advance: the rest of a block, and blocks with addresses.
	maxSlack = 1 << 20
)

// reserve takes n bytes of free space, at an aligned offset if they do not
// continue at after. o.mu must be held.
func (o *output) reserve(n int64, align bool, after int64) extent {
	if align && after != o.next {
		o.next = roundUp(o.next)
	}
	x := extent{o.next, n}
	o.next += n
	if align {
		o.preparing.Store(false)
	}
	if align && o.preallocates && o.next > o.allocated {
		o.allocate()
	}
	return x
}

// prepare writes zeros to the first n bytes that are free, until there is memory to
// write, so that less is to be done while processes are frozen: the pages of the page
// cache are there, and blocks on the disk. release cuts off what remains of it.
func (o *output) prepare(n int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.empty || !o.preallocates {
		return
	}
	end := roundUp(o.next + n)
	if o.ask(0, end) != nil {
		return
	}
	o.allocated, o.ahead = max(o.allocated, end), true
	const step = 128 << 10 // each page of zeroFrame costs a page fault
	for o.preparing.Store(true); ; {
		// What is reserved is not touched, and nothing is reserved meanwhile.
		at := max(o.prepared, roundUp(o.next))
		part := zeroFrame[:max(min(end-at, step), 0)]
		if len(part) == 0 || o.calls.isAborted() || writeAt(o.fd, part, at) != nil {
			return
		}
		o.prepared = at + int64(len(part))
		o.mu.Unlock()
		goOn := o.preparing.Load()
		o.mu.Lock()
		if !goOn {
			return
		}
	}
}

// allocate asks for disk space before it is written to, which spares the file
// system the work for each page while processes are frozen. That it may be
// refused, for want of space also, says nothing about the writing.
func (o *output) allocate() {
	from := max(o.allocated, o.next-aheadStep)
	until := o.next + aheadStep
	err := o.ask(from, until)
	o.allocated = until
	o.preallocates = err == nil
	o.ahead = o.ahead || err == nil
}

// ask has disk space allocated, if that leaves as much for others: what a compressed context
// is staged in is on the disk of the context itself, and the processes may need some.
func (o *output) ask(from, until int64) error {
	var fs unix.Statfs_t
	if unix.Fstatfs(o.fd, &fs) == nil && fs.Blocks > 0 && uint64(until-from)/uint64(fs.Bsize) > fs.Bavail/2 {
		return unix.ENOSPC
	}
	err := unix.Fallocate(o.fd, unix.FALLOC_FL_KEEP_SIZE, o.base+from, until-from)
	if err == unix.ENOSPC || err == unix.EDQUOT {
		o.giveBack(until)
	}
	return err
}

// giveBack gives back what was allocated before the rest was refused, as ext4 does it where
// another writer, or a quota, took that. A hole can only be made within the file, which is cut
// to its length by trim.
func (o *output) giveBack(until int64) {
	free := roundUp(o.next)
	if unix.Ftruncate(o.fd, o.base+until) != nil {
		return
	}
	_ = unix.Fallocate(o.fd, unix.FALLOC_FL_KEEP_SIZE|unix.FALLOC_FL_PUNCH_HOLE, o.base+free, until-free)
	o.prepared, o.ahead = max(o.prepared, until), true
}

// reopen opens the file that is open for writing for reading as well, or returns -1, as where
// the server of a file system does not allow that. It is a variable for tests.
var reopen = func(fd int) int {
	again, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		return -1
	}
	return again
}

// release gives back what the output needed, when nothing is written any more.
func (o *output) release() {
	o.trim()
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.readable >= 0 && o.readable != o.fd {
		unix.Close(o.readable)
	}
	o.readable = -1
}

// writeOut has the kernel begin to write to the disk what is in the page cache, up to each
// of the offsets that come, until stop is called, which does not wait for the disk. No more
// may come then.
func (o *output) writeOut(ready <-chan int64) (stop func()) {
	const step = 8 << 20
	var stopped atomic.Bool
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		at := int64(0)
		for end := range ready {
			for at+step <= end || at < end && len(ready) == 0 {
				n := min(step, end-at)
				if stopped.Load() || o.calls.isAborted() || unix.SyncFileRange(o.fd, o.base+at, n, unix.SYNC_FILE_RANGE_WRITE) != nil {
					return
				}
				at += n
			}
		}
	}()
	return func() {
		stopped.Store(true)
		<-ended
	}
}

// trim gives back the disk space beyond the end of the file that allocate has
// asked for. It is to be called when nothing is written any more.
func (o *output) trim() {
	o.mu.Lock()
	defer o.mu.Unlock()
	var st unix.Stat_t
	if o.ahead && unix.Fstat(o.fd, &st) == nil && (st.Size < o.base+o.allocated || o.prepared > o.next) {
		// Punching a hole does nothing beyond the end of a file on ext4.
		end := st.Size
		if o.prepared > o.next {
			end = min(end, o.base+o.next)
		}
		_ = unix.Ftruncate(o.fd, end)
	}
	o.ahead, o.preallocates = false, false
}

// unreserve gives back the end of a reservation, unless space behind it has been
// reserved meanwhile. Then it remains a gap.
func (o *output) unreserve(x extent, used int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.next == x.end() {
		o.next = x.offset + used
	}
}

// store writes p, and returns where.
func (o *output) store(p []byte, align bool, after int64) (extent, error) {
	o.mu.Lock()
	if o.seekable {
		x := o.reserve(int64(len(p)), align, after)
		o.mu.Unlock()
		return x, writeAt(o.fd, p, o.base+x.offset)
	}
	defer o.mu.Unlock()
	start := o.next
	x := o.reserve(int64(len(p)), align, after)
	return x, o.append(make([]byte, x.offset-start), p)
}

// append writes to the end of what is not seekable.
func (o *output) append(parts ...[]byte) error {
	for _, p := range parts {
		for len(p) > 0 && o.err == nil {
			if o.calls.isAborted() {
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
// the descriptor is in: an abort could not interrupt that. The mode is shared with
// the process that opened the file, and is not ours to change.
func (o *output) write(p []byte) (n int, err error) {
	switch {
	case o.kind == unix.S_IFSOCK:
		n, err = unix.SendmsgN(o.fd, p, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	case o.kind == unix.S_IFIFO && !o.pagewise:
		n, err = unix.Pwritev2(o.fd, [][]byte{p}, -1, unix.RWF_NOWAIT)
		if err == unix.EOPNOTSUPP || err == unix.ENOSYS { // before Linux 6.4
			o.pagewise = true
			return 0, unix.EINTR // try again
		}
	case o.pagewise:
		if err = o.wait(); err == nil {
			n, err = unix.Write(o.fd, p[:min(len(p), pageSize)])
		}
	default:
		n, err = unix.Write(o.fd, p)
	}
	return max(n, 0), err
}

// wait returns when there may be room to write, or after an abort.
func (o *output) wait() error {
	_, err := poll(o.calls.aborted, o.fd, unix.POLLOUT)
	return err
}

func roundUp(n int64) int64 { return (n + pageSize - 1) &^ (pageSize - 1) }
