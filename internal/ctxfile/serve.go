package ctxfile

import (
	"errors"

	"golang.org/x/sys/unix"
)

// maxBytes is the largest member that Bytes returns.
const maxBytes = 64 << 20

// Bytes returns the content of a member. Errors are those of Serve, and EFBIG for
// a member of more than 64 MiB.
func (r *Reader) Bytes(name string) ([]byte, error) {
	var b []byte
	err := r.member(name, func(e *entry) error {
		if e.size > maxBytes {
			return unix.EFBIG
		}
		if e.compressed {
			return r.decompress.scan(e, func(data []byte) error {
				b = append(b, data...)
				return nil
			})
		}
		b = make([]byte, e.size) // extents do not overlap: the file has that much
		return r.readChecked(e, b, 0)
	})
	if err != nil {
		return nil, err
	}
	return b, nil
}

// ReadAt reads the part of a member that begins at an offset: all of b, or what
// there is up to the member's end. It checks what it reads: the frames of a compressed
// member that b touches, of others the chunks, of which it reads the rest as well where
// b has only a part. So a part that begins and ends at multiples of ChunkSize is cheapest.
// Of a context that has no checksums of chunks it checks nothing. Errors are those of
// Serve.
func (r *Reader) ReadAt(name string, b []byte, offset int64) (n int, err error) {
	if offset < 0 {
		return 0, fail("read", name, unix.EINVAL)
	}
	err = r.member(name, func(e *entry) error {
		if e.compressed {
			buf := r.decompress.frames.get(r.calls)
			if buf == nil {
				return unix.ECANCELED
			}
			defer r.decompress.frames.put(buf)
			for _, f := range e.frames {
				if n == len(b) {
					break
				}
				if offset < int64(f.length) {
					to := buf[:]
					if offset == 0 && int(f.length) <= len(b)-n {
						to = b[n:]
					}
					data, err := r.decompress.readFrame(e, f, to)
					if err != nil {
						return err
					}
					if f.stored != 0 && &to[0] == &b[n] {
						n += len(data)
					} else {
						n += copy(b[n:], data[offset:])
					}
				}
				offset = max(0, offset-int64(f.length))
			}
			return nil
		}
		n = int(min(int64(len(b)), max(e.size-offset, 0)))
		if err := r.readChecked(e, b[:n], offset); err != nil {
			n = 0
			return err
		}
		return nil
	})
	return n, err
}

// littleMemory is how much memory is read twice, to be checked before it is served: some
// milliseconds.
const littleMemory = 8 << 20

// Serve writes a member into a pipe, all of it or as much as the pipe's reader
// wants: that it went away is no error. A member is checked before, so that the reader
// sees good data or none; of a compressed member each frame is checked before the
// reader sees it. Memory that is not compressed, if it is much, is moved by the kernel
// and not checked; see Verify.
//
// The descriptor remains the caller's, which closes it to let the reader see the
// end. It is non-blocking while Serve runs, and a pipe for a large member is
// enlarged.
//
// Errors, all *Error with name as the Object: ENOENT if there is no such member;
// EINVAL with a Reason if it is damaged; "read" if the context's file fails,
// "write" if the pipe does, "splice" if it may be either; ECANCELED after Abort,
// EBADF after Close.
func (r *Reader) Serve(name string, pipe int) error {
	return r.member(name, func(e *entry) error {
		if !e.compressed && (!e.memory || e.size <= littleMemory) {
			if err := r.scan(e); err != nil {
				return err
			}
		}
		p, err := r.calls.openPipe(pipe)
		if err != nil {
			return fail("write", name, err)
		}
		defer p.close()
		if e.size > smallPipe {
			enlarge(pipe)
		}
		if e.compressed {
			s := frameServer{decompressor: r.decompress, entry: e}
			err = p.write(s.step)
			s.drop()
		} else {
			s := extentServer{r: r, entry: e, left: e.extents}
			err = p.write(s.splice)
			if err == unix.EINVAL && !s.begun { // not a pipe, or an odd file system
				err = s.copy(p)
			}
		}
		if errors.Is(err, unix.EPIPE) {
			return nil
		}
		return fail("splice", name, err)
	})
}

// member has do work on a member.
func (r *Reader) member(name string, do func(*entry) error) error {
	if err := r.calls.begin(); err != nil {
		return fail("read", name, err)
	}
	defer r.calls.end()
	e := r.byName[name]
	if e == nil {
		return fail("read", name, unix.ENOENT)
	}
	return fail("read", name, do(e))
}

// extentServer writes a member that is not compressed into a pipe.
type extentServer struct {
	r     *Reader
	entry *entry
	left  []extent // those not finished
	done  int64    // how much of the first of them is
	begun bool     // something is in the pipe
}

// piece returns the next piece that is in one place, or an empty one.
func (s *extentServer) piece() extent {
	if len(s.left) == 0 {
		return extent{}
	}
	return extent{s.left[0].offset + s.done, s.left[0].length - s.done}
}

// advance notes that the next n bytes are in the pipe.
func (s *extentServer) advance(n int64) {
	s.r.served.Add(n)
	s.begun = true
	if s.done += n; s.done == s.left[0].length {
		s.left, s.done = s.left[1:], 0
	}
}

// splice has the kernel fill the pipe. It is a step of pipeEnd.write.
func (s *extentServer) splice(fd int) (bool, error) {
	for {
		if s.r.calls.isAborted() {
			return false, unix.ECANCELED
		}
		x := s.piece()
		if x.length == 0 {
			return true, nil
		}
		offset := s.r.base + x.offset
		n, err := splice(s.r.fd, &offset, fd, nil, int(min(x.length, largePipe)))
		switch {
		case err == unix.EAGAIN:
			return false, nil
		case err != nil:
			return false, err
		case n == 0:
			return false, errShorter(s.entry.name)
		}
		s.advance(n)
	}
}

// copy fills the pipe without the kernel's help.
func (s *extentServer) copy(p *pipeEnd) error {
	buf := getBuffer()
	defer putBuffer(buf)
	return p.write(func(fd int) (bool, error) {
		for {
			if s.r.calls.isAborted() {
				return false, unix.ECANCELED
			}
			x := s.piece()
			if x.length == 0 {
				return true, nil
			}
			b := buf[:min(x.length, bufferSize)]
			if err := s.r.read(s.entry.name, b, x.offset); err != nil {
				return false, err
			}
			n, err := unix.Write(fd, b)
			switch {
			case err == unix.EINTR:
			case err == unix.EAGAIN:
				return false, nil
			case err != nil:
				return false, fail("write", s.entry.name, err)
			default:
				s.advance(int64(n))
			}
		}
	})
}
