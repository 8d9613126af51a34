package criu

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/criu/explain"
	"blcr-cli/internal/ckpt/criu/ghosts"
	"blcr-cli/internal/ckpt/criu/images"
	"blcr-cli/internal/ckpt/criu/lazyguard"
	"blcr-cli/internal/ckpt/criu/memory"
	"blcr-cli/internal/ckpt/criu/pidns"
	"blcr-cli/internal/ckpt/criu/pstree"
	"blcr-cli/internal/ckpt/criu/stream"
	"blcr-cli/internal/ckpt/criu/tempdir"
	"blcr-cli/internal/ctxfile"
	"blcr-cli/internal/hints"
	"blcr-cli/internal/proc"
)

// restart is a restore.
type restart struct {
	request *ckpt.RestartRequest

	criu   *stream.Criu
	source source
	plan   *plan
	pidns  *pidns.Namespace // where the job gets new pids, else nil

	fill       *filling         // nil if all memory comes by criu's pipes
	filler     *memory.Filler   // the same
	guard      *lazyguard.Guard // of a lazy restart
	early      <-chan struct{}  // closed when guardEarly is over
	ghosts     *ghosts.Names    // what criu may leave in the file system
	unfillable bool             // the memory could not be filled
	filled     atomic.Int64     // how much of it has been, in bytes
	answering  sync.WaitGroup   // goroutines that answer a stage
	attaching  context.Context  // until criu has all processes in its hands again
	attached   func()           // ends it
	halted     atomic.Bool      // criu was killed because it could not go on

	extracted tempdir.Dir // the images, where criu cannot have them streamed
	inMemory  int         // a directory with them in memory, -1 for none

	root     int           // pid of the restored root
	restored atomic.Int32  // the same for other goroutines; 0 until this attempt has made it
	resumed  atomic.Bool   // the processes have been let go
	held     []int         // those of them that are stopped until criu has let go, too
	locks    []images.Lock // what the processes had locked
	lost     []lostLock    // those of them that have to be taken again
	calls    []ownCall     // what the processes have to set for themselves
	broken   error         // why that has failed
	free     bool          // criu has let go, and nothing is held any more
}

// restore is Restart.
func (e *engine) restore(ctx context.Context, request *ckpt.RestartRequest) (pid int, err error) {
	if request.Closed {
		return 0, &ckpt.Error{Op: "read", Object: fmt.Sprintf("descriptor %d", request.FD), Errno: syscall.EBADF}
	}
	r := &restart{request: request, extracted: tempdir.None, inMemory: -1}
	defer r.close()
	if err = r.run(ctx, e); err == nil {
		if r.request.Lazy && r.filler != nil {
			e.coming = r.fillBehind()
		}
		return r.root, nil
	}
	if !r.resumed.Load() {
		if cause := interrupted(ctx, "restart"); cause != nil {
			return 0, cause
		}
	}
	if pid, inUse := pidInUse(err); inUse {
		// The module logs that.
		e.log = []string{fmt.Sprintf("found pid %d in use", pid)}
	}
	return 0, err
}

// run does all of Restart but for giving things back.
func (r *restart) run(ctx context.Context, e *engine) (err error) {
	if err = distrust(r.request); err != nil {
		return err
	}
	if r.source, e.opened = e.opened, nil; r.source == nil {
		if r.source, err = openSource(ctx, r.request); err != nil {
			return contextError(err)
		}
	}
	stop := context.AfterFunc(ctx, r.source.Abort)
	defer stop()
	if reader, ok := r.source.(*ctxfile.Reader); ok {
		e.measured(func() (done, all int64) {
			done, all = reader.Served()
			return done + r.filled.Load(), all
		})
	}
	if r.plan, err = newPlan(r.source, r.request); err != nil {
		return contextError(err)
	}
	if err = distrustLinks(r.request, r.plan.images[images.FilesName]); err != nil {
		return contextError(err)
	}
	if err = r.demands(); err != nil {
		return err
	}
	r.fill = newFilling(r.source, r.plan, e.criu.Version, r.request.Lazy)
	if r.plan.takesFiles(r.source, r.fill) {
		r.fill = nil
		if r.extracted, err = r.plan.extract(ctx, r.source); err != nil {
			return err
		}
	}
	if r.fill != nil {
		r.inMemory = r.imagesInMemory(ctx)
	}
	if err = r.attempt(ctx, e); err != nil && r.canPipe(ctx) {
		r.release()
		r.fill = nil
		r.closeInMemory()
		err = r.attempt(ctx, e)
	}
	for deadline := time.Now().Add(patience); freed(ctx, err, deadline) || r.outrun(ctx, err, deadline) || r.wasHalted(ctx, err, deadline) || r.waitedFor(ctx, err, deadline); {
		r.release()
		err = r.attempt(ctx, e)
	}
	return err
}

// freed waits until the number that a restore could not have is free, if only what has
// ended still uses it: as the number of its session, or of its process group, too.
// It is false if err is another error, or if there was no use in waiting.
func freed(ctx context.Context, err error, deadline time.Time) bool {
	id, inUse := pidInUse(err)
	return inUse && unused(ctx, id, deadline)
}

// unused waits until a number is free that only what has ended uses. It is false if
// something that runs uses it, or that takes too long.
func unused(ctx context.Context, id int, deadline time.Time) bool {
	for ctx.Err() == nil && time.Now().Before(deadline) {
		used, living := proc.Uses(id)
		if living {
			return false
		}
		if !used {
			return true
		}
		time.Sleep(10 * time.Millisecond)
	}
	return false
}

// attempt has criu restore the processes.
func (r *restart) attempt(ctx context.Context, e *engine) (err error) {
	command := stream.Command{Path: e.criu.Path, Environment: e.criu.Environment(), Lend: e.criu.LendKerndat, Args: r.options(), Inherit: r.plan.inherited, InSession: true, Personality: r.plan.personality()}
	r.held, r.free, r.lost, r.calls = nil, false, nil, nil
	r.halted.Store(false)
	r.restored.Store(0)
	switch {
	case r.plan.container():
		// Its pids are those of a pid namespace, which criu makes.
	case r.request.RestorePid:
		err = r.plan.pidsFree(ctx)
	default:
		if r.pidns, err = pidns.New(gap(r.plan.tasks, 0), r.plan.ahead.Monotonic, r.plan.ahead.Boottime); err != nil {
			break
		}
		if r.pidns.ForUser() {
			command.Fork = r.pidns.Start
		} else {
			command.Enter = pstree.Enter(r.pidns.Init, r.pidns.Init)
		}
	}
	if err == nil {
		err = r.locksFree(ctx)
	}
	if err != nil {
		return err
	}
	// What is at work for criu ends with it.
	during, cancel := context.WithCancel(ctx)
	defer cancel()
	r.attaching, r.attached = context.WithCancel(during)
	if r.pidns == nil && !r.plan.container() && len(r.plan.tasks) <= mostStopped {
		// Those in a pid namespace end with this process.
		command.Stopped = r.plan.stoppedPIDs()
	}
	handler := stream.Handler{
		Offer: func(name string) bool {
			return r.plan.images[name] != nil || r.source.Has(name) && !slices.Contains(r.plan.hidden, name)
		},
		Small:   r.small,
		Image:   func(name string, pipe int) error { return unlessOver(during, r.serve(during, name, pipe)) },
		Stage:   func(s *stream.Stage) { r.answer(during, s) },
		Stopped: r.neverResume,
	}
	if r.fill != nil {
		r.filler = memory.NewFiller(&r.filled, faultSize(r.source))
		handler.Memory = r.addMemory
	}
	mode := stream.Serve
	switch {
	case r.extracted.Path != "":
		mode = stream.Files
		command.Args = append(command.Args, "-D", r.extracted.Path)
	case r.inMemory >= 0:
		mode = stream.Files
		command.Args = append(command.Args, "-D", fmt.Sprintf("/proc/self/fd/%d", 3+len(command.Inherit)))
		command.Inherit = append(slices.Clone(command.Inherit), r.inMemory)
	}
	if r.criu, err = stream.New(mode, handler); err != nil {
		return err
	}
	if r.ghosts, err = ghosts.Find(r.source, r.plan.images[images.FilesName]); err != nil {
		return cmp.Or(interrupted(ctx, "restart"), contextError(err))
	}
	_ = r.ghosts.Lock(ctx)
	if err := interrupted(ctx, "restart"); err != nil {
		return err
	}
	r.plan.forgetConnections()
	r.plan.adoptPolicy()
	early := make(chan struct{})
	r.early = early
	if err := r.criu.Start(command); err != nil {
		return err
	}
	if r.request.Lazy && r.fill != nil {
		r.guardEarly()
	}
	close(early)
	// What criu makes waits in criu's own code, or in a system call such as
	// open(2) of a FIFO: neither is lost if it is killed.
	interrupt := context.AfterFunc(ctx, func() {
		r.criu.Stop()
		r.criu.Insist(func() stream.Hold { return stream.HoldsNothing })
	})
	defer interrupt()
	<-r.criu.Done()
	cancel()
	r.answering.Wait()
	return r.outcome()
}

// mostStopped is how many processes fit into a variable of the environment.
const mostStopped = 10000

// options are criu's for the restore.
func (r *restart) options() []string {
	options := append(commonOptions(), "--restore-detached", "--restore-sibling")
	options = append(options, r.plan.options...)
	if r.request.AnyCPU {
		options = append(options, "--cpu-cap=none")
	}
	return append([]string{"restore"}, options...)
}

// smallImage is what an image has at most that is served at once.
const smallImage = 16 << 10

// small returns an image that is served at once, as most are, which are a few hundred bytes.
func (r *restart) small(name string) ([]byte, bool) {
	if _, some := r.plan.heads[name]; some {
		return nil, false
	}
	image := r.changed(name)
	if sized, ok := r.source.(interface{ Size(name string) int64 }); image == nil && ok && !images.IsPages(name) && sized.Size(name) <= smallImage {
		image, _ = r.source.Bytes(name) // Serve says what is wrong with it
	}
	return image, image != nil && len(image) <= smallImage
}

// changed returns an image that is not served as it is in the context, else nil.
func (r *restart) changed(name string) []byte {
	if r.fill != nil {
		if own := r.fill.images[name]; own != nil {
			return own
		}
	}
	return r.plan.images[name]
}

// serve writes an image into its pipe, while criu goes on.
func (r *restart) serve(ctx context.Context, name string, pipe int) error {
	if r.fill != nil {
		if pieces, some := r.fill.pipes[name]; some {
			return feedError(memory.FeedPieces(ctx, pipe, pieces, r.readPages(name)))
		}
	}
	if h, some := r.plan.heads[name]; some {
		return r.feedHeaded(ctx, name, pipe, h)
	}
	if changed := r.changed(name); changed != nil {
		return feedError(memory.FeedBytes(ctx, pipe, changed))
	}
	return contextError(r.source.Serve(name, pipe))
}

// feedError is an error of writing into criu's pipes in this engine's terms.
func feedError(err error) error {
	if errno, ok := err.(syscall.Errno); ok {
		return ckpt.SystemError("write to", "criu", errno)
	}
	return err
}

// unlessOver is err, or nil if err says only that ctx was cancelled. Criu has ended then,
// or an interruption has stopped it, and that is what has to be reported.
func unlessOver(ctx context.Context, err error) error {
	if ctx.Err() != nil && ckpt.ErrnoOf(err) == syscall.ECANCELED {
		return nil
	}
	return err
}

// answer answers the action script.
func (r *restart) answer(ctx context.Context, s *stream.Stage) {
	if s.Name != stream.PostRestore {
		yes := r.reached(s)
		if !yes {
			r.neverResume()
		}
		s.Answer(yes)
		return
	}
	// All files are open.
	r.ghosts.Unlock()
	// Criu may want other things meanwhile, such as to be stopped.
	r.answering.Go(func() {
		found := r.reached(s)
		if r.fill != nil {
			if err := unlessOver(ctx, r.fillMemory(ctx)); err != nil {
				r.criu.Fail(err)
			}
		}
		s.Answer(found)
		if found {
			r.endHalted(r.attaching)
		}
	})
}

// reached answers the action script: it has to be known which process is the
// root, and signals have to reach the processes before they run.
func (r *restart) reached(s *stream.Stage) (yes bool) {
	switch s.Name {
	case stream.PostRestore:
		return r.found(s.Root)
	case stream.PreResume:
		r.attached()
		if !r.found(s.Root) || r.request.Made != nil && !r.request.Made() {
			return false
		}
		if err := r.completeConnections(); err != nil {
			r.criu.Fail(err)
			return false
		}
		r.mendTerminals()
		r.setAttributes()
		r.giveTerminal()
		r.lost = r.lostLocks()
		r.calls = r.ownCalls()
		// A checkpoint of processes that run would save the names of the copies.
		r.plan.copies.Remove()
		r.plan.gone.Remove()
		r.resumed.Store(true)
		if r.request.Resume != nil {
			r.request.Resume()
		}
		switch {
		case syscall.Signal(r.request.Signal) == unix.SIGCONT:
		case r.endsEarly():
			// A signal that ends a process as soon as criu lets go of its first
			// thread takes the other threads away from criu, which then fails. So the
			// processes are only stopped here, before their next instruction all the
			// same.
			r.stopRunning(func(int) bool { return true })
		default:
			pstree.Signal(r.root, r.request.Signal)
		}
		if ckpt.RunsOn(r.request.Signal) {
			// So does a program with threads that ends at once, or a process that another one
			// kills at once, or that ends with its parent. A parent that runs, or that handles
			// SIGCHLD, would take notice of the stop.
			several := len(r.plan.tasks) > 1 || len(r.plan.tasks[0].Threads) > 1
			r.stopRunning(func(pid int) bool {
				return len(r.lost)+len(r.calls) > 0 || several && !notices(pid, unix.SIGCONT) && (pid == r.root || r.hidesFromParent(pid))
			})
		}
		go r.criu.Continue(r.root)
	case stream.PostResume:
		// Not only when criu has ended: if this process is killed meanwhile, nobody
		// else would continue them.
		r.letGo()
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

// stopRunning stops those of the processes that were not stopped when they were
// saved; letGo continues them.
func (r *restart) stopRunning(those func(pid int) bool) {
	tree, err := proc.Descend(r.root)
	if err != nil {
		return
	}
	for _, pid := range tree {
		inner, err := proc.InnerPid(pid)
		if err == nil && !r.plan.stopped[int32(inner)] && those(pid) {
			r.held = append(r.held, pid)
			_ = unix.Kill(pid, unix.SIGSTOP)
		}
	}
}

// hidesFromParent tells whether the parent of a process takes no notice of a stop: it has been
// stopped itself, and does not handle SIGCHLD.
func (r *restart) hidesFromParent(pid int) bool {
	p, err := proc.Read(pid)
	return err == nil && slices.Contains(r.held, p.PPid) && !notices(p.PPid, unix.SIGCHLD)
}

// notices tells whether a process handles a signal, or reads it, as by signalfd(2).
func notices(pid int, signal syscall.Signal) bool {
	blocked, err := proc.Blocked(pid)
	return err != nil || blocked&(1<<(signal-1)) != 0 || proc.Catches(pid, int(signal))
}

// letGo is for when criu has let go: the processes get the signals that had to wait for
// that. It continues children before their parents, which then do not find them stopped.
func (r *restart) letGo() {
	if r.free {
		return
	}
	r.free = true
	if len(r.lost)+len(r.calls) > 0 && !ckpt.Ends(r.request.Signal) {
		if r.broken = r.lockAgain(); r.broken != nil {
			return
		}
	}
	if syscall.Signal(r.request.Signal) == unix.SIGCONT {
		// Processes that were stopped have been stopped again by criu.
		pstree.Signal(r.root, r.request.Signal)
	}
	if r.endsEarly() {
		pstree.Signal(r.root, r.request.Signal)
	}
	for _, pid := range slices.Backward(r.held) {
		_ = unix.Kill(pid, unix.SIGCONT)
	}
}

// found notes the restored root; pid is as criu sees it.
func (r *restart) found(pid int) bool {
	r.root = pid
	if r.pidns != nil {
		r.root = r.pidns.Outer(pid)
	}
	r.restored.Store(int32(r.root))
	return r.root > 0
}

// neverResume is for when the restore is given up, by any goroutine.
func (r *restart) neverResume() {
	if !r.resumed.Load() {
		stream.KillRestored(int(r.restored.Load()))
	}
}

// outcome is the error of the restore, once criu has ended.
func (r *restart) outcome() error {
	r.criu.AwaitImages()
	killed := r.resumed.Load() && syscall.Signal(r.request.Signal) == unix.SIGKILL
	if status := r.criu.Status(); status.Exited() && status.ExitStatus() == 0 && r.resumed.Load() || killed {
		if r.letGo(); r.broken == nil {
			if r.pidns != nil {
				r.pidns.Run(int(r.plan.tasks[0].PID))
			}
			return nil
		}
	}
	// Criu kills what it has made, but not if it was killed itself, or has let go of it.
	r.endRestored()
	r.ghosts.Remove()
	if r.broken != nil {
		return r.broken
	}
	if err := r.criu.Failure(); err != nil {
		return err
	}
	if r.criu.Stopped() {
		return &ckpt.Error{Op: "restart", Errno: syscall.ECANCELED}
	}
	if r.sawHalt() {
		return errHalted
	}
	log := r.criu.Errors()
	if pid, inUse := explain.PidInUse(log); inUse {
		return busyError(cmp.Or(pid, r.plan.busyThread()))
	}
	var made explain.Origin
	if c, ok := r.source.(interface{ Header() ctxfile.Header }); ok {
		h := c.Header()
		made = explain.Origin{Host: h.Host, Kernel: h.Kernel, Machine: h.Machine}
	}
	return explain.Restore(explain.Failure{
		Status: r.criu.Status(), Log: log,
		Needs: func() explain.Needs { return r.plan.needs(r.source) },
	}, made)
}

// release gives back what one attempt needed.
func (r *restart) release() {
	if r.guard != nil {
		r.guard.End()
		r.guard = nil
	}
	if r.filler != nil {
		r.filler.Close()
		r.filler = nil
	}
	if r.criu != nil {
		r.criu.Close()
		r.criu = nil
	}
	if r.ghosts != nil {
		r.ghosts.Close()
		r.ghosts = nil
	}
	if r.pidns != nil {
		r.pidns.End()
		r.pidns = nil
	}
}

// close gives back what the restore needed.
func (r *restart) close() {
	r.release()
	r.extracted.Remove()
	r.closeInMemory()
	if r.source != nil {
		r.source.Close()
	}
	if r.plan != nil {
		r.plan.close()
	}
}

// endRestored ends what is left of a restore that has failed: processes that
// run no code of their own and would wait for ever. They are children of ours,
// the orphans among them as well, and have the pids in the images.
func (r *restart) endRestored() {
	known := make(map[int]bool)
	for _, task := range r.plan.tasks {
		pid := int(task.PID)
		if r.pidns != nil {
			pid = r.pidns.Outer(pid)
		}
		known[pid] = true
	}
	if r.plan.container() {
		// Criu's only child in a namespace of its own is the first process, and the
		// others end with it.
		r.criu.EndOrphans(inContainer)
		return
	}
	r.criu.EndOrphans(func(pid int) bool { return known[pid] })
}

// busyError is the error for a pid that is in use.
func busyError(pid int) error {
	b := &busy{pid: pid}
	if holder := hints.Holder(pid); holder != "" {
		way := "cr_restart --no-restore-pid restarts the job with new pids beside it"
		if pid == os.Getpid() {
			way = "start cr_restart again, which has another number then; or " + way
		} else if leader, err := proc.Leader(pid); err == nil && leader == os.Getpid() {
			// With a context that can be read twice it would have another number; see makeWay.
			way = "restart it from a file, not from a pipe, and cr_restart uses other numbers; or " + way
		}
		b.detail = []string{holder, way}
	} else {
		b.detail = []string{"it is free by now: try again"}
	}
	return b
}

// busy is the error for a pid that is in use.
type busy struct {
	pid    int
	detail []string
}

func (b *busy) Error() string { return b.Unwrap().Error() }

// Unwrap gives the error in the terms of package ckpt.
func (b *busy) Unwrap() error {
	return &ckpt.Error{Op: "restart", Object: "process " + strconv.Itoa(b.pid), Errno: syscall.EBUSY, Detail: b.detail}
}

// pidInUse tells whether err is for a pid that is in use.
func pidInUse(err error) (pid int, inUse bool) {
	b, ok := err.(*busy)
	if !ok {
		return 0, false
	}
	return b.pid, true
}
