package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/bits"
	"os"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/atwork"
	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/engines"
	"blcr-cli/internal/ckpt/kernel/selfckpt"
	"blcr-cli/internal/cli"
	"blcr-cli/internal/entry"
	"blcr-cli/internal/hints"
	"blcr-cli/internal/proc"
	"blcr-cli/internal/reexec"
	"blcr-cli/internal/show"
	"blcr-cli/internal/signals"
	"blcr-cli/internal/target"
)

// Cr_checkpoint consists of two processes. The one that was started only waits. If it
// is in the scope of the checkpoint it is saved with its caller, so that after a
// restart the caller still has a child to wait for. The other one, the worker, makes
// the checkpoint and is left out of it.
//
// The two separate at the program's entry point (package entry), and the code below runs
// in the worker. Where they could not, the worker is a program of its own (package reexec).
//
// BLCR's module leaves the worker out of the tree that it saves. CRIU cannot leave out a
// process, so the worker has to leave the tree first if it is in the scope. A worker of
// the entry point cannot: it kills itself, and the process that waits starts another one:
//
//	script ── waiting process             (saved)
//	init ── monitor ── worker ── criu     (a session of their own)
//
// An intermediate process starts the monitor and ends at once, so that the
// monitor becomes an orphan. The monitor sees how the worker ends. The waiting
// process shares two pipes with these two: how the worker has ended, and signals
// for the worker. Of both the restored copy finds the other end closed.
//
// A checkpoint by another process leaves the worker out until its own request has been
// issued, and waits for it from then on. In between the worker has a temporary file open
// that is renamed soon: a context that had it could not be restored. The waiting process
// is saved at any time, and its restored copy ends with 0.
//
// The waiting process is claimed (package atwork) as long as there is a worker, or
// one that is about to become it, in the tree with it.

func init() {
	reexec.Register(reexec.Role{Name: roleWorker, Numbers: 3, Run: func(numbers []int, args []string) int {
		w := &worker{waiting: numbers[0], signals: numbers[1], claim: atwork.Inherited(numbers[2])}
		if w.signals >= 0 {
			unix.CloseOnExec(w.signals)
		}
		return run(append([]string{name}, args...), w)
	}})
	reexec.Register(reexec.Role{Name: roleIntermediate, Numbers: 4, Run: func(numbers []int, args []string) int {
		return newDetached(numbers).intermediate(args)
	}})
	reexec.Register(reexec.Role{Name: roleMonitor, Numbers: 5, Run: func(numbers []int, args []string) int {
		return newDetached(numbers).monitor(numbers[4], args)
	}})
}

// The inner roles of cr_checkpoint.
const (
	roleWorker       = "worker"
	roleIntermediate = "intermediate"
	roleMonitor      = "monitor"
)

// leaves is of which signal a worker of the entry point dies that would have to leave the
// tree. It was not caught before, nor sent to this process.
const leaves = unix.SIGKILL

// worker is the state that is handed to a worker.
type worker struct {
	waiting int // pid of the waiting process if the worker has left its tree, else 0
	signals int // pipe to read signals from, one byte each; -1 for none
	claim   *atwork.Claim
}

// start starts a worker as a child of the calling thread.
func (w *worker) start(args []string, attr reexec.Attr) (pid int, err error) {
	attr.Inherited = []int{w.signals, w.claim.FD()}
	return startRole(roleWorker, []int{w.waiting, w.signals, w.claim.FD()}, args, attr)
}

// startRole starts an inner role.
func startRole(role string, numbers []int, args []string, attr reexec.Attr) (pid int, err error) {
	// It uses only one processor, and starts faster with one.
	attr.Env = []string{"GOMAXPROCS=1"}
	return reexec.Start(role, numbers, args, attr)
}

// delegate runs the command in a worker and returns its exit status. done is false if
// this process has to make the checkpoint itself: it is a worker, or none can be started,
// for example without /proc. delegate leaves nothing open and waits by raw system calls
// only: BLCR's module cannot save a process that has an epoll descriptor open.
func (s *settings) delegate(args []string, con *cli.Console) (status int, done bool) {
	included := s.engine.Includes(&s.request)
	if entry.IsWorker() {
		// In another namespace's /proc the tree is not to be known; the engine says so.
		if included && proc.Here() == nil {
			_ = unix.Kill(os.Getpid(), leaves)
		}
		if s.engine.Expected().Claims {
			// Up to the end of this process.
			atwork.New(os.Getppid(), int(s.request.FD))
		}
		return 0, false
	}
	forward := signals.NewForwarder()
	switch end := entry.Ended(); {
	case end == nil:
	case included && unix.WaitStatus(end.Status).Signal() == leaves:
		if end.Caught != 0 {
			signals.DieOf(syscall.Signal(bits.TrailingZeros64(end.Caught) + 1))
		}
	default:
		selfckpt.Save()
		forward.Add(end.Caught)
		if end.Errno != 0 {
			con.Errorf("wait() failed: %s\n", ckpt.Strerror(end.Errno))
			return 1, true
		}
		return s.ended(con, forward, unix.WaitStatus(end.Status)), true
	}
	claim := &atwork.Claim{}
	if s.engine.Expected().Claims {
		claim = atwork.New(os.Getpid(), int(s.request.FD))
	}
	if included {
		return s.delegateOutside(args, con, forward, claim), true
	}
	// Before the worker can issue a request.
	selfckpt.Save()
	pid, err := (&worker{signals: -1, claim: claim}).start(args, reexec.Attr{})
	claim.Close()
	switch ckpt.ErrnoOf(err) {
	case 0:
	case unix.EAGAIN, unix.ENOMEM:
		con.Errorf("fork() failed: %s\n", ckpt.Strerror(ckpt.ErrnoOf(err)))
		return 1, true
	default:
		// The signals stay caught: the guard of the checkpoint uses them.
		selfckpt.Omit()
		return 0, false
	}
	forward.To(pid)
	end, err := signals.Wait(pid)
	switch {
	case err == unix.ECHILD:
		// This is the restored copy. Its caller continues as it did when the original
		// ended.
		return 0, true
	case err != nil:
		con.Errorf("wait() failed: %s\n", ckpt.Strerror(ckpt.ErrnoOf(err)))
		return 1, true
	}
	return s.ended(con, forward, end), true
}

// ended returns the exit status of this process for the worker's wait status. It dies
// of the worker's signal if that was sent to both. Of one that was killed, or that the
// Go runtime ended, it removes what it was writing to.
func (s *settings) ended(con *cli.Console, forward *signals.Forwarder, end unix.WaitStatus) int {
	if !end.Signaled() {
		// The Go runtime ends it so where it may start no thread. Otherwise there is nothing left,
		// or it is another run's.
		if end.ExitStatus() == 2 {
			_ = s.sweep()
		}
		return end.ExitStatus()
	}
	sig := end.Signal()
	if forward.Await(sig) {
		// The signal was sent to both processes.
		signals.DieOf(sig)
	}
	con.Errorf("child killed by signal %d (%s)\n", int(sig), signals.Strsignal(sig))
	if sig == unix.SIGKILL {
		con.Details(hints.Killed())
	}
	if err := s.sweep(); err != nil {
		con.Details([]string{fmt.Sprintf("left behind: %s: %s", show.Name(s.written()), ckpt.Strerror(ckpt.ErrnoOf(err)))})
	}
	return 1
}

// sweep removes what a worker has left that could not.
func (s *settings) sweep() error {
	switch format := s.engine.Expected().Directories; {
	case s.dest == destFd:
	case s.dest != destDir:
		return target.Sweep(s.target)
	case format != nil:
		return target.SweepDir(s.target, format.IsImage)
	}
	return nil
}

// detached is the state that is handed to the intermediate process and the monitor.
type detached struct {
	status  int // pipe that the monitor writes the worker's wait status to, 4 bytes
	signals int // pipe that the worker reads signals from
	waiting int // pid of the waiting process
	claim   *atwork.Claim
}

// newDetached makes the inherited descriptors close-on-exec, so that a child gets them
// only if it is started with them.
func newDetached(numbers []int) *detached {
	d := &detached{status: numbers[0], signals: numbers[1], waiting: numbers[2], claim: atwork.Inherited(numbers[3])}
	unix.CloseOnExec(d.status)
	unix.CloseOnExec(d.signals)
	return d
}

// start starts one of the two roles. further are additional numbers for it.
func (d *detached) start(role string, args []string, attr reexec.Attr, further ...int) (pid int, err error) {
	numbers := append([]int{d.status, d.signals, d.waiting, d.claim.FD()}, further...)
	attr.Inherited = []int{d.status, d.signals, d.claim.FD()}
	return startRole(role, numbers, args, attr)
}

// intermediate is the main function of the intermediate process. It returns the exit
// status.
func (d *detached) intermediate(args []string) int {
	signals.KeepIgnored()
	if _, err := d.start(roleMonitor, args, reexec.Attr{Setsid: true}, os.Getpid()); err != nil {
		return 1
	}
	return 0
}

// monitor is the main function of the monitor. It starts the worker after the
// intermediate process has ended, and writes the worker's wait status to the pipe.
func (d *detached) monitor(intermediate int, args []string) int {
	signals.KeepIgnored()
	// The parent of the worker is this thread.
	runtime.LockOSThread()
	const milliseconds = 2000
	for range milliseconds {
		if p, err := proc.Read(intermediate); err != nil || p.PPid != d.waiting {
			break
		}
		_, _ = unix.Poll(nil, 1)
	}
	var end unix.WaitStatus
	// From here on nothing of this request is in the tree but the waiting process,
	// which may be saved by others as well: of two requests for one tree each would
	// wait for the other one.
	d.claim.Close()
	w := &worker{waiting: d.waiting, signals: d.signals, claim: d.claim}
	// If the monitor ends, the worker has to end, too.
	pid, err := w.start(args, reexec.Attr{Pdeathsig: syscall.SIGTERM})
	unix.Close(d.signals)
	if err == nil {
		end, err = signals.Wait(pid)
	}
	if err != nil {
		end = 1 << 8 // exit status 1
	}
	_, _ = unix.Write(d.status, binary.NativeEndian.AppendUint32(nil, uint32(end)))
	return 0
}

// delegateOutside does the work of delegate with a worker that has to leave the tree.
// It returns the worker's exit status.
func (s *settings) delegateOutside(args []string, con *cli.Console, forward *signals.Forwarder, claim *atwork.Claim) int {
	born := startTime()
	restored := func() bool { return startTime() != born }
	var status, passed [2]int
	err := unix.Pipe2(status[:], unix.O_CLOEXEC)
	if err == nil {
		err = unix.Pipe2(passed[:], unix.O_CLOEXEC)
	}
	var intermediate int
	if err == nil {
		d := &detached{status: status[1], signals: passed[0], waiting: os.Getpid(), claim: claim}
		intermediate, err = d.start(roleIntermediate, args, reexec.Attr{})
	}
	claim.Close()
	if err != nil {
		con.Errorf("fork() failed: %s\n", ckpt.Strerror(ckpt.ErrnoOf(err)))
		return 1
	}
	unix.Close(status[1])
	unix.Close(passed[0])
	forward.ToPipe(passed[1], func(sig syscall.Signal) bool {
		// The pipe has no reader, so the worker has finished. Then this process obeys
		// only the signal that the worker sends to all saved processes.
		signal := max(s.request.Signal, -s.request.Signal)
		if !restored() && int32(sig) != signal {
			return false
		}
		engines.AwaitDetached()
		return true
	})
	// While CRIU has the first thread of this process do something else, a signal that it
	// is about to handle cannot be seen from outside. So it handles none, if it is this one.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if unix.Gettid() == os.Getpid() {
		if mask, err := signals.BlockAll(); err == nil {
			defer signals.RestoreMask(mask)
		}
	}
	if end, err := signals.Wait(intermediate); err == nil && (!end.Exited() || end.ExitStatus() != 0) {
		// The intermediate process has not started a monitor, so nothing will be
		// written to the pipe.
		return s.ended(con, forward, end)
	}
	var end [4]byte
	for {
		switch n, err := unix.Read(status[0], end[:]); {
		case err == unix.EINTR:
			continue
		case n == len(end):
			return s.ended(con, forward, unix.WaitStatus(binary.NativeEndian.Uint32(end[:])))
		}
		break
	}
	if restored() {
		// The caller continues as it did when the original ended.
		return 0
	}
	return s.ended(con, forward, unix.WaitStatus(unix.SIGKILL))
}

// startTime returns the start time of this process. A restored copy has a different
// one.
func startTime() uint64 {
	p, err := proc.Read(os.Getpid())
	if err != nil {
		return 0
	}
	return p.Start
}

// listen receives the signals that the waiting process passes on, until the Closer is
// closed. It returns nil if there is no pipe for them.
func (w *worker) listen() io.Closer {
	if w.signals < 0 {
		return nil
	}
	// Non-blocking, so that the pipe can be closed while it is being read from.
	_ = unix.SetNonblock(w.signals, true)
	pipe := os.NewFile(uintptr(w.signals), "signals")
	closed := make(chan struct{})
	go func() {
		signals.AddFromPipe(pipe)
		close(closed)
	}()
	// While it is frozen, the waiting process cannot pass signals on. So those that are
	// pending for it are read from /proc, and those that it is just catching, or has not
	// passed on yet, from its memory.
	go func() {
		for {
			select {
			case <-closed:
				return
			case <-time.After(50 * time.Millisecond):
				signals.AddSet(proc.Caught(w.waiting) | signals.CaughtBy(w.waiting))
			}
		}
	}()
	return pipe
}
