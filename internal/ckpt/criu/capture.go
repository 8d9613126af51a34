package criu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/criu/explain"
	"blcr-cli/internal/ckpt/criu/stream"
	"blcr-cli/internal/ctxfile"
	"blcr-cli/internal/proc"
)

// capture is a dump. It implements ckpt.Capture.
//
// Criu writes all images and then runs its action script, which waits for an
// answer while the processes are frozen. That is when Capture returns; Release
// is the answer.
type capture struct {
	request *ckpt.CheckpointRequest
	scope   *scope
	criu    *stream.Criu
	writer  store
	others  *pipesOfOthers

	reported chan *stream.Stage // gets the stage post-dump
	frozen   *stream.Stage      // the same, until it is answered
}

// errLimit is the cause of a cancellation by the request's own limit.
var errLimit = &ckpt.Error{Op: "wait for", Object: "checkpoint", Errno: syscall.ETIME, Step: ckpt.StepWait}

// Capture runs criu until the processes are frozen and everything of theirs has
// been taken.
func (e *engine) Capture(ctx context.Context, r *ckpt.CheckpointRequest) (ckpt.Capture, error) {
	// The module looks at the descriptor first.
	flags, err := unix.FcntlInt(uintptr(r.FD), unix.F_GETFL, 0)
	if r.Closed || err != nil || r.Dir == "" && flags&unix.O_ACCMODE == unix.O_RDONLY {
		return nil, &ckpt.Error{Op: "write", Object: fmt.Sprintf("descriptor %d", r.FD), Errno: syscall.EBADF, Step: ckpt.StepIssue}
	}
	if r.Limit > 0 {
		var cancel func()
		ctx, cancel = context.WithTimeoutCause(ctx, r.Limit, errLimit)
		defer cancel()
	}
	c := &capture{request: r, reported: make(chan *stream.Stage, 1)}
	progressed(r, ckpt.StepWait)
	if err := c.freeze(ctx, e); err != nil {
		var limit *ckpt.Error
		if errors.As(err, &limit) && limit == errLimit {
			return nil, err
		}
		// As BLCR's module has it, most of what is wrong with a request comes out
		// when its outcome is collected.
		if r.WantLog {
			progressed(r, ckpt.StepLog)
		}
		progressed(r, ckpt.StepOutcome)
		return nil, ckpt.At(ckpt.StepOutcome, err)
	}
	if r.WantLog {
		progressed(r, ckpt.StepLog)
	}
	progressed(r, ckpt.StepOutcome)
	return c, nil
}

func progressed(r *ckpt.CheckpointRequest, step ckpt.Step) {
	if r.Progressed != nil {
		r.Progressed(step)
	}
}

// interrupted is why ctx was cancelled, as an error; nil if it was not.
func interrupted(ctx context.Context, op string) error {
	if ctx.Err() == nil {
		return nil
	}
	var e *ckpt.Error
	if errors.As(context.Cause(ctx), &e) {
		return e
	}
	return &ckpt.Error{Op: op, Errno: syscall.ECANCELED}
}

// freeze does all of Capture. If it fails nothing is left of the dump.
func (c *capture) freeze(ctx context.Context, e *engine) (err error) {
	if c.scope, err = resolve(ctx, c.request); err != nil {
		return err
	}
	in, pid, err := namespacesOf(c.scope.root)
	if err != nil {
		return nobody()
	}
	if err := interrupted(ctx, "checkpoint"); err != nil {
		return err
	}
	if err := c.prepare(e); err != nil {
		return c.writing(err)
	}
	defer func() {
		if err != nil {
			c.criu.Close()
		}
	}()
	c.others = lookAtOthers(c.scope)
	where, inherited := c.destination()
	command := stream.Command{Path: e.criu.Path, Args: append(c.options(pid), where...), Inherit: inherited}
	if in != nil {
		command.Enter = in.enter
	}
	if err := c.criu.Start(command); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() {
		c.criu.Stop()
		c.writer.Abort()
	})
	err = c.take(ctx)
	if !stop() && err == nil {
		// Cancelled a moment too late to be noticed; criu has been told no.
		err = interrupted(ctx, "checkpoint")
	}
	if err == nil {
		return nil
	}
	c.giveUp()
	if cause := interrupted(ctx, "checkpoint"); cause != nil {
		return cause
	}
	return c.failure(err)
}

// take returns when the processes are frozen and everything of theirs is in the
// context, or in our hands. The error is errEnded if criu has ended before that.
func (c *capture) take(ctx context.Context) error {
	select {
	case c.frozen = <-c.reported:
	case <-c.criu.Done():
		return errEnded
	case <-ctx.Done():
		return interrupted(ctx, "checkpoint")
	}
	// Until the images are in the context it is pages of the processes that are in
	// the pipes, which must not run on.
	c.criu.AwaitImages()
	if c.criu.Stopped() {
		return errEnded
	}
	for _, step := range []func() error{c.lookAgain, c.noteNeighbours, c.saveFiles} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// errEnded says that criu is the one to tell what has gone wrong.
var errEnded = errors.New("criu has ended")

// giveUp stops criu, and returns when it has let go of the processes, or can hold
// none.
func (c *capture) giveUp() {
	c.criu.Stop()
	c.writer.Abort()
	if c.request.Dir == "" || !c.isTraced() {
		c.criu.Insist(func() bool { return !c.isTraced() })
	} // else it ends only when it has written its files
	c.close()
}

// close returns when criu has ended, and gives everything back.
func (c *capture) close() {
	<-c.criu.Done()
	c.criu.AwaitImages()
	c.criu.EndOrphans(func(int) bool { return false })
	c.criu.Close()
}

// isTraced tells whether the root has a tracer, which is criu.
func (c *capture) isTraced() bool {
	tracer, err := proc.Tracer(c.scope.root)
	return err == nil && tracer != 0
}

// failure is the error of a dump that was not interrupted and has failed with
// err.
func (c *capture) failure(err error) error {
	if own := c.criu.Failure(); own != nil {
		err = own
	} else if err == errEnded {
		in, _, inErr := namespacesOf(c.scope.root)
		err = explain.Dump(explain.Failure{
			Status: c.criu.Status(), Log: c.criu.Errors(), Tree: c.scope.tree, Inside: inErr == nil && in != nil,
		})
	}
	return c.writing(err)
}

// writing adds to an error about writing what was being written to, and how much
// room there is.
func (c *capture) writing(err error) error {
	err = c.roomFor(err)
	var e *ckpt.Error
	if !errors.As(err, &e) {
		return err
	}
	switch e.Errno {
	case syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG, syscall.EPIPE:
		named := *e
		named.Detail = slices.Insert(slices.Clone(e.Detail), 0, fmt.Sprintf("writing '%s': %s", c.request.Name, ckpt.Strerror(e.Errno)))
		return &named
	}
	return err
}

// Write completes the context.
func (c *capture) Write(ctx context.Context) error {
	stop := context.AfterFunc(ctx, c.writer.Abort)
	defer stop()
	if err := c.writer.Close(); err != nil {
		if cause := interrupted(ctx, "checkpoint"); cause != nil {
			return cause
		}
		return c.writing(contextError(err))
	}
	if c.frozen == nil || !ckpt.Ends(c.request.Signal) {
		return nil
	}
	// The signal is the last that these processes get. A disk that turns out to be
	// full, or broken, must not cost them their lives as well.
	return c.writing(c.flush())
}

// Release sends the signal and lets criu let go.
func (c *capture) Release() {
	if syscall.Signal(c.request.Signal) != unix.SIGCONT {
		c.signal()
	}
	c.frozen.Answer(true)
	c.frozen = nil
	c.close()
	// Processes that were stopped have been stopped again by criu.
	if syscall.Signal(c.request.Signal) == unix.SIGCONT {
		c.signal()
	}
	c.awaitEnd()
}

// Abort has criu let the processes run on as if nothing had been.
func (c *capture) Abort() {
	if c.frozen != nil {
		c.frozen = nil
		c.giveUp()
	}
}

// header is what the context says of itself.
func (c *capture) header(e *engine) ctxfile.Header {
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
func (c *capture) options(pid int) []string {
	options := append(commonOptions(), "-t", itoa(pid), "--leave-running",
		// A terminal, or a session, may belong to a process outside of the tree.
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
		// It would leave statistics there, which nothing reads; in /proc it cannot.
		"--work-dir", "/proc",
		"--file-locks", "--tcp-established", "--network-lock", "skip", "--ext-unix-sk", "--evasive-devices",
		// A job stays in the cgroups of the process that runs it, as with BLCR.
		"--manage-cgroups=ignore",
	}
	if os.Geteuid() != 0 {
		options = append(options, "--unprivileged")
	}
	return options
}

// lookAgain looks for the tree as it has been frozen. It is an error if another
// request of ours has begun in it meanwhile: its processes would be restored
// without what they wait for.
func (c *capture) lookAgain() error {
	tree, err := proc.Descend(c.scope.root)
	if err != nil {
		return ckpt.SystemError("read", "/proc", err)
	}
	c.scope.tree = tree
	return atWork(tree)
}

// signal sends the requested signal to every process, which it reaches before
// its next instruction.
func (c *capture) signal() { signalTree(c.scope.root, c.request.Signal) }

// signalTree sends a signal to a tree. The tree is looked for again: it may have
// changed since it was looked for before it was frozen.
func signalTree(root int, signal int32) {
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

// awaitEnd returns when processes that were killed have ended, so that a restart
// right afterwards finds their pids free. Memory takes time to go. Processes that
// may have something to do before they end, or not end at all, get less time.
func (c *capture) awaitEnd() {
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
