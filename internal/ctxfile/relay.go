package ctxfile

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// CRIU's pipe for memory has room for 1 MiB, so CRIU, and what copies from the pipe into
// the file, would wait for one another at every MiB while the processes are frozen. A
// relay moves the pages on into further pipes, by reference, and from these into the file.
// CRIU can be ahead of the file by what these pipes hold.

// mostRelays is how many such pipes a Writer has, of largePipe each. Ordinary users may
// have 64 MiB in pipes (pipe-user-pages-soft), and CRIU needs some of that.
const mostRelays = 48

// relayPipe is one of them.
type relayPipe struct {
	r, w int
	n    int64 // bytes in it
}

func (p *relayPipe) close() {
	unix.Close(p.r)
	unix.Close(p.w)
}

// newRelayPipe returns nil if there is none of the full size, or if it would take one of
// the last three quarters of descriptors.
func newRelayPipe() *relayPipe {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil {
		return nil
	}
	var fds [2]int
	if unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK) != nil {
		return nil
	}
	p := &relayPipe{r: fds[0], w: fds[1]}
	enlarge(p.w)
	if n, err := unix.FcntlInt(uintptr(p.w), unix.F_GETPIPE_SZ, 0); err != nil || n < largePipe || uint64(p.w) >= limit.Cur/4 {
		p.close()
		return nil
	}
	return p
}

// relays are the pipes of a Writer, which its calls share.
type relays struct {
	free chan *relayPipe

	mu         sync.Mutex
	made, most int
}

func newRelays() *relays { return &relays{free: make(chan *relayPipe, mostRelays), most: mostRelays} }

// take returns an empty pipe, or nil if there is none at the moment.
func (r *relays) take() *relayPipe {
	select {
	case p := <-r.free:
		return p
	default:
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.made == r.most {
		return nil
	}
	p := newRelayPipe()
	if p == nil {
		r.most = r.made
		return nil
	}
	r.made++
	return p
}

// half returns half of how many pipes there may be.
func (r *relays) half() int32 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return int32(r.most / 2)
}

// put gives a pipe back. One that is not empty is of no use any more.
func (r *relays) put(p *relayPipe) {
	if p.n == 0 {
		r.free <- p
		return
	}
	p.close()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.made--
	r.most--
}

// release closes those that are not in use.
func (r *relays) release() {
	for {
		select {
		case p := <-r.free:
			p.close()
			r.mu.Lock()
			r.made--
			r.mu.Unlock()
		default:
			return
		}
	}
}

// relay stores what comes out of a pipe, by way of others.
type relay struct {
	m *memberWriter

	// own has its pipes that are empty. It keeps them to its end, so that it never waits
	// for another relay, whose pipe may have nothing to read until this one is done.
	own chan *relayPipe

	full    chan *relayPipe
	stored  chan extent   // what is in the file, for writeBack; nil without
	behind  atomic.Int32  // pipes that have not been emptied into the file
	crowded chan struct{} // has something when there are many of these, see empty
	copies  bool          // what is left is copied to rest, not spliced
	rest    intake
	done    chan struct{}

	// order is held by the one that takes a pipe, until it knows where its content goes.
	order sync.Mutex

	mu  sync.Mutex
	err error // of the file, known when done is closed
}

// relayPipe stores what comes out of a pipe, up to its end. ok is false if there is no
// pipe to relay it; then nothing was done.
func (m *memberWriter) relayPipe(fd int) (ok bool, err error) {
	ctx, cancel := context.WithCancel(m.w.calls.aborted)
	defer cancel()
	first := m.w.relays.take()
	if first == nil {
		return false, nil
	}
	// The pipe is to wake this thread itself, not another one by way of the runtime.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	r := newRelay(m)
	if m.w.early && m.stagedFor == nil && m.w.out.kind == unix.S_IFREG && m.w.calls.begin() == nil {
		r.stored = make(chan extent, mostRelays)
		go m.w.writeBack(r.stored)
	}
	go func() {
		defer close(r.done)
		r.empty(cancel)
		if r.stored != nil {
			close(r.stored)
		}
	}()
	err = r.move(ctx, fd, first)
	close(r.full)
	close(r.crowded)
	<-r.done
	r.release()
	switch {
	case m.w.calls.isAborted():
		return true, unix.ECANCELED
	case r.err != nil:
		return true, r.err
	case err != nil:
		return true, err
	case r.copies && m.stagedFor == nil:
		return true, m.finish()
	}
	return true, nil
}

func newRelay(m *memberWriter) *relay {
	return &relay{
		m: m, rest: m,
		own: make(chan *relayPipe, mostRelays), full: make(chan *relayPipe, mostRelays),
		crowded: make(chan struct{}, 1), done: make(chan struct{}),
	}
}

// get waits for an empty pipe, of which at least one is on its way. It returns nil if ctx
// is cancelled.
func (r *relay) get(ctx context.Context) *relayPipe {
	select {
	case p := <-r.own:
		return p
	default:
	}
	if p := r.m.w.relays.take(); p != nil {
		return p
	}
	select {
	case p := <-r.own:
		return p
	case <-ctx.Done():
		return nil
	}
}

// release gives the pipes back at the end.
func (r *relay) release() {
	close(r.own)
	for p := range r.own {
		r.m.w.relays.put(p)
	}
}

// move moves all that comes out of fd into one pipe after the other.
func (r *relay) move(ctx context.Context, fd int, p *relayPipe) error {
	for {
		n, err := splice(fd, nil, p.w, nil, largePipe)
		p.n += n
		switch {
		case err == unix.EAGAIN:
			left, end, err := available(fd)
			if err != nil {
				r.own <- p
				return err
			}
			// As long as the file has enough to do, more can be added.
			idle := r.behind.Load() == 0
			if !end && left == 0 && (p.n == 0 || !idle) {
				if _, err := poll(ctx, fd, unix.POLLIN); err != nil {
					r.own <- p
					return err
				}
				continue
			}
			if end && left == 0 {
				r.hand(p)
				return nil
			}
		case err != nil:
			r.own <- p
			return err
		case n == 0:
			r.hand(p)
			return nil
		case p.n < largePipe:
			continue
		}
		r.hand(p)
		if p = r.get(ctx); p == nil {
			return unix.ECANCELED
		}
	}
}

// hand has a pipe emptied into the file.
func (r *relay) hand(p *relayPipe) {
	if p.n == 0 {
		r.own <- p
		return
	}
	r.behind.Add(1)
	r.full <- p // it has room for all that there are
	if r.isCrowded() {
		select {
		case r.crowded <- struct{}{}:
		default:
		}
	}
}

// isCrowded tells whether so many pipes are full that CRIU is soon going to wait for the
// file.
func (r *relay) isCrowded() bool { return r.behind.Load() > r.m.w.relays.half() }

// empty empties the pipes into the file, and as long as that is too slow into the other
// file as well. After an error it calls stop and gives back the others.
func (r *relay) empty(stop func()) {
	for p := range r.full {
		r.emptied(p, r.store(p), stop)
		if r.m.w.aside != nil && r.m.stagedFor == nil && !r.copies && !r.failed() {
			break // it can be spliced, also by two threads
		}
	}
	var both sync.WaitGroup
	if r.m.w.aside != nil {
		both.Go(func() {
			for range r.crowded {
				r.emptyBy(r.m.w.aside, stop)
			}
		})
	}
	r.emptyBy(nil, stop)
	both.Wait()
}

// emptyBy empties pipes into the other file, if there is one, as far as it can and as long
// as many are full, or else into the context's.
func (r *relay) emptyBy(other *aside, stop func()) {
	for other == nil || other.hasRoom() && r.isCrowded() {
		p, to := r.next()
		if p == nil {
			return
		}
		if other != nil {
			n := other.move(p, to)
			r.moved(p, n)
			to = extent{to.offset + n, to.length - n}
		}
		r.emptied(p, r.spliceTo(p, to), stop)
	}
}

// next returns the next pipe, and where its content belongs. At the end there is none.
func (r *relay) next() (*relayPipe, extent) {
	r.order.Lock()
	defer r.order.Unlock()
	p := <-r.full
	if p == nil || r.failed() {
		return p, extent{}
	}
	e, o := r.m.entry, r.m.w.out
	o.mu.Lock()
	x := o.reserve(p.n, true, e.end())
	o.mu.Unlock()
	e.add(x)
	return p, x
}

// emptied takes a pipe back. After an error nothing is moved any more.
func (r *relay) emptied(p *relayPipe, err error, stop func()) {
	r.mu.Lock()
	if r.err == nil && err != nil {
		r.err = err
		stop()
	}
	r.mu.Unlock()
	r.own <- p
	r.behind.Add(-1)
}

func (r *relay) failed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err != nil
}

// spliceTo empties a pipe into a part of the file.
func (r *relay) spliceTo(p *relayPipe, x extent) error {
	o := r.m.w.out
	for x.length > 0 {
		if r.m.w.calls.isAborted() {
			return unix.ECANCELED
		}
		offset := o.base + x.offset
		n, err := splice(p.r, nil, o.fd, &offset, int(x.length))
		if err == nil && n == 0 {
			err = unix.EIO // it was in the pipe
		}
		if err != nil {
			return err
		}
		x = extent{x.offset + n, x.length - n}
		r.moved(p, n)
	}
	return nil
}

// moved notes that n bytes have been moved out of a pipe.
func (r *relay) moved(p *relayPipe, n int64) {
	p.n -= n
	r.m.w.stored.Add(n)
}

// store empties one pipe into the file.
func (r *relay) store(p *relayPipe) error {
	for p.n > 0 {
		if r.m.w.calls.isAborted() {
			return unix.ECANCELED
		}
		if r.copies {
			room, err := r.rest.room()
			if err != nil {
				return err
			}
			n, err := unix.Read(p.r, room[:min(int64(len(room)), p.n)])
			if err != nil && err != unix.EINTR {
				return err
			}
			if n > 0 {
				p.n -= int64(n)
				if err := r.rest.filled(n); err != nil {
					return err
				}
			}
			continue
		}
		before := r.m.entry.size
		err := r.m.spliceBytes(p.r, p.n)
		moved := r.m.entry.size - before
		p.n -= moved
		if moved > 0 && r.stored != nil {
			select {
			case r.stored <- extent{r.m.entry.end() - moved, moved}:
			default: // the disk is slower
			}
		}
		switch {
		case err != nil && r.m.stagedFor != nil:
			if r.rest, err = r.m.unstage(); err != nil {
				return err
			}
			r.copies = true
		case err == unix.EINVAL && r.m.entry.size == 0:
			r.copies = true
			r.m.w.noSplice.Store(true)
		case err != nil:
			return err
		case moved == 0:
			return unix.EIO // it was in the pipe
		}
	}
	return nil
}
