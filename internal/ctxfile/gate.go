package ctxfile

import (
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// gate is what the calls of a Writer or Reader go through, so that they can be
// made to return, and their end be waited for.
type gate struct {
	mu      sync.Mutex
	aborted bool
	closed  bool
	calls   sync.WaitGroup
	waiting map[*os.File]bool // pipe ends that calls may be waiting for
	over    chan struct{}     // closed by abort; nil if nobody has asked for it
}

// enter begins a call: ECANCELED after abort, EBADF after close.
func (g *gate) enter() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.aborted:
		return unix.ECANCELED
	case g.closed:
		return unix.EBADF
	}
	g.calls.Add(1)
	return nil
}

func (g *gate) leave() { g.calls.Done() }

// abort wakes the calls under way.
func (g *gate) abort() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.aborted && g.over != nil {
		close(g.over)
	}
	g.aborted = true
	for f := range g.waiting {
		// Fails only for what cannot be waited for.
		_ = f.SetDeadline(time.Unix(1, 0))
	}
}

// aborting is closed by abort.
func (g *gate) aborting() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.over == nil {
		g.over = make(chan struct{})
		if g.aborted {
			close(g.over)
		}
	}
	return g.over
}

func (g *gate) isAborted() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.aborted
}

// close lets no further call in, and returns when those under way are over.
// Only the first close is true.
func (g *gate) close() bool {
	g.mu.Lock()
	first := !g.closed
	g.closed = true
	g.mu.Unlock()
	g.calls.Wait()
	return first
}

// pipe is an end of a pipe that a goroutine can wait for without keeping a
// thread, and without keeping the others from running: one that sat in a
// blocking system call would keep its processor until the runtime's monitor
// takes notice, for up to 10 ms, and the launcher may have one only.
//
// It is non-blocking while it is open, which nobody sees but those who share
// the open file description with us; of criu's pipes we hold the only copy.
type pipe struct {
	gate     *gate
	fd       int // the caller's
	blocking bool
	f        *os.File // a duplicate
	conn     syscall.RawConn
}

// open prepares fd, which remains the caller's, for waiting.
func (g *gate) open(fd int) (*pipe, error) {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil {
		return nil, err
	}
	p := &pipe{gate: g, fd: fd, blocking: flags&unix.O_NONBLOCK == 0}
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if p.blocking {
		if err := unix.SetNonblock(dup, true); err != nil {
			unix.Close(dup)
			return nil, err
		}
	}
	p.f = os.NewFile(uintptr(dup), "pipe")
	if p.conn, err = p.f.SyscallConn(); err != nil {
		p.close()
		return nil, err
	}
	if !g.watch(p.f) {
		p.close()
		return nil, unix.ECANCELED
	}
	return p, nil
}

// watch has abort wake f, if it is not too late for that.
func (g *gate) watch(f *os.File) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.waiting == nil {
		g.waiting = map[*os.File]bool{}
	}
	g.waiting[f] = true
	return !g.aborted
}

func (p *pipe) close() {
	p.gate.mu.Lock()
	delete(p.gate.waiting, p.f)
	p.gate.mu.Unlock()
	if p.blocking {
		_ = unix.SetNonblock(p.fd, false)
	}
	p.f.Close()
}

// read calls step whenever there may be something to read, until it is done.
func (p *pipe) read(step func(fd int) (done bool, err error)) error {
	return p.run(p.conn.Read, step)
}

// write calls step whenever there may be room to write, until it is done.
func (p *pipe) write(step func(fd int) (done bool, err error)) error {
	return p.run(p.conn.Write, step)
}

func (p *pipe) run(wait func(func(uintptr) bool) error, step func(int) (bool, error)) error {
	var err error
	waitErr := wait(func(fd uintptr) bool {
		var done bool
		done, err = step(int(fd))
		return done || err != nil
	})
	if err == nil {
		err = waitErr
	}
	if err != nil && p.gate.isAborted() {
		return unix.ECANCELED
	}
	return err
}

// isPipe tells whether fd is a pipe or a FIFO.
func isPipe(fd int) bool {
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFIFO
}

// pipeSize is what pipes of memory are enlarged to: the most that everybody
// may, and a quarter faster than the usual 64 KiB. criu misbehaves above 4 MiB.
const pipeSize = 1 << 20

// enlarge enlarges a pipe, if it is one and that is allowed.
func enlarge(fd int) {
	if n, err := unix.FcntlInt(uintptr(fd), unix.F_GETPIPE_SZ, 0); err == nil && n < pipeSize {
		_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETPIPE_SZ, pipeSize)
	}
}
