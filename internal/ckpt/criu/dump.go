package criu

import (
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/criu/explain"
	"blcr-cli/internal/ckpt/criu/stream"
	"blcr-cli/internal/ctxfile"
	"blcr-cli/internal/proc"
)

// checkpoint is a dump under way.
type checkpoint struct {
	request *ckpt.CheckpointRequest
	scope   *scope
	limit   <-chan time.Time

	criu   *stream.Criu
	writer store
	others *pipesOfOthers
	saved  bool // criu is told that all is well; it is too late to abandon

	mu        sync.Mutex // of what abandon looks at while begin sets it
	abandoned bool
	making    bool // from here on there may be something to give back
	made      bool // criu and writer are there

	// Valid once finished is closed.
	err      error
	finished chan struct{}
}

// Checkpoint starts the dump. Everything that is wrong with the request comes
// out at Reap, as the module has it.
func (e *engine) Checkpoint(r *ckpt.CheckpointRequest) (ckpt.Checkpoint, error) {
	// The module looks at the descriptor first.
	if flags, err := unix.FcntlInt(uintptr(r.FD), unix.F_GETFL, 0); err != nil || r.Dir == "" && flags&unix.O_ACCMODE == unix.O_RDONLY {
		return nil, &ckpt.Error{Op: "write", Object: fmt.Sprintf("descriptor %d", r.FD), Errno: syscall.EBADF}
	}
	c := &checkpoint{request: r, finished: make(chan struct{})}
	if r.Limit > 0 {
		c.limit = time.After(r.Limit)
	}
	// Before there is anything to be removed again.
	e.begun(c.abandon)
	started, err := c.begin(e)
	if !started {
		if c.criu != nil {
			c.criu.Close()
		}
		c.err = err
		close(c.finished)
		return c, nil
	}
	go func() {
		<-c.criu.Done()
		c.err = c.outcome()
		close(c.finished)
	}()
	return c, nil
}

// abandon ends the checkpoint, and returns when nothing of it is left.
func (c *checkpoint) abandon() {
	c.mu.Lock()
	c.abandoned = true
	making, made, saved := c.making, c.made, c.saved
	c.mu.Unlock()
	if !making {
		return // nothing has been made yet, nor will it be
	}
	if made {
		if !saved {
			c.criu.Stop()
			c.writer.Abort()
		}
		if c.request.Dir == "" || !c.isTraced() {
			c.criu.Insist(func() bool { return !c.isTraced() })
		} // else it ends only when it has written its files
	}
	<-c.finished
}

// isTraced tells whether somebody, which is criu, is at work in the root.
func (c *checkpoint) isTraced() bool {
	tracer, err := proc.Tracer(c.scope.root)
	return err == nil && tracer != 0
}

// unlessAbandoned sets what abandon looks at. It is an error if that was called before.
func (c *checkpoint) unlessAbandoned(set func()) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	set()
	if c.abandoned {
		return &ckpt.Error{Op: "checkpoint", Errno: syscall.ECANCELED}
	}
	return nil
}

// begin starts criu.
func (c *checkpoint) begin(e *engine) (started bool, err error) {
	if c.scope, err = resolve(c.request); err != nil {
		return false, err
	}
	in, pid, err := namespacesOf(c.scope.root)
	if err != nil {
		return false, nobody()
	}
	if err := c.unlessAbandoned(func() { c.making = true }); err != nil {
		return false, err
	}
	if err := c.prepare(e); err != nil {
		return false, err
	}
	if err := c.unlessAbandoned(func() { c.made = true }); err != nil {
		return false, err
	}
	c.others = lookAtOthers(c.scope)
	where, inherited := c.destination()
	command := stream.Command{Path: e.criu.Path, Args: append(c.options(pid), where...), Inherit: inherited}
	if in != nil {
		command.Enter = in.enter
	}
	if err := c.criu.Start(command); err != nil {
		return false, err
	}
	return true, nil
}

// header is what the context says of itself.
func (c *checkpoint) header(e *engine) ctxfile.Header {
	var host unix.Utsname
	_ = unix.Uname(&host)
	return ctxfile.Header{
		Engine:  "criu " + e.criu.Version,
		Created: time.Now(),
		Host:    unix.ByteSliceToString(host.Nodename[:]),
		Kernel:  unix.ByteSliceToString(host.Release[:]),
		Machine: unix.ByteSliceToString(host.Machine[:]),
		Command: proc.CommandLine(c.scope.root),
		PIDs:    c.scope.tree,
	}
}

// options are criu's for a dump of the tree below pid.
func (c *checkpoint) options(pid int) []string {
	options := append(commonOptions(), "-t", itoa(pid), "--leave-running",
		// A terminal, or a session, may belong to somebody else.
		"--shell-job",
		// Deleted files travel in the context, however large. Criu reads "1T"
		// as 1.
		"--ghost-limit", "1099511627776")
	options = append(options, c.sockets()...)
	if c.request.Limit > 0 {
		// Whole seconds, as everywhere.
		options = append(options, "--timeout", itoa(int(max(c.request.Limit/time.Second, 1))))
	}
	return append([]string{"dump"}, options...)
}

// commonOptions are those for dump and restore.
func commonOptions() []string {
	options := []string{
		"-v1",
		// Where it would leave statistics that nobody reads, and cannot.
		"--work-dir", "/proc",
		"--file-locks", "--tcp-established", "--network-lock", "skip", "--ext-unix-sk", "--evasive-devices",
		// A job stays in the cgroups of whoever runs it, as with BLCR.
		"--manage-cgroups=ignore",
	}
	if os.Geteuid() != 0 {
		options = append(options, "--unprivileged")
	}
	return options
}

// asked is what happens while the processes are frozen: everything that criu
// has written must be in the context before they run on, because until then it
// is pages of theirs that are in the pipes.
func (c *checkpoint) asked(s *stream.Stage) bool {
	if s.Name != stream.PostDump {
		return true
	}
	c.criu.AwaitImages()
	if c.criu.Stopped() {
		return false
	}
	if err := c.lookAgain(); err != nil {
		c.criu.Fail(err)
		return false
	}
	if err := c.finish(); err != nil {
		c.criu.Fail(err)
		return false
	}
	// After this it is too late to give up: the signal may be the last thing
	// that happens to these processes.
	if c.unlessAbandoned(func() { c.saved = !c.abandoned }) != nil {
		return false
	}
	if c.request.Complete != nil && !c.request.Complete() {
		_ = c.unlessAbandoned(func() { c.saved = false })
		return false
	}
	if syscall.Signal(c.request.Signal) != unix.SIGCONT {
		c.signal()
	}
	return true
}

// lookAgain looks for the tree as it has been frozen. It is an error if another
// request of ours has begun in it meanwhile: its processes would come back to
// nobody who knows them.
func (c *checkpoint) lookAgain() error {
	tree, err := proc.Descend(c.scope.root)
	if err != nil {
		return sysError("read", "/proc", err)
	}
	c.scope.tree = tree
	return atWork(tree)
}

// finish completes the context.
func (c *checkpoint) finish() error {
	if err := c.noteNeighbours(); err != nil {
		return err
	}
	if err := c.saveFiles(); err != nil {
		return err
	}
	if err := c.writer.Close(); err != nil {
		return contextError(err)
	}
	if ckpt.Ends(c.request.Signal) {
		// It is the last that these processes do. A disk that turns out to be
		// full, or broken, must not cost them their lives as well.
		return c.flush()
	}
	return nil
}

// signal sends the requested signal to every process, which it reaches before
// its next instruction.
func (c *checkpoint) signal() {
	signalAll(c.scope.root, c.request.Signal)
}

// signalAll sends a signal to a tree. They are looked for again: it is frozen
// now, and was not when we looked first.
func signalAll(root int, signal int32) {
	if signal < 0 {
		// BLCR's early signals are sent before callbacks, of which there are
		// none here.
		signal = -signal
	}
	if signal == 0 {
		return
	}
	tree, err := proc.Descend(root)
	if err != nil {
		return
	}
	for _, pid := range tree {
		_ = unix.Kill(pid, syscall.Signal(signal))
	}
}

// outcome is what has become of the dump, once criu has ended.
func (c *checkpoint) outcome() error {
	c.criu.AwaitImages()
	c.criu.EndOrphans(func(int) bool { return false })
	c.criu.Close()
	if err := c.criu.Failure(); err != nil {
		return c.roomFor(err)
	}
	if c.saved {
		// Criu has only let them run on, or not found them any more. Those that
		// were stopped it has stopped again.
		if syscall.Signal(c.request.Signal) == unix.SIGCONT {
			c.signal()
		}
		c.awaitEnd()
		return nil
	}
	if c.criu.Stopped() {
		return &ckpt.Error{Op: "checkpoint", Errno: syscall.ECANCELED}
	}
	return c.explain()
}

// awaitEnd returns when processes that were killed have ended, so that whoever
// restarts them at once finds their numbers free. Memory takes time to go. Those
// that may have something to do before they end, or not end at all, get less
// time.
func (c *checkpoint) awaitEnd() {
	if !ckpt.Ends(c.request.Signal) {
		return
	}
	deadline := time.Now().Add(patience / 15)
	if syscall.Signal(c.request.Signal) == unix.SIGKILL {
		deadline = time.Now().Add(patience)
	}
	for _, pid := range c.scope.tree {
		for !ended(pid) && time.Now().Before(deadline) {
			time.Sleep(time.Millisecond)
		}
	}
}

// explain is the error for a criu that has failed by itself.
func (c *checkpoint) explain() error {
	in, _, err := namespacesOf(c.scope.root)
	return c.roomFor(explain.Dump(explain.Failure{
		Status: c.criu.Status(), Log: c.criu.Errors(), Tree: c.scope.tree, Inside: err == nil && in != nil,
	}))
}

// Wait waits until criu has ended.
func (c *checkpoint) Wait() error {
	select {
	case <-c.finished:
		return nil
	case <-c.limit:
		if c.tooLate() {
			<-c.finished
			return nil
		}
		return &ckpt.Error{Op: "wait for", Object: "checkpoint", Errno: syscall.ETIME}
	}
}

// tooLate gives up, unless it is too late for that.
func (c *checkpoint) tooLate() (saved bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.abandoned = c.abandoned || !c.saved
	return c.saved
}

// Log returns nothing: what there is to say is said with the error.
func (c *checkpoint) Log() ([]string, error) { return nil, nil }

// Reap returns the outcome.
func (c *checkpoint) Reap() error { return c.err }
