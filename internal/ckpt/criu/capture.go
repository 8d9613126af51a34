package criu

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/criu/attributes"
	"blcr-cli/internal/ckpt/criu/binary"
	"blcr-cli/internal/ckpt/criu/explain"
	"blcr-cli/internal/ckpt/criu/images"
	"blcr-cli/internal/ckpt/criu/landlock"
	"blcr-cli/internal/ckpt/criu/pstree"
	"blcr-cli/internal/ckpt/criu/savedfiles"
	"blcr-cli/internal/ckpt/criu/stream"
	"blcr-cli/internal/ctxfile"
	"blcr-cli/internal/hints"
	"blcr-cli/internal/proc"
	"blcr-cli/internal/show"
)

// capture is a dump. It implements ckpt.Capture.
//
// Criu writes all images and then runs its action script, which waits for an
// answer while the processes are frozen. That is when Capture returns; Release
// is the answer.
type capture struct {
	request *ckpt.CheckpointRequest
	tree    *pstree.Tree
	criu    *stream.Criu
	writer  store
	empty   *fileState   // of the request's file, before anything is written to it
	finish  func() error // closes writer; further calls wait for the first one and return the same

	meanwhile sync.WaitGroup // prepareFile and checkFaults

	elsewhere []pstree.FileElsewhere   // external files, see options
	ends      takenEnds                // see checkConnections
	memory    takenMemory              // see checkMemory
	owners    takenOwners              // see checkOwners
	terminals takenTerminals           // see mendTerminals
	asked     map[int]attributes.Asked // see noteAttributes
	flagged   func() attributes.Flagged

	dumped   chan struct{} // closed when criu is done with the processes, but for their shared memory
	reported chan struct{} // closed when it has done everything
	frozen   *stream.Stage // the stage post-dump, once that is reported, until it is answered

	begun time.Time     // when criu was started, which freezes the processes at once
	stood time.Duration // from then on until criu had released them
}

// errLimit is the cause of a cancellation by the request's own limit.
var errLimit error = &ckpt.Error{Op: "wait for", Object: "checkpoint", Errno: syscall.ETIME, Step: ckpt.StepWait}

// save is Capture: it runs criu until the processes are frozen and everything of theirs
// has been taken.
func (e *engine) save(ctx context.Context, r *ckpt.CheckpointRequest) (ckpt.Capture, error) {
	// The module looks at the descriptor first.
	if err := unwritable(r); err != nil {
		return nil, err
	}
	if r.Limit > 0 {
		var cancel func()
		ctx, cancel = context.WithTimeoutCause(ctx, r.Limit, errLimit)
		defer cancel()
	}
	progressed(r, ckpt.StepWait)
	c := newCapture(r)
	err := c.freeze(ctx, e)
	for again := 0; again < mostAgain(err) && (c.empty == nil || c.empty.restore(r)); again++ {
		c = newCapture(r)
		err = c.freeze(ctx, e)
	}
	if ckpt.StepOf(err) == ckpt.StepWait && ckpt.ErrnoOf(err) == syscall.ETIME {
		return nil, err // errLimit
	}
	if r.WantLog {
		progressed(r, ckpt.StepLog)
	}
	progressed(r, ckpt.StepOutcome)
	if err != nil {
		// As BLCR's module has it, most of what is wrong with a request comes out
		// when its outcome is collected.
		return nil, ckpt.At(ckpt.StepOutcome, err)
	}
	return c, nil
}

// unwritable is the error for a descriptor that no context can be written to, nil for
// another.
func unwritable(r *ckpt.CheckpointRequest) error {
	flags, err := unix.FcntlInt(uintptr(r.FD), unix.F_GETFL, 0)
	if r.Closed || err != nil {
		// The module answers that.
		return &ckpt.Error{Op: "write", Object: "descriptor", Errno: syscall.EINVAL, Step: ckpt.StepOutcome,
			Detail: []string{fmt.Sprintf("descriptor %d is not open", r.FD)}}
	}
	if r.Dir == "" && flags&unix.O_ACCMODE == unix.O_RDONLY {
		return &ckpt.Error{Op: "write", Object: fmt.Sprintf("descriptor %d", r.FD), Errno: syscall.EBADF, Step: ckpt.StepIssue}
	}
	return nil
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
	if err := threadsLacking(); err != nil {
		return err
	}
	if c.tree, err = pstree.Resolve(ctx, c.request); err != nil {
		if cause := interrupted(ctx, "checkpoint"); cause != nil {
			var e *ckpt.Error
			if errors.As(err, &e) && e.Errno == syscall.ECANCELED {
				cause = detailed(cause, e.Detail)
			}
			return cause
		}
		return err
	}
	defer func() {
		if err != nil {
			c.tree.Close()
		}
	}()
	enter, root, err := c.tree.Namespace()
	if err != nil {
		return err
	}
	if err := interrupted(ctx, "checkpoint"); err != nil {
		return err
	}
	if c.request.Begin != nil {
		if err := c.request.Begin(); err != nil {
			return err
		}
	}
	empty := whereItIs(c.request)
	c.empty = &empty
	if err := c.prepare(e); err != nil {
		return c.writing(err)
	}
	c.finish = sync.OnceValue(c.writer.Close)
	defer func() {
		if err != nil {
			c.criu.Close()
			c.writer.Abort()
			c.meanwhile.Wait()
		}
	}()
	c.tree.LookOutside()
	where, inherited := c.destination()
	if !c.tree.Lives() {
		return &ckpt.Error{Op: "checkpoint", Object: "processes", Errno: syscall.ESRCH}
	}
	if pid := landlock.Confined(c.tree.PIDs); pid != 0 {
		return &ckpt.Error{Op: "checkpoint", Object: "processes", Errno: syscall.EOPNOTSUPP, Detail: []string{
			hints.Process(pid) + " has confined itself by Landlock, which criu does not save: it would not be confined after a restart",
			"save it before it does that, or start it without that",
		}}
	}
	if err := checkDispatch(c.tree.PIDs); err != nil {
		return err
	}
	c.asked = attributes.Ask(c.tree.PIDs)
	if err := interrupted(ctx, "checkpoint"); err != nil {
		return err
	}
	command := stream.Command{Path: e.criu.Path, Environment: e.criu.Environment(), Lend: e.criu.LendKerndat, Args: append(c.options(root), where...), Inherit: inherited, Enter: enter}
	if through := c.tree.Through(); through != nil {
		command.Args = slices.Concat(through[1:], []string{command.Path}, command.Args)
		command.Path, command.Enter = through[0], nil
	}
	c.flagged = sync.OnceValue(func() attributes.Flagged {
		pids, _ := proc.Descend(c.tree.Root)
		return attributes.Flags(pids, c.asked)
	})
	c.begun = time.Now()
	if err := c.criu.Start(command); err != nil {
		return err
	}
	if c.request.Dir != "" {
		c.meanwhile.Go(func() { c.checkFaults(c.criu.Done()) })
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
	// What fails from here on is images on their way, because of giveUp.
	if own := c.criu.Failure(); own != nil {
		err = own
	}
	left := c.giveUp()
	cause := interrupted(ctx, "checkpoint")
	if cause == nil {
		cause = c.failure(err)
	}
	return detailed(cause, left)
}

// take returns when the processes are frozen and everything of theirs is in the
// context, or in our hands. The error is errEnded if criu has ended before that.
func (c *capture) take(ctx context.Context) error {
	if err := c.await(ctx, c.dumped); err != nil {
		return err
	}
	// Meanwhile images are on their way, and criu starts its action script.
	for _, step := range []func() error{c.tree.Refresh, c.noteExternalPipes, c.checkNames, c.noteElsewhere, c.noteAttributes, c.noteProcessor} {
		if err := step(); err != nil {
			select {
			case <-c.criu.Done(): // and the processes run
				return errEnded
			default:
				return err
			}
		}
	}
	if err := c.await(ctx, c.reported); err != nil {
		return err
	}
	// Until the images are in the context it is pages of the processes that are in
	// the pipes, which must not run on.
	c.criu.AwaitImages()
	c.mendTerminals()
	c.meanwhile.Wait()
	if c.criu.Stopped() {
		return errEnded
	}
	for _, step := range []func() error{c.checkMemory, c.restoreCode, c.checkConnections, c.checkOwners, c.saveFiles} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// await returns when criu has come as far as that. The error is errEnded if it has ended before.
func (c *capture) await(ctx context.Context, reached <-chan struct{}) error {
	select {
	case <-reached:
		return nil
	case <-c.criu.Done():
		if !c.criu.Status().Signaled() {
			// It may have ended because an image could not be written. One that was
			// killed may have left code in a process that has a pipe open.
			c.criu.AwaitImages()
		}
		return errEnded
	case <-ctx.Done():
		return interrupted(ctx, "checkpoint")
	}
}

// errEnded says that criu is the one to tell what has gone wrong.
var errEnded = errors.New("criu has ended")

// giveUp stops criu, and returns when it has let go of the processes. If it cannot,
// giveUp leaves it behind and returns lines that say so.
func (c *capture) giveUp() (left []string) {
	c.criu.Stop()
	c.writer.Abort()
	return c.close()
}

// holds is what criu has in its hands.
func (c *capture) holds() stream.Hold {
	switch {
	case c.request.Dir == "" && !c.criu.Named(), !c.tree.Held():
		return stream.HoldsNothing
	}
	if _, _, frozen := c.tree.Frozen(); frozen {
		return stream.HoldsFrozen
	}
	return stream.HoldsRunning
}

// close returns when criu, which has its last answer, has ended, and gives everything
// back. A criu that holds processes that cannot run is left behind: it is no longer
// served, and lets go of them when they can. Then close returns lines that say so.
func (c *capture) close() (left []string) {
	if !c.criu.Insist(c.holds) {
		pid, group, _ := c.tree.Frozen()
		return []string{
			fmt.Sprintf("%s has been frozen meanwhile, by its control group %s; criu (process %d) lets go of it as soon as it is thawed, and must not be killed before",
				hints.Process(pid), show.Name(group), c.criu.PID()),
			"thaw it, as by 'docker unpause' or 'systemctl thaw'",
		}
	}
	<-c.criu.Done()
	if c.criu.Status().Signaled() {
		// It was killed, and its code in the processes is on its way out.
		c.tree.AwaitReturn()
	}
	c.criu.AwaitImages()
	c.criu.EndOrphans(func(int) bool { return false })
	c.criu.Close()
	return nil
}

// detailed returns err with further lines.
func detailed(err error, lines []string) error {
	var e *ckpt.Error
	if len(lines) == 0 || !errors.As(err, &e) {
		return err
	}
	more := *e
	more.Detail = slices.Concat(e.Detail, lines)
	return &more
}

// failure is the error of a dump that was not interrupted and has failed with
// err.
func (c *capture) failure(err error) error {
	if err == errEnded {
		enter, _, _ := c.tree.Namespace()
		err = explain.Dump(explain.Failure{Status: c.criu.Status(), Log: c.criu.Errors(), Tree: c.tree.PIDs, Inside: enter != nil})
	}
	return c.writing(err)
}

// writing adds to an error of writing the context what was being written to, how
// much room there is, and how much the context takes.
func (c *capture) writing(err error) error {
	var e *ckpt.Error
	if !errors.As(err, &e) {
		return err
	}
	var room []string
	switch e.Errno {
	case syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG:
		room = hints.Space(int(c.request.FD), e.Errno, uint64(c.tree.Memory()))
	case syscall.EPIPE:
	case syscall.EIO, syscall.ESTALE, syscall.ENOTCONN, syscall.ETIMEDOUT:
		// Of a disk or a server; criu's own have another Op.
		if e.Op != "write" && e.Op != "splice" {
			return err
		}
	default:
		return err
	}
	detailed := *e
	to := fmt.Sprintf("writing '%s': %s", c.request.Name, ckpt.Strerror(e.Errno))
	detailed.Detail = slices.Concat([]string{to}, e.Detail, room)
	return &detailed
}

// Write completes the context.
func (c *capture) Write(ctx context.Context) error {
	stop := context.AfterFunc(ctx, c.writer.Abort)
	defer stop()
	if err := c.finish(); err != nil {
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
		c.tree.Signal(c.request.Signal)
	}
	c.frozen.Answer(true)
	c.frozen = nil
	if ckpt.RunsOn(c.request.Signal) && runtime.NumCPU() > 1 {
		// Criu takes a while to leave the processes, and one processor.
		go c.finish()
	}
	c.close()
	c.stood = time.Since(c.begun)
	// Processes that were stopped have been stopped again by criu.
	if syscall.Signal(c.request.Signal) == unix.SIGCONT {
		c.tree.Signal(c.request.Signal)
	}
	c.awaitEnd()
	c.tree.Close()
}

// Frozen returns how long the processes have stood still at most.
func (c *capture) Frozen() time.Duration { return c.stood }

// Abort has criu let the processes run on as if nothing had been.
func (c *capture) Abort() {
	if c.frozen != nil {
		c.frozen = nil
		c.giveUp()
		c.tree.Close()
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
		Command: proc.CommandLine(c.tree.Root),
		PIDs:    c.tree.PIDs,
	}
}

// mostSockets is how many sockets criu is told of. Each takes an argument.
const mostSockets = 4096

// options are criu's for a dump of the tree below root.
func (c *capture) options(root int) []string {
	options := append(commonOptions(), "-t", strconv.Itoa(root), "--leave-running",
		// A terminal, or a session, may belong to a process outside of the tree.
		"--shell-job",
		// Deleted files travel in the context, however large. Criu reads "1T"
		// as 1.
		"--ghost-limit", "1099511627776")
	// A socket whose peer is outside of the tree, such as the standard output of
	// what a daemon has started, is saved only if criu is told to. It does not mind
	// the others.
	for _, inode := range c.tree.Sockets(mostSockets) {
		options = append(options, "--external", fmt.Sprintf("unix[%d]", inode))
	}
	// So is a file that was opened before the job got a mount namespace of its own, and one
	// that has another name now.
	c.elsewhere = c.tree.FilesElsewhere(mostSockets)
	c.elsewhere = append(c.elsewhere, otherNames(c.tree, mostSockets)...)
	for _, f := range c.elsewhere {
		options = append(options, "--external", images.ExternalFile(f.Mount, f.Inode))
	}
	if c.tree.WriteLease() {
		options = append(options, "--file-validation", "filesize")
	}
	if c.request.Limit > 0 {
		// Whole seconds, as everywhere.
		options = append(options, "--timeout", strconv.Itoa(int(max(c.request.Limit/time.Second, 1))))
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
	if binary.Unprivileged() {
		options = append(options, "--unprivileged")
	}
	return options
}

// saveFiles writes the files that the request wants with the context.
func (c *capture) saveFiles() error {
	which := savedfiles.Which{Exe: c.request.SaveExe, Private: c.request.SavePrivate, Shared: c.request.SaveShared}
	if which == (savedfiles.Which{}) {
		return nil
	}
	return contextError(savedfiles.Save(c.writer, c.tree.PIDs, which, c.otherName))
}

// noteExternalPipes writes which pipes lead out of the tree, one inode a line. The
// images do not tell them from pipes whose other end is closed. Without that
// member a restart takes every pipe of which one end is missing for external.
func (c *capture) noteExternalPipes() error {
	inodes, known := c.tree.ExternalPipes()
	if !known {
		return nil
	}
	var note []byte
	for _, inode := range inodes {
		note = fmt.Appendf(note, "%d\n", inode)
	}
	return contextError(c.writer.Bytes(images.ExternalPipesName, note))
}

// noteElsewhere writes the names of files on mounts of another namespace.
func (c *capture) noteElsewhere() error {
	if len(c.elsewhere) == 0 {
		return nil
	}
	var note []byte
	for _, f := range c.elsewhere {
		note = images.AppendElsewhere(note, f.Mount, f.Inode, f.Name)
	}
	return contextError(c.writer.Bytes(images.ElsewhereName, note))
}

// noteAttributes writes what CRIU does not save of the processes.
func (c *capture) noteAttributes() error {
	return contextError(c.writer.Bytes(images.AttributesName, attributes.Save(c.tree.PIDs, c.asked, c.flagged())))
}

// awaitEnd returns when processes that were killed have ended, so that a restart
// right afterwards finds their pids free. Memory takes time to go. Processes that
// may have something to do before they end, or not end at all, get less time.
func (c *capture) awaitEnd() {
	if !ckpt.Ends(c.request.Signal) {
		return
	}
	limit := patience / 15
	if syscall.Signal(c.request.Signal) == unix.SIGKILL {
		limit = patience
	}
	c.tree.AwaitEnd(limit)
}
