package ctxfile

import (
	"encoding/binary"
	"io"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// Writer writes a context. Its methods may be called from many goroutines at
// the same time. It holds no descriptor, so one that is no longer needed can be
// forgotten.
type Writer struct {
	gate   gate
	out    *output
	id     [idLen]byte
	stored atomic.Int64
	plain  atomic.Bool // splice does not work on this file
	pack   *packing    // nil without compression

	mu     sync.Mutex
	images []*entry
	names  map[string]bool
	err    error // the first that spoilt the context
}

// NewWriter begins a context at the offset of fd, and writes its header. With a
// level from MinLevel to MaxLevel the members are compressed; all of them pass
// through memory then, of which the Writer has a fixed amount until it is
// forgotten. With level 0 they are not.
//
// The descriptor remains the caller's, must stay open until Close or the last
// call after Abort has returned, and is not to be moved meanwhile. It may be
// non-blocking; its mode is not changed. fsync is left to the caller.
//
// Errors are those of fstat(2), lseek(2) and write(2). The process must not
// die of SIGXFSZ, which the Go runtime does unless the signal is ignored;
// SIGPIPE does no harm.
func NewWriter(fd int, h Header, level int) (*Writer, error) {
	w := &Writer{names: map[string]bool{}}
	h.Compression = ""
	if level != 0 {
		h.Compression = Zstd
		w.pack = newPacking(w, level)
	}
	_, err := unix.Getrandom(w.id[:], 0)
	if err != nil {
		return nil, fail("getrandom", "", err)
	}
	if w.out, err = newOutput(fd, &w.gate); err == nil {
		_, err = w.out.store(h.page(w.id), false, -1)
	}
	if err != nil {
		return nil, fail("write", "", err)
	}
	return w, nil
}

// Pipe stores what comes out of pipe, up to its end, as the image name. It is
// meant for a pipe, and takes anything that can be read. When it has returned
// nil, all of it has been copied: nothing refers to the pages of the process that
// filled the pipe.
//
// With aligned, which is for memory, the data begins at multiples of 4096 in the
// file, is moved by the kernel where it can be, and the pipe becomes larger.
//
// The descriptor remains the caller's. While Pipe runs it is non-blocking.
//
// Errors, all *Error with name as the Object: "write" if the context's file
// refuses (ENOSPC, EDQUOT, EFBIG, EIO, EPIPE …), "read" if the pipe does,
// "splice" if it may have been either; EEXIST for a name that was used before
// and EINVAL for an impossible one; ECANCELED after Abort, EBADF after Close.
// Any of them spoils the context, but for the last four: Close will fail.
func (w *Writer) Pipe(name string, pipe int, aligned bool) error {
	return w.image(name, aligned, func(d *drain) error {
		p, err := w.gate.open(pipe)
		if err != nil {
			return fail("read", name, err)
		}
		defer p.close()
		if aligned {
			enlarge(pipe)
			if d.packed != nil {
				if err := p.read(d.packed.copy); err != nil {
					return fail("read", name, err)
				}
				return d.finish()
			}
			// Only where splice copies. A pipe or socket would be given
			// references to pages that their owner goes on changing.
			if isPipe(pipe) && w.out.random && !w.plain.Load() {
				if err := p.read(d.splice); err != unix.EINVAL || d.entry.size > 0 {
					return fail("splice", name, err)
				}
				w.plain.Store(true)
			}
		}
		if err := p.read(d.copy); err != nil {
			return fail("read", name, err)
		}
		return d.finish()
	})
}

// File stores what r reads, up to io.EOF, as the image name. Errors are those
// of Pipe; one of r that has no Errno becomes EIO. Abort does not interrupt a
// Read.
func (w *Writer) File(name string, r io.Reader) error {
	return w.image(name, false, func(d *drain) error {
		for {
			n, err := r.Read(d.room())
			d.n += n
			switch {
			case w.gate.isAborted():
				return unix.ECANCELED
			case err == io.EOF:
				return d.finish()
			case err != nil:
				return fail("read", name, err)
			}
			if err := d.flushFull(); err != nil {
				return err
			}
		}
	})
}

// Bytes stores data as the image name. Errors are those of Pipe.
func (w *Writer) Bytes(name string, data []byte) error {
	return w.image(name, false, func(d *drain) error {
		if len(data) < minPacked {
			d.packed = nil
		}
		if err := d.store(data); err != nil {
			return err
		}
		return d.finish()
	})
}

// Stored returns how many bytes of images have been stored so far.
func (w *Writer) Stored() int64 { return w.stored.Load() }

// Abort makes every call under way return soon, and every later one at once,
// with ECANCELED. What cannot be interrupted is a disk that does not answer.
func (w *Writer) Abort() { w.gate.abort() }

// Close writes the index, without which what was written is not a context, and
// leaves the descriptor's offset behind the context. If an image is incomplete
// it returns that image's error and writes nothing; after Abort, ECANCELED. It
// waits for calls under way. An index of more than 64 MiB or 1048576 images is
// EFBIG.
func (w *Writer) Close() error {
	if !w.gate.close() {
		return fail("write", "", unix.EBADF)
	}
	if w.gate.isAborted() {
		return fail("write", "", unix.ECANCELED)
	}
	if w.err != nil {
		return w.err
	}
	if err := w.finish(); err != nil {
		return fail("write", "", err)
	}
	w.out.trim()
	return nil
}

// finish writes index and trailer, then the trailer's offset into the header.
func (w *Writer) finish() error {
	var b []byte
	for _, e := range w.images {
		b = e.appendTo(b)
	}
	if len(b) > maxIndex || len(w.images) > maxImages {
		return unix.EFBIG
	}
	o := w.out
	t := trailer{
		id:     w.id,
		index:  extent{o.next, int64(len(b))},
		length: roundUp(o.next + int64(len(b)) + trailerLen),
		count:  uint32(len(w.images)),
		sum:    checksum(0, b),
	}
	b = append(b, make([]byte, t.length-trailerLen-t.index.end())...)
	b = append(b, t.bytes()...)
	if _, err := o.store(b, false, -1); err != nil || !o.random {
		return err
	}
	field := binary.LittleEndian.AppendUint64(nil, uint64(t.length-trailerLen))
	if err := o.writeAt(field, tailOffset); err != nil {
		return err
	}
	_, err := unix.Seek(o.fd, o.base+t.length, unix.SEEK_SET)
	return err
}

// image begins an image and has it stored.
func (w *Writer) image(name string, aligned bool, store func(*drain) error) error {
	if err := w.gate.enter(); err != nil {
		return fail("write", name, err)
	}
	defer w.gate.leave()
	if !goodName(name) {
		return fail("write", name, unix.EINVAL)
	}
	d := &drain{w: w, aligned: aligned, entry: &entry{name: name, hasSum: true}}
	if w.pack != nil {
		d.packed = &packed{packing: w.pack, entry: d.entry}
	}
	w.mu.Lock()
	if w.names[name] {
		w.mu.Unlock()
		return fail("write", name, syscall.EEXIST)
	}
	w.names[name] = true
	w.images = append(w.images, d.entry)
	w.mu.Unlock()

	err := store(d)
	d.done()
	if err == nil {
		return nil
	}
	err = fail("write", name, err)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
	}
	return err
}
