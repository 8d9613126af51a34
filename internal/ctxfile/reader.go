package ctxfile

import (
	"slices"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// maxBytes is the largest image that Bytes returns.
const maxBytes = 64 << 20

// Reader reads a context. Its methods may be called from many goroutines at the
// same time.
type Reader struct {
	served  atomic.Int64
	gate    gate
	fd      int
	base    int64
	length  int64
	header  Header
	entries []*entry
	byName  map[string]*entry
	unpack  *unpacking // nil without compression
}

// Open opens the context that begins at the offset of fd. The descriptor
// remains the caller's and may be closed at once. The offset of a file is
// behind the context afterwards, and unchanged if there is an error.
//
// What is not a file is first copied into one without a name in os.TempDir(),
// or in memory where that cannot be. Of a pipe or a socket nothing more than
// the context is read if it was written into a file; one that was streamed
// ends where the pipe does.
//
// Errors, all *Error: EINVAL with a Reason if it is not a context, with
// ErrFormat or, with nothing consumed where Sniff can do it, ErrBLCR; if it is
// truncated or damaged. "write" with os.TempDir() as the Object if that is
// full. Else what the system says: EISDIR for a directory, EBADF for a
// descriptor that cannot be read.
func Open(fd int) (*Reader, error) {
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
	file, err := spool(fd)
	if err != nil {
		return nil, err
	}
	r := &Reader{fd: file}
	if _, err := r.load(); err != nil {
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
	r := &Reader{fd: dup, base: base}
	length, err := r.load()
	if err == nil {
		if _, err = unix.Seek(fd, base+length, unix.SEEK_SET); err != nil {
			err = fail("read", "", err)
		}
	}
	if err != nil {
		unix.Close(dup)
		return nil, err
	}
	return r, nil
}

// load reads everything but the images, and returns the context's length.
func (r *Reader) load() (int64, error) {
	page := make([]byte, pageSize)
	n, err := readAt(r.fd, page, r.base)
	if err != nil {
		return 0, fail("read", "", err)
	}
	h, id, at, err := checkPage(page[:n])
	if err != nil {
		return 0, err
	}
	size, err := r.size()
	if err != nil {
		return 0, fail("read", "", err)
	}
	t, err := r.findTrailer(at, size, id)
	if err != nil {
		return 0, err
	}
	index := make([]byte, t.index.length) // not more than the file has
	if err := r.read("", index, t.index.offset); err != nil {
		return 0, err
	}
	if checksum(0, index) != t.sum {
		return 0, invalid("", "index checksum does not match")
	}
	if r.entries, err = parseIndex(index, t, h.Compression != ""); err != nil {
		return 0, err
	}
	r.length = t.length
	if r.header = h; h.Compression != "" {
		r.unpack = newUnpacking(r)
	}
	r.byName = make(map[string]*entry, len(r.entries))
	for _, e := range r.entries {
		r.byName[e.name] = e
	}
	return t.length, nil
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
	// A device does not tell its size by fstat. The offset is put back: it
	// is the caller's.
	end, err := unix.Seek(r.fd, 0, unix.SEEK_END)
	if err != nil {
		return 0, err
	}
	_, err = unix.Seek(r.fd, r.base, unix.SEEK_SET)
	return end - r.base, err
}

// findTrailer returns the trailer that belongs to the header with that ID. It
// lies at an offset, or if that is 0, somewhere before the end of the file.
func (r *Reader) findTrailer(at uint64, size int64, id [idLen]byte) (trailer, error) {
	missing := invalid("", "the index is missing from its end: truncated, or something follows it")
	if at != 0 {
		if at%pageSize != pageSize-trailerLen || at > uint64(max(size, trailerLen)-trailerLen) {
			return trailer{}, missing
		}
		t, ok, err := r.trailer(int64(at))
		switch {
		case err != nil:
			return t, err
		case !ok || t.length != int64(at)+trailerLen:
			return t, missing
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
	return trailer{}, missing
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
		return invalid(object, "truncated: the file has become shorter")
	}
	return nil
}

// Header returns what the context says of itself.
func (r *Reader) Header() Header {
	h := r.header
	h.Command = slices.Clone(h.Command)
	h.PIDs = slices.Clone(h.PIDs)
	return h
}

// Length returns how many bytes the context takes, all from header to trailer.
func (r *Reader) Length() int64 { return r.length }

// Names returns the names of the images, in the order in which they were begun.
func (r *Reader) Names() []string {
	names := make([]string, len(r.entries))
	for i, e := range r.entries {
		names[i] = e.name
	}
	return names
}

// Has tells whether there is an image of that name.
func (r *Reader) Has(name string) bool { return r.byName[name] != nil }

// Size returns the size of an image in bytes, -1 if there is none of that name.
func (r *Reader) Size(name string) int64 {
	if e := r.byName[name]; e != nil {
		return e.size
	}
	return -1
}

// Stored returns how much an image takes of the file, -1 if there is none of
// that name. That is its size, but for a compressed one.
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

// Served returns how many bytes of images have been served so far, of how many
// that there are.
func (r *Reader) Served() (done, all int64) {
	for _, e := range r.entries {
		all += e.size
	}
	return r.served.Load(), all
}

// Abort makes every Serve under way return soon, and every later
// call at once, with ECANCELED.
func (r *Reader) Abort() { r.gate.abort() }

// Close waits for calls under way, and gives the Reader's descriptor back. It
// always succeeds; the second time it does nothing.
func (r *Reader) Close() error {
	if r.gate.close() {
		unix.Close(r.fd)
	}
	return nil
}
