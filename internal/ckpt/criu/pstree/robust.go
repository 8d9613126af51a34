package pstree

import (
	"fmt"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/proc"
	"blcr-cli/internal/show"
)

// Robust mutexes, which the kernel marks as abandoned when a thread that holds them ends:
// pthread_mutexattr_setrobust(3). If one is in a mapped file, the restarted job would find
// the mark there.

// mostRobust is how many of them the kernel looks at: ROBUST_LIST_LIMIT.
const mostRobust = 2048

// robustMutexes refuses a process that would end with the checkpoint and holds one in a
// file. It is looked for when nothing runs: many programs hold one for a moment.
func (p *preflight) robustMutexes(s *subject) {
	if r := p.request; !p.frozen || r == nil || r.SaveShared || !ckpt.Ends(r.Signal) {
		return
	}
	for _, tid := range append([]int{s.Pid}, s.threads...) {
		for _, at := range robustList(s.Pid, tid) {
			if name := sharedFile(s.Pid, at); name != "" {
				p.refuse(syscall.EOPNOTSUPP, s, fmt.Sprintf("holds a robust mutex in the file %s, which says that its owner has died (EOWNERDEAD) when the job has ended, also to the restarted job", show.Name(name)),
					"--save-shared saves the file with the job; or have the program unlock it")
				return
			}
		}
	}
}

// sharedFile returns the name of the file that is mapped as shared memory at an address;
// "" for memory that is saved with the process.
func sharedFile(pid int, at uint64) string {
	for m, err := range proc.Mappings(pid) {
		if err != nil {
			break
		}
		if at >= m.Start && at < m.End {
			if m.Shared && strings.HasPrefix(m.Path, "/") && !strings.HasSuffix(m.Path, proc.Deleted) {
				return m.Path
			}
			break
		}
	}
	return ""
}

// robustList returns where the mutexes are that a thread holds; nothing where that cannot
// be seen. See linux/futex.h, struct robust_list_head.
func robustList(pid, tid int) (held []uint64) {
	var head, size uintptr
	if _, _, errno := unix.Syscall(unix.SYS_GET_ROBUST_LIST, uintptr(tid), uintptr(unsafe.Pointer(&head)), uintptr(unsafe.Pointer(&size))); errno != 0 || head == 0 {
		return nil
	}
	var list struct{ next, offset, pending uintptr }
	if !peek(pid, head, unsafe.Pointer(&list), unsafe.Sizeof(list)) {
		return nil
	}
	const inherits = 1 // the lowest bit says that the mutex inherits priorities
	for next := list.next &^ inherits; next != head && len(held) < mostRobust; next &^= inherits {
		held = append(held, uint64(next+list.offset))
		if !peek(pid, next, unsafe.Pointer(&next), unsafe.Sizeof(next)) {
			break
		}
	}
	return held
}

// peek copies memory of a process.
func peek(pid int, from uintptr, to unsafe.Pointer, size uintptr) bool {
	return proc.ReadMemory(pid, from, unsafe.Slice((*byte)(to), size))
}
