package ctxfile

import (
	"context"
	"sync"

	"golang.org/x/sys/unix"
)

// callGroup keeps account of the calls in progress of a Writer or a Reader, so
// that they can be made to return, and their end be waited for.
type callGroup struct {
	aborted context.Context
	abort   context.CancelFunc // makes calls in progress return ECANCELED

	mu     sync.Mutex
	idle   *sync.Cond // n became 0
	n      int        // calls in progress
	closed bool
}

func newCallGroup() *callGroup {
	c := &callGroup{}
	c.aborted, c.abort = context.WithCancel(context.Background())
	c.idle = sync.NewCond(&c.mu)
	return c
}

// begin begins a call. It fails with ECANCELED after abort, with EBADF after
// close.
func (c *callGroup) begin() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.isAborted():
		return unix.ECANCELED
	case c.closed:
		return unix.EBADF
	}
	c.n++
	return nil
}

func (c *callGroup) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n--; c.n == 0 {
		c.idle.Broadcast()
	}
}

func (c *callGroup) isAborted() bool { return c.aborted.Err() != nil }

// close refuses further calls, and returns when those in progress have ended. It
// returns true the first time only.
func (c *callGroup) close() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	first := !c.closed
	c.closed = true
	for c.n > 0 {
		c.idle.Wait()
	}
	return first
}

// isIdle tells whether no call is in progress, nor what follows close.
func (c *callGroup) isIdle() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n == 0 && !c.closed
}
