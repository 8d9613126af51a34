package criu

import (
	"fmt"
	"slices"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/criu/explain"
	"blcr-cli/internal/ckpt/criu/images"
	"blcr-cli/internal/ckpt/criu/stream"
	"blcr-cli/internal/ctxfile"
	"blcr-cli/internal/hints"
	"blcr-cli/internal/proc"
)

// restart is a restore under way.
type restart struct {
	request *ckpt.RestartRequest

	criu   *stream.Criu
	source source
	plan   *plan
	cell   *cell // where the job gets new pids, else nil

	mu        sync.Mutex // of what abandon looks at while begin sets it
	abandoned bool

	root    int   // pid of the restored root
	resumed bool  // the processes have been let go
	held    []int // those of them that are stopped until criu has let go, too

	// Valid once finished is closed.
	err      error
	finished chan struct{}
}

// Restart starts the restore.
func (e *engine) Restart(r *ckpt.RestartRequest) (ckpt.Restart, error) {
	rs := &restart{request: r, finished: make(chan struct{})}
	// Before there is a criu: files are made before that.
	e.begun(rs.abandon)
	started, err := rs.begin(e)
	if !started {
		rs.close()
		rs.err = err
		close(rs.finished)
		return rs, nil
	}
	go func() {
		<-rs.criu.Done()
		rs.err = rs.outcome()
		rs.close()
		close(rs.finished)
	}()
	return rs, nil
}

// abandon ends the restart, and returns when nothing of it is left.
func (r *restart) abandon() {
	r.mu.Lock()
	r.abandoned = true
	source, criu := r.source, r.criu
	r.mu.Unlock()
	if source == nil {
		return // nothing has been made yet, nor will it be
	}
	source.Abort()
	if criu != nil {
		criu.Stop()
		criu.Insist(func() bool { return true })
	}
	<-r.finished
}

// unlessAbandoned sets what abandon looks at. It is an error if that was called before.
func (r *restart) unlessAbandoned(set func()) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	set()
	if r.abandoned {
		return &ckpt.Error{Op: "restart", Errno: syscall.ECANCELED}
	}
	return nil
}

// begin reads the context and starts criu.
func (r *restart) begin(e *engine) (started bool, err error) {
	source, err := openSource(r.request)
	if err != nil {
		return false, contextError(err)
	}
	if err := r.unlessAbandoned(func() { r.source = source }); err != nil {
		return false, err
	}
	if reader, ok := source.(*ctxfile.Reader); ok {
		e.measured(reader.Served)
	}
	if r.plan, err = newPlan(r.source, r.request); err != nil {
		return false, contextError(err)
	}
	command := stream.Command{Path: e.criu.Path, Args: r.options(), Inherit: r.plan.inherited, InSession: true}
	if r.request.RestorePid {
		err = r.plan.pidsFree()
	} else if r.cell, err = newCell(); err == nil {
		command.Enter = (&namespaces{pid: r.cell.init}).enter
	}
	if err != nil {
		return false, err
	}
	criu, err := stream.New(stream.Serve, stream.Handler{
		Offer: func(name string) bool {
			return r.plan.images[name] != nil || r.source.Has(name) && !slices.Contains(r.plan.hidden, name)
		},
		Image: r.serve,
		Stage: func(s *stream.Stage) { s.Answer(r.answered(s)) },
	})
	if err != nil {
		return false, err
	}
	if err := r.unlessAbandoned(func() { r.criu = criu }); err != nil {
		return false, err
	}
	if err := criu.Start(command); err != nil {
		return false, err
	}
	return true, nil
}

// options are criu's for the restore.
func (r *restart) options() []string {
	options := append(commonOptions(), "--restore-detached", "--restore-sibling")
	options = append(options, r.plan.options...)
	return append([]string{"restore"}, options...)
}

// serve writes an image into its pipe, while criu goes on.
func (r *restart) serve(name string, pipe int) error {
	if patched := r.plan.images[name]; patched != nil {
		return writeAll(pipe, patched)
	}
	return contextError(r.source.Serve(name, pipe))
}

// writeAll writes into a pipe. A reader that has gone is no error: criu need
// not read an image to its end.
func writeAll(pipe int, b []byte) error {
	for len(b) > 0 {
		n, err := unix.Write(pipe, b)
		switch err {
		case nil:
			b = b[n:]
		case unix.EINTR:
		case unix.EPIPE:
			return nil
		default:
			return sysError("write to", "criu", err)
		}
	}
	return nil
}

// answered answers a hook: it has to be known who was restored, and signals
// reach the processes before they run.
func (r *restart) answered(s *stream.Stage) bool {
	switch s.Name {
	case stream.PostRestore:
		return r.found(s.Root)
	case stream.PreResume:
		if !r.found(s.Root) {
			return false
		}
		r.resumed = true
		if r.request.Resume != nil {
			r.request.Resume()
		}
		switch {
		case syscall.Signal(r.request.Signal) == unix.SIGCONT:
		case r.endsEarly():
			// What ends a process as soon as its first thread is let go takes
			// the others away from criu, which then fails. So they are only
			// stopped here, before their next instruction all the same.
			r.stopRunning()
		default:
			signalAll(r.root, r.request.Signal)
		}
	}
	return true
}

// endsEarly tells whether the signal may end processes before criu has let go of
// all their threads.
func (r *restart) endsEarly() bool {
	signal := syscall.Signal(r.request.Signal)
	return ckpt.Ends(r.request.Signal) && signal != unix.SIGKILL && slices.ContainsFunc(r.plan.tasks, func(t images.Task) bool {
		return len(t.Threads) > 1
	})
}

// stopRunning stops the processes that were not stopped when they were saved;
// letGo continues them.
func (r *restart) stopRunning() {
	tree, err := proc.Descend(r.root)
	if err != nil {
		return
	}
	for _, pid := range tree {
		inner, err := proc.InnerPids(pid)
		if err == nil && !r.plan.stopped[int32(inner[len(inner)-1])] {
			r.held = append(r.held, pid)
			_ = unix.Kill(pid, unix.SIGSTOP)
		}
	}
}

func (r *restart) letGo() {
	for _, pid := range r.held {
		_ = unix.Kill(pid, unix.SIGCONT)
	}
}

// found notes who was restored. Pid is the root's as criu sees it.
func (r *restart) found(pid int) bool {
	r.root = pid
	if r.cell != nil {
		r.root = r.cell.outer(pid)
	}
	return r.root > 0
}

// outcome is what has become of the restore, once criu has ended.
func (r *restart) outcome() error {
	r.criu.AwaitImages()
	killed := r.resumed && syscall.Signal(r.request.Signal) == unix.SIGKILL
	if status := r.criu.Status(); status.Exited() && status.ExitStatus() == 0 && r.resumed || killed {
		if syscall.Signal(r.request.Signal) == unix.SIGCONT {
			// Criu has stopped those again that were stopped.
			signalAll(r.root, r.request.Signal)
		}
		if r.held != nil {
			signalAll(r.root, r.request.Signal)
			r.letGo()
		}
		if r.cell != nil {
			r.cell.run(int(r.plan.tasks[0].PID))
		}
		return nil
	}
	// Criu kills what it has made, but not if it was killed itself.
	r.endRestored()
	if r.cell != nil {
		r.cell.end()
	}
	if err := r.criu.Failure(); err != nil {
		return err
	}
	if r.criu.Stopped() {
		return &ckpt.Error{Op: "restart", Errno: syscall.ECANCELED}
	}
	log := r.criu.Errors()
	if pid, inUse := explain.PidInUse(log); inUse {
		return busyError(pid)
	}
	var made explain.Origin
	if c, ok := r.source.(interface{ Header() ctxfile.Header }); ok {
		h := c.Header()
		made = explain.Origin{Host: h.Host, Kernel: h.Kernel, Machine: h.Machine}
	}
	return explain.Restore(explain.Failure{Status: r.criu.Status(), Log: log}, made)
}

// close gives back what the restore needed.
func (r *restart) close() {
	if r.criu != nil {
		r.criu.Close()
	}
	if r.cell != nil {
		r.cell.end()
	}
	if r.source != nil {
		r.source.Close()
	}
	if r.plan != nil {
		r.plan.close()
	}
}

// busyError is BLCR's for a pid that somebody else has.
func busyError(pid int) error {
	b := &busy{pid: pid}
	if holder := hints.Holder(pid); holder != "" {
		b.detail = []string{holder, "cr_restart --no-restore-pid restarts the job with new pids beside it"}
	}
	return b
}

// busy is an error of which the log tells more, as the module does it.
type busy struct {
	pid    int
	detail []string
}

func (b *busy) Error() string { return b.Unwrap().Error() }

// Unwrap gives the error in the terms of package ckpt.
func (b *busy) Unwrap() error {
	return &ckpt.Error{Op: "restart", Object: "process " + itoa(b.pid), Errno: syscall.EBUSY, Detail: b.detail}
}

// Wait waits until criu has ended.
func (r *restart) Wait() error {
	<-r.finished
	return nil
}

// Log is the module's line for a pid that is taken.
func (r *restart) Log() ([]string, error) {
	if b, ok := r.err.(*busy); ok {
		return []string{fmt.Sprintf("found pid %d in use", b.pid)}, nil
	}
	return nil, nil
}

// Reap returns the restored root, a child of ours.
func (r *restart) Reap() (pid int, err error) {
	if r.err != nil {
		return 0, r.err
	}
	return r.root, nil
}

// endRestored ends what is left of a restore that has failed: processes that
// run no code of their own and would wait for ever. They are children of ours,
// the orphans among them as well, and have the numbers that we know.
func (r *restart) endRestored() {
	known := make(map[int]bool)
	for _, task := range r.plan.tasks {
		pid := int(task.PID)
		if r.cell != nil {
			pid = r.cell.outer(pid)
		}
		known[pid] = true
	}
	r.criu.EndOrphans(func(pid int) bool { return known[pid] })
}
