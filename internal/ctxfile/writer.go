package ctxfile

import (
	"encoding/binary"
	"io"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// Writer writes a context. Its methods may be called from several goroutines at
// the same time. It owns no descriptor.
type Writer struct {
	calls    *callGroup
	out      *output
	id       [idLen]byte
	stored   atomic.Int64
	noSplice atomic.Bool // splice does not work on this file, or it cannot be read
	compress *compressor // nil without compression
	relays   *relays
	early    bool        // see WriteEarly
	closing  atomic.Bool // Close was called
	stage    *output     // of the staging file, or nil
	aside    *aside      // or nil

	mu      sync.Mutex
	entries []*entry
	names   map[string]*entry // the same, by name
	err     error             // the first that spoilt the context
}

// NewWriter begins a context at the offset of fd, and writes its header. With a
// level from MinLevel to MaxLevel the members are compressed; all of them then
// pass through memory, of which the Writer has a fixed amount. With level 0 they
// are not.
//
// The descriptor remains the caller's. It must stay open, and its offset must not
// be moved, until Close has returned, or the last call after Abort. It may be
// non-blocking; its mode is not changed. fsync is left to the caller.
//
// A Writer ends with Close or Abort. Until then a regular file may have up to
// 1 GiB of disk space allocated beyond its end.
//
// The kernel moves memory into the file only if the Writer can also read it: the
// descriptor, or else the file by way of /proc.
//
// Errors are those of fstat(2), lseek(2) and write(2). The process must not die of
// SIGXFSZ, which the Go runtime does unless the signal is ignored. SIGPIPE does no
// harm.
func NewWriter(fd int, h Header, level int) (*Writer, error) {
	w := &Writer{calls: newCallGroup(), names: map[string]*entry{}, relays: newRelays()}
	h.Compression = ""
	if level != 0 {
		h.Compression = Zstd
		w.compress = newCompressor(w, level)
	}
	_, err := unix.Getrandom(w.id[:], 0)
	if err != nil {
		return nil, fail("getrandom", "", err)
	}
	if w.out, err = newOutput(fd, w.calls); err == nil {
		_, err = w.out.store(h.page(w.id), false, -1)
	}
	if err != nil {
		if w.out != nil {
			w.out.release()
		}
		return nil, fail("write", "", err)
	}
	return w, nil
}

// Pipe stores what comes out of pipe, up to its end, as the member name. It is
// meant for a pipe, and takes any descriptor that can be read. When it returns
// nil, all data has been copied: nothing refers to the pages of the process that
// filled the pipe.
//
// With aligned, which is for memory, the data lies at multiples of 4096 in the
// file and is moved by the kernel where it can be, and the pipe is enlarged. Close
// reads what the kernel has moved to compute its checksums. Where the kernel does not move
// it, as into a pipe, what Patch is for is kept out of the context, see narrowed.
//
// The descriptor remains the caller's. It is non-blocking while Pipe runs.
//
// Errors, all *Error with name as the Object: "write" if the context's file
// refuses (ENOSPC, EDQUOT, EFBIG, EIO, EPIPE …), "read" if the pipe does,
// "splice" if it may have been either; EEXIST for a name that was used before,
// EINVAL for an impossible one; ECANCELED after Abort, EBADF after Close. All but
// the last four spoil the context: Close will fail.
func (w *Writer) Pipe(name string, pipe int, aligned bool) error {
	return w.pipe(name, pipe, aligned, nil)
}

// PipeKept is Pipe for what is not memory, and returns the first bytes of it, most at the
// most.
func (w *Writer) PipeKept(name string, pipe, most int) (kept []byte, err error) {
	t := &tap{most: most}
	err = w.pipe(name, pipe, false, t)
	return t.kept, err
}

func (w *Writer) pipe(name string, pipe int, aligned bool, t *tap) error {
	return w.member(name, aligned, func(m *memberWriter) error {
		switch { // at once: CRIU begins to fill it
		case aligned && w.correctable():
			enlarge(pipe)
		case aligned:
			narrow(pipe)
		}
		p, err := w.calls.openPipe(pipe)
		if err != nil {
			return fail("read", name, err)
		}
		defer p.close()
		var to intake = m
		if t != nil {
			t.intake, to = m, t
		}
		if aligned {
			w.out.preparing.Store(false)
			if m.frames != nil {
				to = m.frames
				if w.stage != nil && isPipe(pipe) {
					if ended, err := m.stage(p, pipe); ended || err != nil {
						return fail("splice", name, err)
					}
				}
			}
			// Splice only to where it copies. A pipe or a socket would be given
			// references to pages that their process goes on changing.
			if m.frames == nil && isPipe(pipe) && w.correctable() {
				ok, err := m.relayPipe(pipe)
				if ok {
					return fail("splice", name, err)
				}
				if err := p.read(m.splicePipe); err != unix.EINVAL || m.entry.size > 0 {
					return fail("splice", name, err)
				}
				w.noSplice.Store(true)
			}
			to = &narrowed{intake: to, pipe: pipe}
		}
		err = p.read(func(fd int) (bool, error) { return m.copyPipe(fd, to) })
		if err != nil {
			return fail("read", name, err)
		}
		return m.finish()
	})
}

// correctable tells whether memory that is stored now can be corrected by Patch.
func (w *Writer) correctable() bool {
	if w.compress != nil {
		return w.stage != nil
	}
	return w.out.readable >= 0 && !w.noSplice.Load()
}

// Prepare writes zeros where up to n bytes of memory are going to be written, if that is an
// empty file, and returns when that is done, Pipe has memory, or after Abort. It spares
// Pipe the allocation of memory and disk space. What is not used is cut off by Close, and
// after Abort.
func (w *Writer) Prepare(n int64) {
	o := w.out
	if w.compress != nil {
		o = w.stage
	}
	if o == nil || w.calls.begin() != nil {
		return
	}
	defer w.trimIfOver()
	defer w.calls.end()
	o.prepare(n)
}

// File stores what r reads, up to io.EOF, as the member name. Errors are those of
// Pipe; one of r that has no Errno becomes EIO. Abort does not interrupt a Read.
func (w *Writer) File(name string, r io.Reader) error {
	return w.member(name, false, func(m *memberWriter) error {
		for {
			room, _ := m.room() // never fails
			n, err := r.Read(room)
			if e := m.filled(n); e != nil {
				return e
			}
			switch {
			case w.calls.isAborted():
				return unix.ECANCELED
			case err == io.EOF:
				return m.finish()
			case err != nil:
				return fail("read", name, err)
			}
		}
	})
}

// Bytes stores data as the member name. Errors are those of Pipe.
func (w *Writer) Bytes(name string, data []byte) error {
	return w.member(name, false, func(m *memberWriter) error {
		if len(data) < minCompressed {
			m.frames = nil
		}
		if err := m.store(data); err != nil {
			return err
		}
		return m.finish()
	})
}

// Stored returns how many bytes of members have been stored so far, not counting
// what compression saves.
func (w *Writer) Stored() int64 { return w.stored.Load() }

// Size returns the size of a member in bytes, however it is stored, -1 if there is none of
// that name. The call that stores it must have returned.
func (w *Writer) Size(name string) int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch e := w.names[name]; {
	case e == nil:
		return -1
	case e.staged != nil:
		return e.staged.size
	default:
		return e.size
	}
}

// Abort makes every call in progress return soon, and every later one at once,
// with ECANCELED. It gives back what disk space was allocated in advance; if calls
// are in progress the last of them does that. A disk that does not answer cannot
// be interrupted.
func (w *Writer) Abort() {
	w.calls.abort()
	w.trimIfOver()
}

// trimIfOver gives back disk space after Abort, when nothing is in progress.
func (w *Writer) trimIfOver() {
	if w.calls.isAborted() && w.calls.isIdle() {
		w.release()
	}
}

// release gives back what all calls share, when none is in progress any more.
func (w *Writer) release() {
	w.relays.release()
	w.out.release()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stage != nil { // nothing is left of it, so it need not be trimmed
		unix.Close(w.stage.fd)
		w.stage = nil
	}
	w.releaseAside()
}

// Close writes the index, without which the file is not a context, and leaves the
// descriptor's offset behind the context. It waits for calls in progress. If a
// member is incomplete Close returns that member's error and writes nothing; after
// Abort, ECANCELED; the second time, EBADF. EFBIG: the index would have more than
// 64 MiB or 1048576 members.
func (w *Writer) Close() error {
	w.closing.Store(true)
	if !w.calls.close() {
		return fail("write", "", unix.EBADF)
	}
	defer w.release()
	if w.calls.isAborted() {
		return fail("write", "", unix.ECANCELED)
	}
	if w.err != nil {
		return w.err
	}
	if err := w.compressStaged(); err != nil {
		return err
	}
	if err := w.finish(); err != nil {
		return fail("write", "", err)
	}
	return nil
}

// finish computes the checksums that are not known yet, writes index and trailer, and
// then the trailer's offset into the header.
func (w *Writer) finish() error {
	gaps, err := w.sumRest()
	if err != nil {
		return err
	}
	var b []byte
	for _, e := range w.entries {
		b = e.appendTo(b)
	}
	if len(b) > maxIndex || len(w.entries) > maxMembers {
		return unix.EFBIG
	}
	o := w.out
	t := trailer{
		id:     w.id,
		index:  extent{o.next, int64(len(b))},
		length: roundUp(o.next + int64(len(b)) + trailerLen),
		count:  uint32(len(w.entries)),
		sum:    checksum(0, b),
		gaps:   gaps,
	}
	b = append(b, make([]byte, t.length-trailerLen-t.index.end())...)
	b = append(b, t.bytes()...)
	if _, err := o.store(b, false, -1); err != nil || !o.seekable {
		return err
	}
	field := binary.LittleEndian.AppendUint64(nil, uint64(t.length-trailerLen))
	if err := writeAt(o.fd, field, o.base+trailerField); err != nil {
		return err
	}
	_, err = unix.Seek(o.fd, o.base+t.length, unix.SEEK_SET)
	return err
}

// member begins a member and has it stored.
func (w *Writer) member(name string, aligned bool, store func(*memberWriter) error) error {
	if err := w.calls.begin(); err != nil {
		return fail("write", name, err)
	}
	defer w.trimIfOver()
	defer w.calls.end()
	if !goodName(name) {
		return fail("write", name, unix.EINVAL)
	}
	m := &memberWriter{w: w, aligned: aligned, entry: &entry{name: name, memory: aligned, chunks: chunks{chunk: chunkSize}}}
	if w.compress != nil {
		m.frames = &frameWriter{compressor: w.compress, entry: m.entry}
	}
	w.mu.Lock()
	if w.names[name] != nil {
		w.mu.Unlock()
		return fail("write", name, syscall.EEXIST)
	}
	w.names[name] = m.entry
	w.entries = append(w.entries, m.entry)
	w.mu.Unlock()

	err := store(m)
	m.release()
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
