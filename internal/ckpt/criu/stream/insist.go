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
// that can do nothing, and for one that holds processes; and how long Continue waits for
// programs of criu's.
const (
	killAfter  = time.Second
	leaveAfter = 1500 * time.Millisecond
	scriptTime = 5 * time.Second
	longTime   = time.Minute
)

// Insist is for after Stop, or after the last answer. It returns true when Done is closed
// or criu has been killed. It returns false, after 1.5 seconds, if criu holds processes
// that cannot run: nothing can make it let go of them, and if it were killed they would
// run into code of its own, and die, as soon as they can run.
//
// A criu that was stopped by a signal is continued. After Stop, what it waits for is
// killed after a second, such as an action script that never asks. One that hangs itself,
// and would keep processes frozen for ever, is killed: after a second if it holds none,
// after a minute otherwise.
func (c *Criu) Insist(holds func() Hold) (over bool) {
	for begin := time.Now(); ; {
		// It may be stopped only now.
		c.send(unix.SIGCONT)
		select {
		case <-c.done:
			return true
		case <-time.After(leaveAfter - killAfter):
		}
		c.pipes.prune(c.PID())
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
		case c.Stopped() && since < longTime:
			c.killChildren(0)
		case hold == HoldsRunning && since >= longTime:
			c.Kill()
			return true
		}
	}
}

// Continue is for after the last answer. A criu that is stopped by a signal is continued,
// until Done is closed: what it holds cannot get the signals that end it otherwise. If it
// waits for a program that does not end, such as an action script, that is killed after 5
// seconds. Root is the root of what it has restored.
func (c *Criu) Continue(root int) {
	for begin := time.Now(); ; {
		c.send(unix.SIGCONT)
		select {
		case <-c.done:
			return
		case <-time.After(leaveAfter - killAfter):
		}
		if time.Since(begin) > scriptTime {
			c.killChildren(root)
		}
	}
}

// killChildren kills the programs that criu has started and waits for, other than what it
// has restored.
func (c *Criu) killChildren(root int) {
	children, _ := proc.Children(c.PID())
	for _, pid := range children {
		if pid == root {
			continue
		}
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue
		}
		if p, err := proc.Read(pid); err == nil && p.PPid == c.PID() { // and not another by that number
			_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
		}
		unix.Close(fd)
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
