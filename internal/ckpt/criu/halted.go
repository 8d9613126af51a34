package criu

import (
	"context"
	"slices"
	"syscall"
	"time"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/criu/explain"
	"blcr-cli/internal/proc"
)

// While criu restores the processes it traces the first one. A SIGSTOP or SIGCONT to that, as a
// batch system sends them to all processes of a job, stops it for criu, not for the sender:
// SIGCONT does not continue it. Criu notices that and fails. If it happens when all processes
// are there, criu waits for a stop that it has noticed already, for ever. In both cases the
// processes have run no instruction of their own, and another attempt helps.

// errHalted is the error of a restore that such a signal has halted.
var errHalted = &ckpt.Error{Op: "restart", Object: "job", Errno: syscall.EBUSY, Detail: []string{
	"a process of the job was sent SIGSTOP or SIGCONT, as by a batch system that suspends a job, while it was being restored", "try again",
}}

// How often it is looked whether criu can go on, and for how long it must not seem so.
const (
	haltedCheck = 100 * time.Millisecond
	haltedAfter = time.Second
	// With memory that comes later a process may wait for that.
	haltedLazy = 10 * time.Second
)

// endHalted is for when criu attaches to the processes that it has restored. It kills a criu
// that cannot go on, until ctx is cancelled.
func (r *restart) endHalted(ctx context.Context) {
	limit := haltedAfter
	if r.request.Lazy {
		limit = haltedLazy
	}
	tick := time.NewTicker(haltedCheck)
	defer tick.Stop()
	// Rounds and not time: this process may be stopped, too.
	for rounds := limit / haltedCheck; rounds > 0; rounds-- {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if !halted(r.criu.PID(), r.root) {
			rounds = limit / haltedCheck
		}
	}
	if ctx.Err() != nil {
		return
	}
	r.halted.Store(true)
	r.criu.Kill()
}

// halted tells whether criu and all threads of the tree sleep, and one of them for a tracer. A
// criu that waits for its action script can go on, however long that takes: the processes may
// be ready to run then, and would, without their tracer.
func halted(criu, root int) bool {
	if p, err := proc.Read(criu); err != nil || p.State != 'S' {
		return false
	}
	own, err := proc.Descend(criu)
	if err != nil {
		return false
	}
	tree, err := proc.Descend(root)
	scripts := len(own) - 1
	if slices.Contains(own, root) {
		scripts -= len(tree) // the first process of a pid namespace is criu's child
	}
	if scripts > 0 {
		return false
	}
	traced := false
	for _, pid := range tree {
		for _, tid := range proc.Threads(pid) {
			switch p, err := proc.Thread(pid, tid); {
			case err != nil || p.State == 'R' || p.State == 'D':
				return false
			case p.State == 't':
				traced = true
			}
		}
	}
	return err == nil && traced
}

// wasHalted reports whether the restore has failed because of such a signal, and may be tried again.
func (r *restart) wasHalted(ctx context.Context, err error, deadline time.Time) bool {
	return err == error(errHalted) && !r.resumed.Load() && ctx.Err() == nil && time.Now().Before(deadline)
}

// sawHalt tells whether criu has ended because of such a signal.
func (r *restart) sawHalt() bool { return r.halted.Load() || explain.Halted(r.criu.Errors()) }
