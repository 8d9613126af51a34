package memory

import (
	"cmp"
	"context"
	"errors"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// windowSize is what is read of an image, or viewed, at a time. To map less would cost
	// as much as it saves.
	windowSize = 2 << 20

	// stepSize is what is copied at a time. An event and a page that is waited for
	// wait for one such copy at most.
	stepSize = 256 << 10

	// FaultSize is what is read for a page that is waited for, if nothing else is asked
	// for.
	FaultSize = 64 << 10

	mostFillers = 4
)

// ErrNoMapping is the error for memory that cannot be filled where it should be: it
// is not known to the userfaultfd, or not mapped at all.
var ErrNoMapping = errors.New("the memory of a restored process cannot be filled by userfaultfd")

// ErrGone is the error for memory of a process that has ended although it stood still: it
// was killed.
var ErrGone = errors.New("a process was killed while its memory was filled")

// Read reads all of b from an image of pages. It may be called by many goroutines.
type Read func(b []byte, offset int64) error

// View calls use with one part of an image after the other in place, without reading it
// into a buffer, until use returns false. Whether a part is intact it finds out before
// that, if checked is set, or afterwards. It returns how many bytes use has had; Read can
// read the others. It may be called by many goroutines.
type View func(offset, length int64, checked bool, use func(data []byte) bool) (n int64, err error)

// Filler fills the memory of processes by userfaultfd(2): all of it while they stand
// still (Fill), or while they run (Fill after Started). From Add on it answers
// whoever waits for a page.
type Filler struct {
	filled *atomic.Int64

	faultSize int64
	buffers   sync.Pool // of that size

	// While processes run, what is not mapped any more was given up by them.
	running atomic.Bool

	// keep gets every userfaultfd, also of processes that are made later.
	keep func(uffd int)

	mu      sync.Mutex
	changed *sync.Cond // spaces, their windows or err
	spaces  []*space
	sweep   int // at how many spaces those that are gone are given back
	busy    int // windows being filled
	err     error
	closed  bool
	serving sync.WaitGroup
}

// space is one address space.
type space struct {
	filler *Filler
	uffd   *os.File
	fd     int // of uffd, -1 once it is given back while the processes run
	read   Read
	view   View // may be nil

	// mu is held for reading while pages are copied, and for writing while events are
	// read, so that no copy goes by what an event makes untrue.
	mu sync.RWMutex
	layout

	// windows have their numbers; those that are in none of the others are done. A
	// space has the mutex of the filler for them. The first one begins at -shift.
	waiting []int64
	filling []int64
	shift   int64
}

// NewFiller returns a filler without memory to fill, which adds up in filled how many
// bytes it has. For a page that is waited for it reads faultSize bytes of an image, a
// power of 2, from a multiple of that on. Close has to be called.
func NewFiller(filled *atomic.Int64, faultSize int64) *Filler {
	f := &Filler{filled: filled, faultSize: faultSize}
	f.buffers.New = func() any { b := make([]byte, faultSize); return &b }
	f.changed = sync.NewCond(&f.mu)
	return f
}

// Add adds an address space by its userfaultfd, which the filler closes. The list of
// pieces is in the order of their offsets and addresses, and must not be changed. View
// may be nil.
func (f *Filler) Add(uffd int, list []Piece, read Read, view View) {
	s := &space{filler: f, fd: uffd, read: read, view: view, layout: newLayout(list), shift: shift(list)}
	for _, p := range list {
		for w := (p.Offset + s.shift) / windowSize; w*windowSize-s.shift < p.Offset+p.Length; w++ {
			if n := len(s.waiting); n == 0 || s.waiting[n-1] != w {
				s.waiting = append(s.waiting, w)
			}
		}
	}
	f.add(s)
}

// shift returns which windows lie in one page table each, of the largest piece: filling two
// windows takes turns where they have a page table in common. They begin at multiples of
// FaultSize, in which checksums are.
func shift(list []Piece) int64 {
	if len(list) == 0 {
		return 0
	}
	p := slices.MaxFunc(list, func(a, b Piece) int { return cmp.Compare(a.Length, b.Length) })
	return (int64(p.Address) - p.Offset) & (windowSize - 1) &^ (FaultSize - 1)
}

func (f *Filler) add(s *space) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.keep != nil {
		f.keep(s.fd)
	}
	if f.closed {
		unix.Close(s.fd)
		return
	}
	// Each process that is made meanwhile takes a descriptor, and most end soon.
	if len(f.spaces) >= max(f.sweep, leastSwept) {
		f.spaces = slices.DeleteFunc(f.spaces, func(s *space) bool {
			gone := Gone(s.fd)
			if gone {
				s.waiting = nil
				f.serving.Go(s.giveBack)
			}
			return gone
		})
		f.sweep = 2 * len(f.spaces)
	}
	_ = unix.SetNonblock(s.fd, true)
	s.uffd = os.NewFile(uintptr(s.fd), "userfaultfd")
	f.spaces = append(f.spaces, s)
	f.changed.Broadcast()
	f.serving.Go(s.serve)
}

// leastSwept is how many spaces there are at least when those that are gone are looked for.
const leastSwept = 32

// giveBack closes the userfaultfd of a space that is gone. Who is about to use its number
// must not meet another file.
func (s *space) giveBack() {
	s.mu.Lock()
	s.fd = -1
	s.mu.Unlock()
	s.uffd.Close()
}

// Started says that the processes run, or may run soon. From now on keep gets every
// userfaultfd; it must not close it.
func (f *Filler) Started(keep func(uffd int)) {
	f.running.Store(true)
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.spaces {
		keep(s.fd)
	}
	f.keep = keep
}

// tried is how many pieces of an address space Try tries at most, and early is how much of
// it Try fills besides.
const (
	tried = 1024
	early = 4 << 20
)

// Try fills a page of each piece of memory, of those that are known by now, to see
// whether that is possible. Small pieces, such as stacks and a program's variables, it fills
// whole: a program that begins to run would wait for nearly each page of them. The processes
// must not run yet. Errors are those of Fill.
func (f *Filler) Try() error {
	f.mu.Lock()
	spaces := slices.Clone(f.spaces)
	f.mu.Unlock()
	buffer := make([]byte, FaultSize)
	for _, s := range spaces {
		list := s.current()
		every, i, room := max(1, list.count()/tried), 0, int64(early)
		for piece := range list.all {
			data := buffer[:pageSize]
			if piece.Length <= min(FaultSize, room) {
				data = buffer[:piece.Length]
				room -= piece.Length
			} else if i++; (i-1)%every != 0 {
				continue
			}
			if err := s.read(data, piece.Offset); err != nil {
				return err
			}
			s.mu.RLock()
			_, err := s.copy(piece.Address, data)
			s.mu.RUnlock()
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// Fill returns when all memory is in place, and also that of processes that have been
// made meanwhile. Memory of processes that have ended is no error while they run, and
// ErrGone before that. Other errors are those of Read, ErrNoMapping, ECANCELED once ctx is cancelled, and what ioctl_userfaultfd(2)
// says.
func (f *Filler) Fill(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { f.fail(unix.ECANCELED) })
	defer stop()
	var fillers sync.WaitGroup
	for range min(mostFillers, max(2, runtime.NumCPU())) {
		fillers.Go(f.work)
	}
	fillers.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// Close closes every userfaultfd. Pages that are not in place then are zeros for the
// processes, unless others have the userfaultfds open as well.
func (f *Filler) Close() {
	f.mu.Lock()
	f.closed = true
	spaces := f.spaces
	f.changed.Broadcast()
	f.mu.Unlock()
	// Close returns when the file is not in use any more; who uses it may need the mutex.
	for _, s := range spaces {
		s.uffd.Close()
	}
	f.serving.Wait()
}

// fail notes the first error, which ends all.
func (f *Filler) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.err = err
	}
	f.changed.Broadcast()
}

// work fills window after window until there is none left.
func (f *Filler) work() {
	var buffer []byte
	for {
		s, w := f.claim()
		if s == nil {
			return
		}
		err := s.fill(w, &buffer)
		if err == unix.ESRCH { // the processes have gone
			s.forget()
			if err = nil; !s.filler.running.Load() {
				err = ErrGone
			}
		}
		if err != nil {
			f.fail(err)
		}
		f.mu.Lock()
		f.busy--
		if i := slices.Index(s.filling, w); i >= 0 {
			s.filling = slices.Delete(slices.Clone(s.filling), i, i+1)
		}
		f.changed.Broadcast()
		f.mu.Unlock()
	}
}

// claim returns a window to fill. It waits while there is none, but one may come; it
// returns nil at the end.
func (f *Filler) claim() (*space, int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for {
		if f.err != nil || f.closed {
			return nil, 0
		}
		for _, s := range f.spaces {
			if len(s.waiting) > 0 {
				w := s.waiting[0]
				s.waiting = s.waiting[1:]
				s.filling = append(slices.Clone(s.filling), w)
				f.busy++
				return s, w
			}
		}
		if f.busy == 0 {
			return nil, 0
		}
		f.changed.Wait()
	}
}

// forget gives up what is left to do.
func (s *space) forget() {
	s.filler.mu.Lock()
	s.waiting = nil
	s.filler.mu.Unlock()
}

// current returns the pieces as they are now.
func (s *space) current() pieces {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.pieces
}

// fill fills a window, if need be by way of a buffer, which it makes.
func (s *space) fill(w int64, buffer *[]byte) error {
	end := (w+1)*windowSize - s.shift
	first, ok := s.current().next(end-windowSize, end)
	if !ok {
		return nil
	}
	last := first
	for p, ok := first, true; ok; p, ok = s.current().next(last.Offset+last.Length, end) {
		last = p
	}
	begin, stop := first.Offset, last.Offset+last.Length
	if s.view != nil {
		var put error
		// While the processes stand still nobody sees memory that turns out to be damaged.
		checked := s.filler.running.Load()
		_, err := s.view(begin, stop-begin, checked, func(data []byte) bool {
			if put = s.put(data, begin, begin+int64(len(data))); put == nil {
				begin += int64(len(data))
			}
			return put == nil
		})
		if put == unix.EFAULT { // the image is not what it was, which reading it will tell
			put = nil
		}
		if err = cmp.Or(put, err); err != nil || begin == stop {
			return err
		}
	}
	if *buffer == nil {
		*buffer = make([]byte, windowSize)
	}
	data := (*buffer)[:stop-begin]
	if err := s.read(data, begin); err != nil {
		return err
	}
	return s.put(data, begin, stop)
}

// put copies the memory up to an offset, of which data is what the image has from begin
// on.
func (s *space) put(data []byte, begin, end int64) error {
	for position := begin; ; {
		n, err := s.step(&position, end, data, begin)
		s.filler.filled.Add(int64(n))
		switch {
		case err == errDone:
			return nil
		case temporary(err):
			if s.filler.failed() {
				return nil
			}
			s.pause()
		case err != nil:
			return err
		}
	}
}

func (f *Filler) failed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err != nil || f.closed
}

// pause is for a moment in which an event has to be read, by another goroutine.
func (s *space) pause() { time.Sleep(50 * time.Microsecond) }

// errDone says that there is nothing left in a window.
var errDone = errors.New("done")

// step copies the next of a window's memory, of which data is what the image has from
// begin on. It moves the position.
func (s *space) step(position *int64, end int64, data []byte, begin int64) (filled int, err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	p, ok := s.pieces.next(*position, end)
	if !ok {
		return 0, errDone
	}
	p.Length = min(p.Length, stepSize)
	if p.isAside() {
		if changing(s.fd) {
			return 0, unix.EAGAIN
		}
		*position = p.Offset + p.Length
		return 0, nil
	}
	filled, err = s.copy(p.Address, data[p.Offset-begin:][:p.Length])
	*position = p.Offset + int64(filled)
	return filled, err
}

// copy copies data to an address as far as it is not there yet. A caller holds mu. It
// returns how much is in place.
func (s *space) copy(address uint64, data []byte) (done int, err error) {
	if s.fd < 0 {
		return 0, unix.ESRCH
	}
	for done < len(data) {
		size := len(data) - done
		n, err := copyPages(s.fd, address+uint64(done), data[done:])
		for err == unix.ENOENT && size > int(pageSize) {
			// A mapping ends in between.
			size = max(size/2&^int(pageSize-1), int(pageSize))
			n, err = copyPages(s.fd, address+uint64(done), data[done:done+size])
		}
		if err == unix.ENOENT && s.filler.running.Load() {
			// The memory may have been moved after the call began, and the event cannot
			// be read before mu is free. A call that begins now fails with EAGAIN then.
			n, err = copyPages(s.fd, address+uint64(done), data[done:done+size])
		}
		done += n
		switch {
		case err == nil, err == unix.EAGAIN && n > 0:
		case err == unix.EEXIST:
			wake(s.fd, address+uint64(done))
			done += int(pageSize)
		case err == unix.ENOENT && s.filler.running.Load():
			wake(s.fd, address+uint64(done))
			done += int(pageSize)
		case err == unix.ENOENT:
			return done, ErrNoMapping
		default:
			return done, err
		}
	}
	return done, nil
}

// serve answers whoever waits for a page, and takes events, until the userfaultfd is
// closed.
func (s *space) serve() {
	conn, err := s.uffd.SyscallConn()
	if err != nil {
		s.filler.fail(err)
		return
	}
	err = conn.Read(func(uintptr) bool {
		if err := s.answer(); err != nil {
			s.filler.fail(err)
			return true
		}
		return false
	})
	s.mu.RLock()
	defer s.mu.RUnlock()
	if err != nil && !errors.Is(err, os.ErrClosed) && s.fd >= 0 {
		s.filler.fail(err)
	}
}

// answer answers all that there is. Pages that have to wait for an event, which may
// be told after them, are tried again.
func (s *space) answer() error {
	var faults []uint64
	for {
		more, none, err := s.take()
		if err != nil {
			return err
		}
		faults = append(faults, more...)
		if !none && s.aside != nil {
			// Who has yet to tell of its change should do so before others change more.
			time.Sleep(time.Millisecond)
		}
		if none && len(faults) == 0 {
			return nil
		}
		left := faults[:0]
		for _, address := range faults {
			switch err := s.fault(address); {
			case temporary(err):
				left = append(left, address)
			case err == unix.ESRCH:
				s.forget()
				return nil
			case err != nil:
				return err
			}
		}
		if faults = left; none && len(faults) > 0 {
			if s.filler.failed() {
				return nil
			}
			s.pause()
		}
	}
}

// take reads what there is, and does what events ask for. It returns the addresses
// of pages that are waited for.
func (s *space) take() (faults []uint64, none bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fd < 0 {
		return nil, true, nil
	}
	var buffer [16 * messageSize]byte
	n, err := unix.Read(s.fd, buffer[:])
	switch {
	case err == unix.EAGAIN || err == nil && n == 0:
		if s.aside != nil && !changing(s.fd) {
			s.settle()
		}
		return nil, true, nil
	case err == unix.EINTR:
		return nil, false, nil
	case err != nil:
		return nil, false, err
	}
	for b := buffer[:n]; len(b) >= messageSize; b = b[messageSize:] {
		m := uffdMessage(b)
		switch m.event() {
		case eventPagefault:
			faults = append(faults, m.faultAddress())
		case eventRemove:
			s.remove(m.arg(0), m.arg(1))
		case eventUnmap:
			s.unmap(m.arg(0), m.arg(1))
		case eventRemap:
			s.relocate(m.arg(0), m.arg(1), m.arg(2))
		case eventFork:
			s.fork(m.child())
		}
	}
	return faults, false, nil
}

// fork adds the memory of a child: what is not in place yet has to be filled there,
// too. The caller holds mu.
func (s *space) fork(uffd int) {
	child := &space{filler: s.filler, fd: uffd, read: s.read, view: s.view, layout: s.forked(), shift: s.shift}
	s.filler.mu.Lock()
	child.waiting = slices.Concat(s.filling, s.waiting)
	s.filler.mu.Unlock()
	s.filler.add(child)
}

// fault has a page that is waited for in place. It fails with EAGAIN if the memory has
// changed meanwhile.
func (s *space) fault(address uint64) error {
	p, ok := s.current().find(address)
	if !ok {
		return s.zero(address)
	}
	at := p.Offset + int64(address-p.Address)
	begin := at &^ (s.filler.faultSize - 1)
	block := p.cut(begin, begin+s.filler.faultSize)
	buffer := s.filler.buffers.Get().(*[]byte)
	defer s.filler.buffers.Put(buffer)
	data := (*buffer)[:block.Length]
	if err := s.read(data, block.Offset); err != nil {
		return err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	now, ok := s.pieces.find(address)
	if !ok || now.Offset+int64(address-now.Address) != at {
		return unix.EAGAIN
	}
	n, err := s.copy(address, data[at-block.Offset:][:pageSize])
	s.filler.filled.Add(int64(n))
	if err != nil {
		return err
	}
	// The next ones are likely to be wanted soon.
	if rest := now.cut(at+int64(pageSize), block.Offset+block.Length); rest.Length > 0 {
		_, _ = copyPages(s.fd, rest.Address, data[rest.Offset-block.Offset:][:rest.Length])
	}
	return nil
}

// zero is fault for a page of which the image has nothing, or which was given up.
func (s *space) zero(address uint64) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if _, ok := s.pieces.find(address); ok {
		return unix.EAGAIN
	}
	if s.fd < 0 {
		return unix.ESRCH
	}
	switch err := zeroPage(s.fd, address, 0); err {
	case nil:
		return nil
	case unix.EEXIST, unix.ENOENT:
		wake(s.fd, address)
		return nil
	default:
		return err
	}
}
