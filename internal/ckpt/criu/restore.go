package criu

import (
	"blcr-cli/internal/ctxfile"
	"fmt"
	"os"
	"slices"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/criu/explain"
	"blcr-cli/internal/ckpt/criu/images"
	"blcr-cli/internal/hints"
	"blcr-cli/internal/proc"
)

// restart is a restore under way.
type restart struct {
	request *ckpt.RestartRequest

	*session
	source  source
	plan    *plan
	cell    *cell // where the job gets new pids, else nil
	serving sync.WaitGroup

	mu        sync.Mutex // of what abandon looks at while begin sets it
	abandoned bool

	root    int   // pid of the restored root
	resumed bool  // the processes have been let go
	held    []int // those of them that are stopped until criu has let go, too

	disown func() // undoes adoptOrphans

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
		<-rs.ended
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
	source, session := r.source, r.session
	r.mu.Unlock()
	if source == nil {
		return // nothing has been made yet, nor will it be
	}
	source.Abort()
	if session != nil {
		session.stop()
		session.insist(r.finished, func() bool { return true })
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
	var in *namespaces
	if r.request.RestorePid {
		err = r.plan.pidsFree()
	} else if r.cell, err = newCell(); err == nil {
		in = &namespaces{pid: r.cell.init}
	}
	if err != nil {
		return false, err
	}
	session, err := newSession(serveSocket)
	if err != nil {
		return false, err
	}
	if err := r.unlessAbandoned(func() { r.session = session }); err != nil {
		session.closeAll()
		return false, err
	}
	r.offer = func(name string) bool {
		return r.plan.images[name] != nil || r.source.Has(name) && !slices.Contains(r.plan.hidden, name)
	}
	r.session.request = r.serve
	r.asked = r.answered
	// Until it is clear whose children they are, orphans are ours, to be ended
	// if this fails.
	r.disown = adoptOrphans()
	if err := r.session.start(command{path: e.criu.Path, args: r.options(), extra: r.plan.inherited, in: in, inSession: true}); err != nil {
		return false, err
	}
	return true, nil
}

// options are criu's for the restore.
func (r *restart) options() []string {
	options := append(commonOptions(), "--stream", "-D", r.dir.path, "--restore-detached", "--restore-sibling")
	options = append(options, r.plan.options...)
	return append([]string{"restore"}, options...)
}

// serve writes an image into its pipe, while criu goes on.
func (r *restart) serve(name string, pipe int) {
	r.serving.Add(1)
	go func() {
		defer r.serving.Done()
		defer unix.Close(pipe)
		var err error
		if patched := r.plan.images[name]; patched != nil {
			err = writeAll(pipe, patched)
		} else {
			err = r.source.Serve(name, pipe)
		}
		if err != nil {
			r.fail(contextError(err))
		}
	}()
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
func (r *restart) answered(h *hook) bool {
	switch h.stage {
	case stagePostRestore:
		return r.found(h.root)
	case stagePreResume:
		if !r.found(h.root) {
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
	r.serving.Wait()
	defer r.disown()
	killed := r.resumed && syscall.Signal(r.request.Signal) == unix.SIGKILL
	if r.status.Exited() && r.status.ExitStatus() == 0 && r.resumed || killed {
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
	if err := r.failure(); err != nil {
		return err
	}
	if r.isStopped() {
		return &ckpt.Error{Op: "restart", Errno: syscall.ECANCELED}
	}
	log := r.log.Errors()
	if pid, inUse := explain.PidInUse(log); inUse {
		return busyError(pid)
	}
	var made explain.Origin
	if c, ok := r.source.(interface{ Header() ctxfile.Header }); ok {
		h := c.Header()
		made = explain.Origin{Host: h.Host, Kernel: h.Kernel, Machine: h.Machine}
	}
	return explain.Restore(explain.Failure{Status: r.status, Log: log}, made)
}

// close gives back what the restore needed.
func (r *restart) close() {
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
	endOrphans(func(pid int) bool { return known[pid] })
}

// adoptOrphans makes us the parent of what criu leaves behind if it is killed,
// and returns the way back.
func adoptOrphans() (undo func()) {
	var before int32
	_ = unix.Prctl(unix.PR_GET_CHILD_SUBREAPER, uintptr(unsafe.Pointer(&before)), 0, 0, 0)
	_ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
	return func() { _ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, uintptr(before), 0, 0, 0) }
}

// endOrphans ends what a criu that has ended has left to us: its own processes,
// which it makes to find out what the kernel can do and which may wait for it for
// ever, and others that we know.
func endOrphans(known func(pid int) bool) {
	for again := true; again; {
		again = false
		for _, pid := range children() {
			if known(pid) || isHelper(pid) {
				_ = unix.Kill(pid, unix.SIGKILL)
				wait(pid)
				again = true
			}
		}
	}
}

// children are our own.
func children() []int {
	var pids []int
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return nil
	}
	for _, task := range tasks {
		text, err := os.ReadFile("/proc/self/task/" + task.Name() + "/children")
		if err == nil {
			pids = append(pids, numbers(string(text))...)
		}
	}
	return pids
}
