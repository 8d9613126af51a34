package ctxfile

import (
	"context"
	"slices"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Reader reads a context. Its methods may be called from several goroutines at
// the same time.
type Reader struct {
	calls      *callGroup
	served     atomic.Int64
	fd         int
	base       int64 // where the context begins in the file
	end        trailer
	header     headerPage
	entries    []entry
	byName     map[string]*entry
	total      int64         // of all sizes
	decompress *decompressor // nil without compression
}

// Open opens the context that begins at the offset of fd. The descriptor remains
// the caller's and may be closed at once. The offset of a file is behind the
// context afterwards, and unchanged if there is an error.
//
// What is not a file is first copied into one without a name in os.TempDir(), or
// in memory where that cannot be. Of a pipe or a socket no more than the context
// is read if it was written into a file; one that was streamed ends where the pipe
// does. Cancelling ctx ends the wait for a pipe.
//
// Everything that the index says is checked against the file before Open returns.
// What remains unknown is whether the data of the members is as it was written.
//
// Errors, all *Error: EIO with a Reason if the file is truncated; EINVAL with a Reason
// if it is damaged, or is no context: then with ErrFormat or ErrBLCR, and nothing is consumed where
// Sniff can look. "write" with os.TempDir() as the Object, and ENOSPC, if there is
// no room for the copy. ECANCELED if ctx was cancelled. Else what the system says:
// EISDIR for a directory, EBADF for a descriptor that cannot be read.
func Open(ctx context.Context, fd int) (*Reader, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, fail("read", "", err)
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return nil, fail("read", "", unix.EISDIR)
	case unix.S_IFREG, unix.S_IFBLK:
		return openFile(fd)
	}
	file, err := copyToTemp(ctx, fd)
	if err != nil {
		return nil, err
	}
	r := &Reader{calls: newCallGroup(), fd: file}
	if err := r.load(); err != nil {
		unix.Close(file)
		return nil, err
	}
	return r, nil
}

func openFile(fd int) (*Reader, error) {
	base, err := unix.Seek(fd, 0, unix.SEEK_CUR)
	if err != nil {
		return nil, fail("read", "", err)
	}
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fail("read", "", err)
	}
	r := &Reader{calls: newCallGroup(), fd: dup, base: base}
	if err = r.load(); err == nil {
		if _, err = unix.Seek(fd, base+r.end.length, unix.SEEK_SET); err != nil {
			err = fail("read", "", err)
		}
	}
	if err != nil {
		unix.Close(dup)
		return nil, err
	}
	return r, nil
}

// load reads everything but the members.
func (r *Reader) load() error {
	page := make([]byte, pageSize)
	n, err := readAt(r.fd, page, r.base)
	if err != nil {
		return fail("read", "", err)
	}
	if r.header, err = parsePage(page[:n]); err != nil {
		return err
	}
	h := &r.header
	size, err := r.size()
	if err != nil {
		return fail("read", "", err)
	}
	t, err := r.findTrailer(h.trailer, size, h.id)
	if err != nil {
		return err
	}
	index := make([]byte, t.index.length) // at most maxIndex, and the file has it
	if err := r.read("", index, t.index.offset); err != nil {
		return err
	}
	if checksum(0, index) != t.sum {
		return invalid("", "index checksum does not match")
	}
	if r.entries, r.byName, err = parseIndex(index, t, h.version, h.Compression != ""); err != nil {
		return err
	}
	r.end = t
	if h.Compression != "" {
		r.decompress = newDecompressor(r)
	}
	for i := range r.entries {
		r.total += r.entries[i].size // cannot overflow, see parseIndex
	}
	return nil
}

// size returns how much there is in the file from the context's beginning.
func (r *Reader) size() (int64, error) {
	var st unix.Stat_t
	if err := unix.Fstat(r.fd, &st); err != nil {
		return 0, err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFREG {
		return st.Size - r.base, nil
	}
	// fstat does not tell the size of a device. The offset is put back: it is
	// the caller's.
	end, err := unix.Seek(r.fd, 0, unix.SEEK_END)
	if err != nil {
		return 0, err
	}
	_, err = unix.Seek(r.fd, r.base, unix.SEEK_SET)
	return end - r.base, err
}

// noTrailer is the reason for a context whose end is not there.
const noTrailer = "the index is missing from its end"

// errTrailer is the error of a context whose end is there, and is not as it was written.
func errTrailer() error { return invalid("", "the end of the index does not match the header") }

// errShorter is the error of a file that is not what it was when it was opened.
func errShorter(object string) error {
	return truncated(object, "the file has become shorter")
}

// findTrailer returns the trailer that belongs to the header with that ID. It lies
// at an offset, or if that is 0, somewhere before the end of the file.
func (r *Reader) findTrailer(at uint64, size int64, id [idLen]byte) (trailer, error) {
	if at != 0 {
		if !goodTrailerOffset(at) {
			return trailer{}, errTrailer()
		}
		if int64(at) > size-trailerLen {
			// The offset is in no checksum.
			if t, ok, err := r.trailer(size - trailerLen); err == nil && ok && t.id == id {
				return t, errTrailer()
			}
			return trailer{}, truncated("", noTrailer)
		}
		t, ok, err := r.trailer(int64(at))
		switch {
		case err != nil:
			return t, err
		case !ok || t.length != int64(at)+trailerLen:
			return t, errTrailer()
		case t.id != id:
			return t, invalid("", "the index is that of another context")
		}
		return t, nil
	}
	for end := size; end >= 2*pageSize; {
		t, ok, err := r.trailer(end - trailerLen)
		if err != nil {
			return t, err
		}
		if !ok || t.length > end {
			break
		}
		if end -= t.length; end == 0 {
			if t.id != id {
				return t, invalid("", "the index is that of another context")
			}
			return t, nil
		}
	}
	return trailer{}, truncated("", noTrailer+", or something follows it")
}

func (r *Reader) trailer(offset int64) (t trailer, ok bool, err error) {
	var b [trailerLen]byte
	if err := r.read("", b[:], offset); err != nil {
		return t, false, err
	}
	t, ok = parseTrailer(b[:])
	return t, ok, nil
}

// read reads all of b at an offset of the context.
func (r *Reader) read(object string, b []byte, offset int64) error {
	n, err := readAt(r.fd, b, r.base+offset)
	if err != nil {
		return fail("read", object, err)
	}
	if n < len(b) {
		return errShorter(object)
	}
	return nil
}

// Header returns what the context says of itself.
func (r *Reader) Header() Header {
	h := r.header.Header
	h.Command = slices.Clone(h.Command)
	h.PIDs = slices.Clone(h.PIDs)
	return h
}

// Length returns how many bytes the context takes, all from header to trailer.
func (r *Reader) Length() int64 { return r.end.length }

// Names returns the names of the members, in the order in which they were begun.
func (r *Reader) Names() []string {
	names := make([]string, len(r.entries))
	for i, e := range r.entries {
		names[i] = e.name
	}
	return names
}

// Has tells whether there is a member of that name.
func (r *Reader) Has(name string) bool { return r.byName[name] != nil }

// Size returns the size of a member in bytes, -1 if there is none of that name.
func (r *Reader) Size(name string) int64 {
	if e := r.byName[name]; e != nil {
		return e.size
	}
	return -1
}

// Stored returns how many bytes of the file a member takes, -1 if there is none of
// that name. That is its size, unless it is compressed.
func (r *Reader) Stored(name string) int64 {
	e := r.byName[name]
	if e == nil {
		return -1
	}
	if !e.compressed {
		return e.size
	}
	stored := int64(0)
	for _, f := range e.frames {
		stored += int64(f.stored)
	}
	return stored
}

// Served returns how many bytes of members have been served so far, and how many
// bytes the members have in all. A compressed context may say that it has up to
// 26,000 times the bytes of its file.
func (r *Reader) Served() (done, all int64) { return r.served.Load(), r.total }

// Abort makes every call in progress return soon, and every later one at once,
// with ECANCELED.
func (r *Reader) Abort() { r.calls.abort() }

// Close waits for calls in progress, and closes the Reader's descriptor. It always
// succeeds; the second time it does nothing.
func (r *Reader) Close() error {
	if r.calls.close() {
		unix.Close(r.fd)
	}
	return nil
}
