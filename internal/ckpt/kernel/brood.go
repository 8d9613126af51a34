package kernel

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/kernel/abi"
	"blcr-cli/internal/signals"
)

// stackSize is the stack of each thread of a restart child. The thread makes
// one system call on it, but a checkpoint signal may arrive meanwhile, and its
// frame holds all vector registers: 11 KiB where there is AMX.
const stackSize = 16 << 10

// brood is the processes that are being made for one restart. They are children
// of the main thread.
type brood struct {
	mu      sync.Mutex
	before  map[int]bool  // children of ours that are none of the restart's
	forked  []int         // until the restart has succeeded or failed
	settled bool          // it has; no further process is made
	lost    syscall.Errno // why a process ended before it was restored
}

// spawn forks one process with the threads that the table asks for, each of
// which turns into a restored one. Everything is prepared before the fork, since
// the child can prepare nothing. It inherits a mask that blocks every signal:
// none of our handlers may run in it.
func (b *brood) spawn(ctrl control, table *abi.ProcsTbl) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.settled {
		return &ckpt.Error{Op: "fork", Errno: unix.EINTR}
	}
	if b.before == nil {
		b.before = children()
		go b.watch()
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
	mask, err := signals.BlockAll()
	if err != nil {
		return &ckpt.Error{Op: "sigprocmask", Errno: err.(syscall.Errno)}
	}
	defer signals.RestoreMask(mask)
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
	if b.settled {
		return
	}
	b.settled = true
	if len(b.forked) == 0 {
		return
	}
	doomed := b.forked
	for pid := range children() {
		if !b.before[pid] {
			doomed = append(doomed, pid)
		}
	}
	for _, pid := range doomed {
		end(pid)
	}
}

// release gives the processes up to their own lives: the restart has succeeded.
func (b *brood) release() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.settled = true
}

// loss is why a process ended before it was restored, or 0.
func (b *brood) loss() syscall.Errno {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.lost
}

// Of a process that ends before all its threads are in CR_OP_RSTRT_CHILD, for
// want of memory for one of them, the module never hears. It waits for it for
// ever, and the main thread with it. So somebody watches.

// watchEvery is how often, and patience how long after such an end the module
// may still find out by itself.
const (
	watchEvery = 20 * time.Millisecond
	patience   = 500 * time.Millisecond
)

// watch looks for such an end until the restart is settled, and interrupts the
// main thread.
func (b *brood) watch() {
	for pause(watchEvery); !b.look(); pause(watchEvery) {
	}
	for pause(patience); !b.over(); pause(watchEvery) {
		_ = unix.Tgkill(os.Getpid(), os.Getpid(), interrupt)
	}
}

// look returns true when there is nothing more to look for.
func (b *brood) look() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.settled {
		return true
	}
	for _, pid := range b.forked {
		if b.lost = lost(pid); b.lost != 0 {
			return true
		}
	}
	return false
}

func (b *brood) over() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.settled
}

// lost returns the errno with which a forked process ended without having been
// restored, which is its exit status, and 0 if it has not. A restored one that
// has ended has its own name, and is left to be waited for.
func lost(pid int) syscall.Errno {
	name, state, parent := stat(pid)
	if parent != os.Getpid() || state != 'Z' {
		return 0
	}
	if ours, _, _ := stat(os.Getpid()); name != ours {
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

// reap waits for a child of ours, of whatever kind, that has ended.
func reap(pid int) (status unix.WaitStatus, reaped bool) {
	for {
		var status uint32
		r, _, errno := unix.Syscall6(unix.SYS_WAIT4, uintptr(pid), uintptr(unsafe.Pointer(&status)), unix.WNOHANG|unix.WALL, 0, 0, 0)
		if errno != unix.EINTR {
			return unix.WaitStatus(status), errno == 0 && int(r) == pid
		}
	}
}

// pause sleeps without a timer of the runtime's, which would open an epoll
// descriptor.
func pause(d time.Duration) { _, _ = unix.Poll(nil, int(d.Milliseconds())) }

// end kills and reaps a process if it is a child of ours. It gives up on one
// that even SIGKILL does not move within a second.
func end(pid int) {
	for deadline := time.Now().Add(time.Second); ownChild(pid) && time.Now().Before(deadline); pause(time.Millisecond) {
		_ = unix.Kill(pid, unix.SIGKILL)
		reap(pid)
	}
}

// ownChild tells whether that is a child of ours that has not been reaped. A
// number that is not may be anybody's by now.
func ownChild(pid int) bool {
	_, _, parent := stat(pid)
	return parent == os.Getpid()
}

// children returns the pids of the main thread's children, or none where /proc
// does not tell (it does with CONFIG_PROC_CHILDREN, on Linux 3.5 with
// CONFIG_CHECKPOINT_RESTORE).
func children() map[int]bool {
	pids := make(map[int]bool)
	for _, field := range strings.Fields(readProc(fmt.Sprintf("/proc/self/task/%d/children", os.Getpid()))) {
		if pid, err := strconv.Atoi(field); err == nil {
			pids[pid] = true
		}
	}
	return pids
}

// stat returns a process's name, state and parent, also of one that has ended
// and has not been reaped; zeros where there is none. (waitid could tell, but
// takes __WALL only from Linux 4.7 on.)
func stat(pid int) (name string, state byte, parent int) {
	// PID (NAME) STATE PPID …, where NAME may hold anything.
	line := readProc(fmt.Sprintf("/proc/%d/stat", pid))
	open, end := strings.IndexByte(line, '('), strings.LastIndexByte(line, ')')
	if open < 0 || end < open {
		return "", 0, 0
	}
	if _, err := fmt.Sscanf(line[end+1:], " %c %d", &state, &parent); err != nil {
		return "", 0, 0
	}
	return line[open+1 : end], state, parent
}

// readProc returns the content of a file, or "". It does not use package os,
// which would open an epoll descriptor.
func readProc(path string) string {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	var content []byte
	buf := make([]byte, 4096)
	for {
		n, err := unix.Read(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n <= 0 {
			return string(content)
		}
		content = append(content, buf[:n]...)
	}
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
