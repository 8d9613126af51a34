package stream

import (
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/proc"
)

// Hold is what criu has in its hands.
type Hold int

const (
	HoldsNothing Hold = iota // it can be killed without harm
	HoldsRunning             // processes that it can let go of
	HoldsFrozen              // processes that cannot run, nor be let go of
)

// How long Insist waits before it kills a criu that holds nothing, before it leaves one
// that can do nothing, and for one that holds processes.
const (
	killAfter  = time.Second
	leaveAfter = 1500 * time.Millisecond
	longTime   = time.Minute
)

// Insist is for after Stop, or after the last answer. It returns true when Done is closed
// or criu has been killed. It returns false, after 1.5 seconds, if criu holds processes
// that cannot run: nothing can make it let go of them, and if it were killed they would
// run into code of its own, and die, as soon as they can run.
//
// A criu that was stopped by a signal is continued. One that hangs, and would keep
// processes frozen for ever, is killed: after a second if it holds none, after a
// minute otherwise.
func (c *Criu) Insist(holds func() Hold) (over bool) {
	for begin := time.Now(); ; {
		// It may be stopped only now.
		c.send(unix.SIGCONT)
		select {
		case <-c.done:
			return true
		case <-time.After(leaveAfter - killAfter):
		}
		since := time.Since(begin)
		if since < killAfter {
			continue
		}
		switch hold := holds(); {
		case hold == HoldsNothing:
			if c.killIdle(holds) {
				return true
			}
		case hold == HoldsFrozen && since >= leaveAfter:
			return false
		case hold == HoldsRunning && since >= longTime:
			c.Kill()
			return true
		}
	}
}

// Continue is for after the last answer. A criu that is stopped by a signal is continued,
// until Done is closed: what it holds cannot get the signals that end it otherwise.
func (c *Criu) Continue() {
	for {
		c.send(unix.SIGCONT)
		select {
		case <-c.done:
			return
		case <-time.After(leaveAfter - killAfter):
		}
	}
}

// killIdle kills criu, unless it holds a process when it has been stopped.
func (c *Criu) killIdle(holds func() Hold) bool {
	c.send(unix.SIGSTOP)
	for range 100 {
		if p, err := proc.Read(c.PID()); err != nil || p.State == 'T' || p.Dead() {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if holds() != HoldsNothing {
		c.send(unix.SIGCONT)
		return false
	}
	c.Kill()
	return true
}
