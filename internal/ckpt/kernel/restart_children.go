package kernel

import (
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/kernel/abi"
	"blcr-cli/internal/proc"
	"blcr-cli/internal/signals"
)

// stackSize is the size of the stack of each thread of a restart child. The
// thread makes one system call on it, but signal 64 may arrive meanwhile, and its
// frame holds all vector registers: 11 KiB where there is AMX.
const stackSize = 16 << 10

// restartChildren are the processes that are forked for one restart and become
// the restored ones. They are children of the main thread.
type restartChildren struct {
	mu        sync.Mutex
	unrelated map[int]bool  // this process's other children
	forked    []int         // pids, as fork returned them
	settled   bool          // the restart has succeeded or failed; no more forks
	failed    syscall.Errno // why a child ended before it was restored
}

// spawn forks one restart child with the threads that the table asks for. All is
// prepared before the fork, since the child can prepare nothing. The child
// inherits a mask that blocks every signal: none of our handlers may run in it.
func (c *restartChildren) spawn(ctrl control, table *abi.ProcsTbl) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.settled {
		return &ckpt.Error{Op: "fork", Errno: unix.EINTR}
	}
	if c.unrelated == nil {
		c.unrelated = children()
		go c.watch()
	}
	var stacks uintptr
	extra := max(int(table.Threads)-1, 0)
	size := uintptr(extra) * stackSize
	if extra > 0 {
		p, err := unix.MmapPtr(-1, 0, nil, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
		if err != nil {
			return &ckpt.Error{Op: "mmap", Object: "stacks of restart threads", Errno: err.(syscall.Errno)}
		}
		stacks = uintptr(p)
		// The child has its own copy from the fork on.
		defer unix.MunmapPtr(p, size)
	}
	mask, err := signals.BlockAll()
	if err != nil {
		return &ckpt.Error{Op: "sigprocmask", Errno: err.(syscall.Errno)}
	}
	defer signals.RestoreMask(mask)
	pid, errno := fork(&forkArgs{
		ctrl:       uintptr(ctrl),
		op:         abi.OpRstrtChild,
		threads:    uintptr(extra),
		cloneFlags: uintptr(uint32(table.CloneFlags)),
		stackTop:   stacks + stackSize,
		stackSize:  stackSize,
	})
	if errno != 0 {
		return &ckpt.Error{Op: "fork", Errno: errno}
	}
	c.forked = append(c.forked, pid)
	return nil
}

// abandon kills and reaps the processes of a restart that has failed. A restored
// process may have another pid than fork returned, so it looks at our children
// as well. No more processes are forked afterwards. It may be called from any
// goroutine, more than once.
func (c *restartChildren) abandon() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.settled {
		return
	}
	c.settled = true
	if len(c.forked) == 0 {
		return
	}
	doomed := c.forked
	for pid := range children() {
		if !c.unrelated[pid] {
			doomed = append(doomed, pid)
		}
	}
	for _, pid := range doomed {
		end(pid)
	}
}

// release leaves the processes to run: the restart has succeeded.
func (c *restartChildren) release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settled = true
}

// failure is why a child ended before it was restored, or 0.
func (c *restartChildren) failure() syscall.Errno {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failed
}

// The module does not notice that a child ends before all its threads are in
// CR_OP_RSTRT_CHILD, which happens if there is no memory for one of them. It
// waits for the child for ever, and the main thread waits for the module. So a
// goroutine watches the children.
const (
	watchInterval = 20 * time.Millisecond

	// watchGrace is how long after such an end the module may still notice by
	// itself.
	watchGrace = 500 * time.Millisecond
)

// watch looks for a child that has failed until the restart is settled, and then
// interrupts the main thread.
func (c *restartChildren) watch() {
	for pause(watchInterval); !c.check(); pause(watchInterval) {
	}
	for pause(watchGrace); !c.isSettled(); pause(watchInterval) {
		_ = unix.Tgkill(os.Getpid(), os.Getpid(), interrupt)
	}
}

// check returns true when watch need not look any more.
func (c *restartChildren) check() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.settled {
		return true
	}
	for _, pid := range c.forked {
		if c.failed = childFailure(pid); c.failed != 0 {
			return true
		}
	}
	return false
}

func (c *restartChildren) isSettled() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.settled
}

// childFailure returns the errno with which a restart child ended before it was
// restored, which is its exit status, and 0 if it has not. A restored process
// that has ended has its own name, and is left to be waited for.
func childFailure(pid int) syscall.Errno {
	p, err := proc.Read(pid)
	if err != nil || p.PPid != os.Getpid() || p.State != 'Z' {
		return 0
	}
	if self, err := proc.Read(os.Getpid()); err != nil || p.Comm != self.Comm {
		return 0
	}
	status, reaped := reap(pid)
	switch {
	case !reaped:
		return 0
	case status.Exited() && status.ExitStatus() != 0:
		return syscall.Errno(status.ExitStatus())
	}
	return unix.EINTR
}

// reap waits for a child, of whatever kind, that has ended.
func reap(pid int) (status unix.WaitStatus, reaped bool) {
	for {
		var status uint32
		r, _, errno := unix.Syscall6(unix.SYS_WAIT4, uintptr(pid), uintptr(unsafe.Pointer(&status)), unix.WNOHANG|unix.WALL, 0, 0, 0)
		if errno != unix.EINTR {
			return unix.WaitStatus(status), errno == 0 && int(r) == pid
		}
	}
}

// pause sleeps without a timer of the runtime, which would open an epoll
// descriptor.
func pause(d time.Duration) { _, _ = unix.Poll(nil, int(d.Milliseconds())) }

// end kills and reaps a process if it is a child of ours. It gives up on one
// that SIGKILL does not end within a second.
func end(pid int) {
	for deadline := time.Now().Add(time.Second); ownChild(pid) && time.Now().Before(deadline); pause(time.Millisecond) {
		_ = unix.Kill(pid, unix.SIGKILL)
		reap(pid)
	}
}

// ownChild tells whether pid is a child of ours that has not been reaped. If it
// is not, the number may by now be that of any process.
func ownChild(pid int) bool {
	// waitid would tell as well, but takes __WALL only from Linux 4.7 on.
	p, err := proc.Read(pid)
	return err == nil && p.PPid == os.Getpid()
}

// children returns the pids of the main thread's children, or none where /proc
// does not list them.
func children() map[int]bool {
	pids := make(map[int]bool)
	list, _ := proc.ThreadChildren(os.Getpid(), os.Getpid())
	for _, pid := range list {
		pids[pid] = true
	}
	return pids
}

// forkArgs is what fork's child needs. The assembly reads it by offset.
type forkArgs struct {
	ctrl       uintptr // 0: control descriptor
	op         uintptr // 8: CR_OP_RSTRT_CHILD
	threads    uintptr // 16: threads to create besides the first
	cloneFlags uintptr // 24: of clone, for those
	stackTop   uintptr // 32: end of the stack of the first of those
	stackSize  uintptr // 40: distance to the end of the next one's stack
}
