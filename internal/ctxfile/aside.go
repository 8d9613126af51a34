package ctxfile

import (
	"errors"
	"sort"
	"sync"

	"golang.org/x/sys/unix"
)

// Only one thread at a time can write into a file, and it may be slower than CRIU. Where the
// pipes fill up while processes are frozen, a second thread of a Writer moves memory of
// theirs into a file in memory, from where Close copies it into the context.

// aside is that file.
type aside struct {
	fd   int
	size int64 // how large it may become

	mu     sync.Mutex
	next   int64 // where its free space begins
	pieces []movedAside
}

// movedAside is a part of the context that is at an offset of that file.
type movedAside struct {
	extent
	at int64
}

// Aside lets a Writer use a file of up to n bytes in memory to be done sooner with what Pipe
// gets with aligned. It is for a caller whose processes wait for Pipe, but not for Close,
// and is to be called before the other methods. It does nothing with compression, for a context
// that is not in a regular file, or where there are no files in memory.
func (w *Writer) Aside(n int64) {
	if n < largePipe || w.compress != nil || w.out.kind != unix.S_IFREG || w.out.readable < 0 {
		return
	}
	if fd, err := unix.MemfdCreate("aside", unix.MFD_CLOEXEC); err == nil {
		w.aside = &aside{fd: fd, size: n}
	}
}

// hasRoom tells whether there is room for what a pipe may hold.
func (a *aside) hasRoom() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.next+largePipe <= a.size
}

// move moves what is in a pipe, which belongs to x, and returns how much of it. The
// context's file can have the rest.
func (a *aside) move(p *relayPipe, x extent) (moved int64) {
	a.mu.Lock()
	at := a.next
	if at+x.length > a.size {
		a.mu.Unlock()
		return 0
	}
	a.next += x.length
	a.mu.Unlock()
	for moved < x.length {
		offset := at + moved
		n, err := splice(p.r, nil, a.fd, &offset, int(x.length-moved))
		if n == 0 || err != nil {
			break
		}
		moved += n
	}
	if moved > 0 {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.pieces = append(a.pieces, movedAside{extent{x.offset, moved}, at})
	}
	return moved
}

// count returns how many parts of the context are in the file, if there is one.
func (a *aside) count() int {
	if a == nil {
		return 0
	}
	return len(a.pieces)
}

// sorted returns what is in the file, by where it belongs.
func (a *aside) sorted() []movedAside {
	sort.Slice(a.pieces, func(i, j int) bool { return a.pieces[i].offset < a.pieces[j].offset })
	return a.pieces
}

// divide returns which of some chunks are in the context, and which not yet as a whole.
func (a *aside) divide(all []run) (there, missing []run) {
	if a.count() == 0 {
		return all, nil
	}
	pieces := a.sorted()
	errMissing := errors.New("a part is missing")
	for _, r := range all {
		err := r.each(func(x extent) error {
			i := sort.Search(len(pieces), func(i int) bool { return pieces[i].end() > x.offset })
			if i < len(pieces) && pieces[i].offset < x.end() {
				return errMissing
			}
			return nil
		})
		if err == nil {
			there = append(there, r)
		} else {
			missing = append(missing, r)
		}
	}
	return there, missing
}

// bringBack copies what is in the file into the context, when nothing is moved any more.
// ready, which has room for all, gets how much of the context is there, in bytes.
func (w *Writer) bringBack(ready chan<- int64) error {
	defer close(ready)
	if w.aside.count() > 0 {
		pipe := w.relays.take()
		if pipe == nil {
			return unix.EMFILE
		}
		defer w.relays.put(pipe)
		for _, p := range w.aside.sorted() {
			if err := w.bring(p, pipe); err != nil {
				return err
			}
			ready <- p.end()
		}
	}
	w.releaseAside()
	ready <- w.out.next
	return nil
}

// bring copies one part, by way of a pipe, in which it is not copied.
func (w *Writer) bring(p movedAside, pipe *relayPipe) error {
	for p.length > 0 {
		n, err := splice(w.aside.fd, &p.at, pipe.w, nil, int(min(p.length, largePipe)))
		if err == nil && n == 0 {
			err = unix.EIO
		}
		if err != nil {
			return err
		}
		for pipe.n = n; pipe.n > 0; pipe.n -= n {
			at := w.out.base + p.offset
			n, err = splice(pipe.r, nil, w.out.fd, &at, int(pipe.n))
			switch {
			case w.calls.isAborted():
				return unix.ECANCELED
			case err == nil && n == 0:
				return unix.EIO
			case err != nil:
				return err
			}
			p.offset, p.length = p.offset+n, p.length-n
		}
	}
	return nil
}

// releaseAside gives the file back.
func (w *Writer) releaseAside() {
	if w.aside != nil {
		unix.Close(w.aside.fd)
		w.aside = nil
	}
}
