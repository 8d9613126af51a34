// Package lazyguard ends a job whose memory cannot come any more.
//
// The memory of a job that was restarted lazily comes from this process while the job
// runs. If this process is killed, the kernel closes its userfaultfds, and what has not
// come yet is zeros for the job, which would go on with them. So another process has the
// same userfaultfds open: while it lives, whoever needs such a page waits. It ends the
// job if this process ends before all memory is in place, or says that it cannot come.
//
// How memory is filled belongs to package memory.
package lazyguard

import (
	"encoding/binary"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/proc"
	"blcr-cli/internal/reexec"
	"blcr-cli/internal/signals"
)

const role = "lazy-guard"

// socket is the descriptor by which the guard is told: a message of 4 bytes with a
// descriptor to keep; one with the pid of the job's root; one with the number 0 that
// says that the guard is not needed any more. Its end without that one says that the job
// has to be ended.
const socket = 3

func init() {
	reexec.Register(reexec.Role{Name: role, Run: func([]int, []string) int {
		// A signal to the whole process group is not for this process, which is in no
		// group of anyone else's.
		signals.KeepIgnored()
		return guard()
	}})
}

// guard is the process. It returns its exit status.
func guard() int {
	j := job{end: -1}
	for {
		message, control := make([]byte, 4), make([]byte, unix.CmsgSpace(4))
		n, controlSize, _, _, err := unix.Recvmsg(socket, message, control, unix.MSG_CMSG_CLOEXEC)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil || n == 0:
			j.kill()
			return 1
		}
		switch number := int32(binary.NativeEndian.Uint32(message)); {
		case number > 0:
			j.root = int(number)
			j.end, _ = unix.PidfdOpen(j.root, 0)
		case number == 0:
			return 0
		default:
			j.keep(descriptors(control[:controlSize]))
		}
	}
}

// descriptors returns those that have come with a message.
func descriptors(control []byte) (fds []int) {
	messages, _ := unix.ParseSocketControlMessage(control)
	for _, m := range messages {
		more, _ := unix.ParseUnixRights(&m)
		fds = append(fds, more...)
	}
	return fds
}

// ended reports whether a process has ended.
func ended(pidfd int) bool {
	n, _ := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, 0)
	return n > 0
}

// Guard is such a process. Its methods may be called by several goroutines.
type Guard struct {
	pid int

	mu   sync.Mutex
	conn int // -1 at the end
}

// Start starts a guard. The error is a *ckpt.Error.
func Start() (*Guard, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, ckpt.SystemError("socketpair", "", err)
	}
	defer unix.Close(pair[1])
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		unix.Close(pair[0])
		return nil, ckpt.SystemError("open", "/dev/null", err)
	}
	defer unix.Close(null)
	pid, err := reexec.Start(role, nil, nil, reexec.Attr{
		// Whoever reads what the job writes must not wait for this process as well.
		Files:  []uintptr{uintptr(null), uintptr(null), uintptr(null), uintptr(pair[1])},
		Setsid: true,
	})
	if err != nil {
		unix.Close(pair[0])
		return nil, ckpt.SystemError("exec", proc.Self(), err)
	}
	return &Guard{pid: pid, conn: pair[0]}, nil
}

// Keep has the guard keep a userfaultfd open, which remains the caller's.
func (g *Guard) Keep(uffd int) error { return g.tell(-1, unix.UnixRights(uffd)) }

// Job says which process is the root of the job.
func (g *Guard) Job(root int) error { return g.tell(int32(root), nil) }

func (g *Guard) tell(number int32, rights []byte) error {
	message := binary.NativeEndian.AppendUint32(nil, uint32(number))
	g.mu.Lock()
	defer g.mu.Unlock()
	for {
		err := unix.Sendmsg(g.conn, message, rights, nil, unix.MSG_NOSIGNAL)
		switch err {
		case nil:
			return nil
		case unix.EINTR:
		case unix.EPIPE, unix.ECONNRESET:
			return &ckpt.Error{Op: "restart", Object: "job", Errno: unix.EIO, Detail: []string{"a process of cr_restart's, lazy-guard, was killed", "try again"}}
		default:
			return ckpt.SystemError("send", "guard", err)
		}
	}
}

// End ends the guard, which does nothing any more, and returns when it has ended.
func (g *Guard) End() {
	if err := g.tell(0, nil); err != nil {
		_ = syscall.Kill(g.pid, unix.SIGKILL)
	}
	g.hangUp()
	_, _ = signals.Wait(g.pid)
}

// Lives reports whether the guard has not ended.
func (g *Guard) Lives() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	n, _ := unix.Poll([]unix.PollFd{{Fd: int32(g.conn)}}, 0)
	return n == 0
}

// EndJob has the guard end the job, and returns when nobody is left of it who lacks memory,
// or after a while: the guard goes on with what is left then.
func (g *Guard) EndJob() {
	pidfd, err := unix.PidfdOpen(g.pid, 0)
	g.hangUp()
	if err == nil {
		defer unix.Close(pidfd)
		for deadline := time.Now().Add(patience); !ended(pidfd); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				return
			}
		}
	}
	_, _ = signals.Wait(g.pid)
}

// patience is how long the end of a job is waited for.
const patience = 10 * time.Second

func (g *Guard) hangUp() {
	g.mu.Lock()
	defer g.mu.Unlock()
	unix.Close(g.conn)
	g.conn = -1
}
