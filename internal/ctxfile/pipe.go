package ctxfile

import (
	"context"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// pipeEnd is an end of a pipe that a goroutine waits for without occupying a
// thread. A goroutine in a blocking system call would keep its processor until
// the runtime's monitor takes notice, for up to 10 ms, and the process may have
// one processor only.
//
// The end is non-blocking while it is open. Only processes that share the open
// file description see that; of criu's pipes we have the only copy.
type pipeEnd struct {
	calls    *callGroup
	fd       int // the caller's
	blocking bool
	file     *os.File // a duplicate
	conn     syscall.RawConn
	unwatch  func() bool
}

// openPipe prepares fd, which remains the caller's, for waiting.
func (c *callGroup) openPipe(fd int) (*pipeEnd, error) {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil {
		return nil, err
	}
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	p := &pipeEnd{calls: c, fd: fd, blocking: flags&unix.O_NONBLOCK == 0}
	if p.blocking {
		if err := unix.SetNonblock(dup, true); err != nil {
			unix.Close(dup)
			return nil, err
		}
	}
	p.file = os.NewFile(uintptr(dup), "pipe")
	p.unwatch = context.AfterFunc(c.aborted, func() {
		_ = p.file.SetDeadline(time.Unix(1, 0)) // fails only for what never waits
	})
	if p.conn, err = p.file.SyscallConn(); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func (p *pipeEnd) close() {
	p.unwatch()
	if p.blocking {
		_ = unix.SetNonblock(p.fd, false)
	}
	p.file.Close()
}

// read calls step whenever there may be something to read, until it is done.
func (p *pipeEnd) read(step func(fd int) (done bool, err error)) error {
	return p.run(p.conn.Read, step)
}

// write calls step whenever there may be room to write, until it is done.
func (p *pipeEnd) write(step func(fd int) (done bool, err error)) error {
	return p.run(p.conn.Write, step)
}

func (p *pipeEnd) run(wait func(func(uintptr) bool) error, step func(int) (bool, error)) error {
	var err error
	waitErr := wait(func(fd uintptr) bool {
		if p.calls.isAborted() {
			err = unix.ECANCELED
			return true
		}
		var done bool
		done, err = step(int(fd))
		return done || err != nil
	})
	if err == nil {
		err = waitErr
	}
	if err != nil && p.calls.isAborted() {
		return unix.ECANCELED
	}
	return err
}

// isPipe tells whether fd is a pipe or a FIFO.
func isPipe(fd int) bool {
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFIFO
}

const (
	// smallPipe is what a pipe has room for unless it is enlarged.
	smallPipe = 64 << 10
	// largePipe is the most that every user may give a pipe, which is a quarter
	// faster. criu misbehaves with more than 4 MiB.
	largePipe = 1 << 20
)

// enlarge enlarges a pipe, if it is one and the user may.
func enlarge(fd int) {
	if n, err := unix.FcntlInt(uintptr(fd), unix.F_GETPIPE_SZ, 0); err == nil && n < largePipe {
		_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETPIPE_SZ, largePipe)
	}
}

const (
	// narrowPipe is what a pipe is given room for at first if nothing can be corrected by
	// Patch. It has to be less than what a program has in memory behind its code.
	narrowPipe = 16 << 10

	// narrowPart is how much of an image passes through it.
	narrowPart = 1 << 20
)

// narrowed is an intake of memory from a pipe that has little room at first. CRIU has a
// process execute system calls by writing them over the beginning of its code for a moment,
// also when it has sent its memory. What is in the pipe then has not been copied and changes,
// too. With little room that is not the code any more, but the last pages, such as those of
// the stack.
type narrowed struct {
	intake
	pipe   int
	passed int // bytes
}

func (p *narrowed) filled(n int) error {
	if p.passed < narrowPart {
		if p.passed += n; p.passed >= narrowPart {
			enlarge(p.pipe)
		} else {
			narrow(p.pipe)
		}
	}
	return p.intake.filled(n)
}

// narrow makes a pipe small, unless there is more in it.
func narrow(pipe int) { _, _ = unix.FcntlInt(uintptr(pipe), unix.F_SETPIPE_SZ, narrowPipe) }
