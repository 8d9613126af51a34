package kernel

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/kernel/abi"
)

// stackSize is the stack of each thread of a restart child. The thread makes
// one system call on it, but a checkpoint signal may arrive meanwhile, and its
// frame holds all vector registers: 11 KiB where there is AMX.
const stackSize = 16 << 10

// brood is the processes that are being made for one restart.
type brood struct {
	mu        sync.Mutex
	before    map[int]bool // children of ours that are none of the restart's
	forked    []int
	abandoned bool
}

// spawn forks one process with the threads that the table asks for, each of
// which turns into a restored one. Everything is prepared before the
// fork, since the child can prepare nothing. Every signal must be blocked for the calling thread: the child
// inherits the mask, and none of our handlers may run in it.
func (b *brood) spawn(ctrl control, table *abi.ProcsTbl) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.abandoned {
		return &ckpt.Error{Op: "fork", Errno: unix.EINTR}
	}
	if b.before == nil {
		b.before = children()
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
		// The child has its own copy from the moment of the fork on.
		defer unix.MunmapPtr(p, size)
	}
	pid, errno := fork(&spawnArgs{
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
	b.forked = append(b.forked, pid)
	return nil
}

// abandon kills and reaps what has been made for a restart that failed. A
// restored process may have another pid than the forked one had, so it looks
// at our children and not only at what fork returned. No further process is
// made afterwards. It may be called from any goroutine, more than once.
func (b *brood) abandon() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.abandoned = true
	if len(b.forked) == 0 {
		return
	}
	doomed := b.forked
	for pid := range children() {
		if !b.before[pid] {
			doomed = append(doomed, pid)
		}
	}
	b.forked = nil
	for _, pid := range doomed {
		end(pid)
	}
}

// release gives the processes up to their own lives: the restart has succeeded.
func (b *brood) release() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.forked = nil
}

// end kills and reaps a process if it is a child of ours. It gives up on one
// that even SIGKILL does not move within a second.
func end(pid int) {
	for deadline := time.Now().Add(time.Second); time.Now().Before(deadline); {
		// Asking first: a number that is no child of ours may by now be
		// anybody's.
		const options = unix.WNOHANG | unix.WALL
		reaped, _, errno := unix.Syscall6(unix.SYS_WAIT4, uintptr(pid), 0, options, 0, 0, 0)
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 || reaped != 0 {
			return
		}
		_ = unix.Kill(pid, unix.SIGKILL)
		_, _ = unix.Poll(nil, 1)
	}
}

// children returns the pids of our children, or nil where /proc does not tell
// (it does with CONFIG_PROC_CHILDREN, on Linux 3.5 with
// CONFIG_CHECKPOINT_RESTORE). A child is listed below the thread that made it.
func children() map[int]bool {
	files, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		return nil
	}
	pids := make(map[int]bool)
	for _, file := range files {
		list, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		for _, field := range strings.Fields(string(list)) {
			if pid, err := strconv.Atoi(field); err == nil {
				pids[pid] = true
			}
		}
	}
	return pids
}

// spawnArgs is what fork's child needs. The assembly reads it by offset.
type spawnArgs struct {
	ctrl       uintptr // 0: control descriptor
	op         uintptr // 8: CR_OP_RSTRT_CHILD
	threads    uintptr // 16: threads to make besides the first
	cloneFlags uintptr // 24: of clone, for those
	stackTop   uintptr // 32: end of the first one's stack
	stackSize  uintptr // 40: distance to the end of the next one's
}
