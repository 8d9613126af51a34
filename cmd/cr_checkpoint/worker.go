package main

import (
	"encoding/binary"
	"io"
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
	"blcr-cli/internal/proc"
	"blcr-cli/internal/reexec"
	"blcr-cli/internal/signals"
)

// Cr_checkpoint is two processes. The one that was started only waits: it is
// saved along with its caller if it is in the scope of the checkpoint, so that
// after a restart the caller still has something to wait for. The other one,
// the worker, makes the checkpoint and is left out of it.
//
// BLCR's module leaves the worker out of the tree that it saves. CRIU leaves out
// nothing, so there the worker has to leave the tree before:
//
//	script ── waiting process             (saved)
//	init ── monitor ── worker ── criu     (a session of their own)
//
// An intermediate process starts the monitor and ends at once, so that the
// monitor becomes an orphan. The monitor sees how the worker ends. The waiting
// process shares two pipes with these two: how the worker has ended, and signals
// for the worker. Of both the restored copy finds the other end closed.
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

// The inner roles.
const (
	roleWorker       = "worker"
	roleIntermediate = "intermediate"
	roleMonitor      = "monitor"
)

// worker is what a worker knows.
type worker struct {
	waiting int // pid of the waiting process if this one has left its tree; else 0
	signals int // pipe to read signals from, a byte each; -1 for none
	claim   *atwork.Claim
}

// start starts a worker, a child of the calling thread.
func (w *worker) start(args []string, attr reexec.Attr) (pid int, err error) {
	attr.Inherited = []int{w.signals, w.claim.FD()}
	return startRole(roleWorker, []int{w.waiting, w.signals, w.claim.FD()}, args, attr)
}

// startRole starts an inner role.
func startRole(role string, numbers []int, args []string, attr reexec.Attr) (pid int, err error) {
	// One processor is all that it can use, and it starts sooner.
	attr.Env = []string{"GOMAXPROCS=1"}
	return reexec.Start(role, numbers, args, attr)
}

// delegate has a worker do what this process was started for, and returns its
// exit status. Done is false if no worker can be had, for want of /proc for one,
// and this process has to do it alone. It opens nothing that stays open and keeps
// to raw waiting: BLCR's module can save no process that holds a poller or the
// like.
func (s *settings) delegate(args []string, con *cli.Console) (status int, done bool) {
	forward := signals.NewForwarder()
	claim := atwork.New(int(s.request.FD))
	if s.engine.Includes(&s.request) {
		return s.delegateOutside(args, con, forward, claim), true
	}
	// Before the worker can ask for anything.
	selfckpt.Save()
	pid, err := (&worker{signals: -1, claim: claim}).start(args, reexec.Attr{})
	claim.Close()
	switch ckpt.ErrnoOf(err) {
	case 0:
	case unix.EAGAIN, unix.ENOMEM:
		con.Errorf("fork() failed: %s\n", ckpt.Strerror(ckpt.ErrnoOf(err)))
		return 1, true
	default:
		// The signals stay caught, for the guard of the work.
		selfckpt.Omit()
		return 0, false
	}
	forward.To(pid)
	end, err := signals.Wait(pid)
	switch {
	case err == unix.ECHILD:
		// This is the restored copy. Its caller goes on as it did when the
		// original ended.
		return 0, true
	case err != nil:
		con.Errorf("wait() failed: %s\n", ckpt.Strerror(ckpt.ErrnoOf(err)))
		return 1, true
	}
	return ended(con, forward, end), true
}

// ended returns the exit status that the worker's end makes ours.
func ended(con *cli.Console, forward *signals.Forwarder, end unix.WaitStatus) int {
	if !end.Signaled() {
		return end.ExitStatus()
	}
	sig := end.Signal()
	if forward.Await(sig) {
		// It was meant for both of us.
		signals.DieOf(sig)
	}
	con.Errorf("child killed by signal %d (%s)\n", int(sig), signals.Strsignal(sig))
	return 1
}

// detached is what the intermediate process and the monitor know.
type detached struct {
	status  int // pipe that the monitor writes the worker's end to, 4 bytes
	signals int // pipe that the worker reads signals from
	waiting int // pid of the waiting process
	claim   *atwork.Claim
}

// newDetached makes the inherited descriptors close-on-exec: what this process
// starts gets them only if that is said.
func newDetached(numbers []int) *detached {
	d := &detached{status: numbers[0], signals: numbers[1], waiting: numbers[2], claim: atwork.Inherited(numbers[3])}
	unix.CloseOnExec(d.status)
	unix.CloseOnExec(d.signals)
	return d
}

// start starts one of the two roles, with further numbers.
func (d *detached) start(role string, args []string, attr reexec.Attr, further ...int) (pid int, err error) {
	numbers := append([]int{d.status, d.signals, d.waiting, d.claim.FD()}, further...)
	attr.Inherited = []int{d.status, d.signals, d.claim.FD()}
	return startRole(role, numbers, args, attr)
}

// intermediate is the intermediate process. It returns the exit status.
func (d *detached) intermediate(args []string) int {
	signals.KeepIgnored()
	if _, err := d.start(roleMonitor, args, reexec.Attr{Setsid: true}, os.Getpid()); err != nil {
		return 1
	}
	return 0
}

// monitor starts the worker when the intermediate process has gone, and reports
// how the worker ends.
func (d *detached) monitor(intermediate int, args []string) int {
	signals.KeepIgnored()
	// The worker's parent is this thread.
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
	// Without a monitor the worker is not to go on.
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

// delegateOutside is delegate for a worker that has to leave the tree. It returns
// the worker's exit status.
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
		// The pipe has no reader. The worker has finished: then only the signal that
		// it sends to all saved processes is for this one, too.
		signal := max(s.request.Signal, -s.request.Signal)
		if !restored() && int32(sig) != signal {
			return false
		}
		engines.AwaitDetached()
		return true
	})
	if end, err := signals.Wait(intermediate); err == nil && (!end.Exited() || end.ExitStatus() != 0) {
		// There is no monitor, which would write to the pipe.
		return ended(con, forward, end)
	}
	var end [4]byte
	for {
		switch n, err := unix.Read(status[0], end[:]); {
		case err == unix.EINTR:
			continue
		case n == len(end):
			return ended(con, forward, unix.WaitStatus(binary.NativeEndian.Uint32(end[:])))
		}
		break
	}
	if restored() {
		// The caller goes on as it did when the original ended.
		return 0
	}
	return ended(con, forward, unix.WaitStatus(unix.SIGKILL))
}

// startTime is when this process was started. A restored copy has another one.
func startTime() uint64 {
	p, err := proc.Read(os.Getpid())
	if err != nil {
		return 0
	}
	return p.Start
}

// listen has the worker take the signals that the waiting process passes on,
// until the Closer is closed. It returns nil if there is no such pipe.
func (w *worker) listen() io.Closer {
	if w.signals < 0 {
		return nil
	}
	// A pipe that can be closed while it is being read from.
	_ = unix.SetNonblock(w.signals, true)
	pipe := os.NewFile(uintptr(w.signals), "signals")
	closed := make(chan struct{})
	go func() {
		signals.AddFromPipe(pipe)
		close(closed)
	}()
	// The waiting process passes nothing on while it is frozen.
	go func() {
		for {
			select {
			case <-closed:
				return
			case <-time.After(50 * time.Millisecond):
				signals.AddSet(proc.Caught(w.waiting))
			}
		}
	}()
	return pipe
}
