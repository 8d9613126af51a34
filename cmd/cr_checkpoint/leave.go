package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/criu"
	"blcr-cli/internal/ckpt/engines"
	"blcr-cli/internal/cli"
	"blcr-cli/internal/forkexec"
	"blcr-cli/internal/proc"
	"blcr-cli/internal/signals"
)

// BLCR's module leaves a worker out of the tree that it saves. Criu leaves out
// nobody, so there the worker has to leave the tree before:
//
//	script ── waiting process           (saved)
//	init ── keeper ── worker ── criu    (a session of their own)
//
// The keeper is who sees how the worker ends. It is started by a leaver, which
// ends at once, so that the keeper becomes an orphan. The waiting process and
// these two share two pipes: how the worker has ended, and signals for it. Of
// both the restored copy finds the other end closed.

// leaveVar tells a leaver and a keeper what they are and what they need.
const leaveVar = criu.LeaveVar

// leave is the value of leaveVar.
type leave struct {
	status  int // pipe that the keeper writes the worker's end to, 4 bytes
	signals int // pipe that the worker reads signals from, a byte each
	waiting int // pid of the waiting process
	leaver  int // pid of the leaver; 0 in its own
}

// leaving returns what this process was told, nil for nothing.
func leaving() *leave {
	l := new(leave)
	if n, _ := fmt.Sscan(os.Getenv(leaveVar), &l.status, &l.signals, &l.waiting, &l.leaver); n != 4 {
		return nil
	}
	// Nobody that we start is to have them unless we say so, and neither is what
	// the caller means by that number.
	unix.CloseOnExec(l.status)
	unix.CloseOnExec(l.signals)
	return l
}

// start starts this program again, with the pipes.
func (l *leave) start(env []string, attr *forkexec.Attr) (pid int, err error) {
	for _, fd := range []int{l.status, l.signals} {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
			return 0, err
		}
		defer unix.CloseOnExec(fd)
	}
	told := fmt.Sprintf("%s=%d %d %d %d", leaveVar, l.status, l.signals, l.waiting, l.leaver)
	return startSelf(append(env, told), attr)
}

// leaveOrKeep is what the leaver and the keeper do. It returns the exit status.
func (l *leave) leaveOrKeep() int {
	signals.KeepIgnored()
	if l.leaver != 0 {
		return l.keep()
	}
	l.leaver = os.Getpid()
	if _, err := l.start(nil, &forkexec.Attr{Setsid: true}); err != nil {
		return 1
	}
	return 0
}

// keep starts the worker when the leaver has gone, and reports how it ends.
func (l *leave) keep() int {
	// The worker's parent is this thread.
	runtime.LockOSThread()
	const milliseconds = 2000
	for range milliseconds {
		if p, err := proc.Read(l.leaver); err != nil || p.PPid != l.waiting {
			break
		}
		_, _ = unix.Poll(nil, 1)
	}
	var end unix.WaitStatus
	// A worker that nobody waits for is not to go on.
	worker, err := l.start([]string{workerVar + "=1"}, &forkexec.Attr{Pdeathsig: syscall.SIGTERM})
	unix.Close(l.signals)
	if err == nil {
		end, err = waitWorker(worker)
	}
	if err != nil {
		end = 1 << 8 // exit status 1
	}
	_, _ = unix.Write(l.status, binary.NativeEndian.AppendUint32(nil, uint32(end)))
	return 0
}

// mustLeave tells whether the worker has to leave what is to be saved.
func (s *settings) mustLeave() bool {
	return criu.Includes(&s.request) && engines.Expected() == engines.Criu
}

// delegateOutside is delegate for a worker that has to leave. It returns the
// worker's exit status.
func (s *settings) delegateOutside(con *cli.Console, forward *signals.Forwarder) int {
	born := startTime()
	restored := func() bool { return startTime() != born }
	var status, signals [2]int
	err := unix.Pipe2(status[:], unix.O_CLOEXEC)
	if err == nil {
		err = unix.Pipe2(signals[:], unix.O_CLOEXEC)
	}
	var leaver int
	if err == nil {
		l := &leave{status: status[1], signals: signals[0], waiting: os.Getpid()}
		leaver, err = l.start(nil, &forkexec.Attr{})
	}
	if err != nil {
		con.Errorf("fork() failed: %s\n", ckpt.Strerror(errnoOf(err)))
		return 1
	}
	unix.Close(status[1])
	unix.Close(signals[0])
	forward.ToPipe(signals[1], func(sig syscall.Signal) bool {
		// Nobody reads. The worker has finished: then only the signal that it sends
		// to all who were saved is for us, too.
		signal := max(s.request.Signal, -s.request.Signal)
		if !restored() && int32(sig) != signal {
			return false
		}
		criu.AwaitRelease()
		return true
	})
	if end, err := waitWorker(leaver); err == nil && (!end.Exited() || end.ExitStatus() != 0) {
		// Nobody has been started, and nobody will write to the pipe.
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
		// Whoever waits for us goes on as he did when the original ended.
		return 0
	}
	return ended(con, forward, unix.WaitStatus(unix.SIGKILL))
}

// startTime is when this process was started, which no copy of it has been.
func startTime() uint64 {
	p, err := proc.Read(os.Getpid())
	if err != nil {
		return 0
	}
	return p.Start
}

// listen has the worker take the signals that the waiting process passes on.
func (l *leave) listen() io.Closer {
	// A pipe that can be closed while somebody reads from it.
	_ = unix.SetNonblock(l.signals, true)
	pipe := os.NewFile(uintptr(l.signals), "signals")
	closed := make(chan struct{})
	go func() {
		signals.AddFromPipe(pipe)
		close(closed)
	}()
	// While it is frozen it passes on nothing.
	go func() {
		for {
			select {
			case <-closed:
				return
			case <-time.After(50 * time.Millisecond):
				signals.AddSet(proc.Caught(l.waiting))
			}
		}
	}()
	return pipe
}
