package landlock

import (
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/reexec"
)

const role = "witness"

func init() {
	reexec.Register(reexec.Role{Name: role, Numbers: 3, Run: func(numbers []int, _ []string) int {
		return witness(numbers[0], numbers[1], numbers[2])
	}})
}

// witness is a process with one user, one group and no capabilities. It ends at once: one
// that has ended, and was not waited for, can still be looked at, and do no harm. If it is
// given another witness, it looks at that first, as the threads will. It returns its exit
// status, 1 for one that may not.
func witness(uid, gid, other int) int {
	// The user may look at this process from PR_SET_DUMPABLE on.
	_ = unix.CloseRange(0, ^uint(0), 0)
	if unix.Chdir("/") != nil || syscall.Setresgid(gid, gid, gid) != nil || syscall.Setresuid(uid, uid, uid) != nil {
		return 1
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&none)), 0)
	runtime.KeepAlive(&header)
	runtime.KeepAlive(&none)
	if errno != 0 || unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0) != nil {
		return 1
	}
	if other != 0 {
		if _, _, errno := unix.Syscall6(unix.SYS_KCMP, uintptr(other), uintptr(other), kcmpVM, 0, 0, 0); errno != 0 {
			return 1
		}
	}
	return 0
}

// kcmpVM is KCMP_VM of the kernel's kcmp.h.
const kcmpVM = 1

// witnesses are zombies by their users and groups, 0 where there can be none.
type witnesses map[[2]int]int

// forIDs returns the witness for a thread with this real user and group, 0 if there is
// none that a process without Landlock may look at.
func (w witnesses) forIDs(uid, gid int, err error) int {
	if err != nil {
		return 0
	}
	ids := [2]int{uid, gid}
	if pid, ok := w[ids]; ok {
		return pid
	}
	pid := start(uid, gid, 0)
	if pid != 0 {
		if unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == nil && looks(uid, gid, pid) {
			w[ids] = pid
			return pid
		}
		reap(pid)
	}
	w[ids] = 0
	return 0
}

// looks reports whether another witness may look at this one.
func looks(uid, gid, pid int) bool {
	second := start(uid, gid, pid)
	return second != 0 && reap(second) == 0
}

// start returns the pid of a new witness, 0 if it cannot be started.
func start(uid, gid, other int) int {
	pid, err := reexec.Start(role, []int{uid, gid, other}, nil, reexec.Attr{
		Files: []uintptr{^uintptr(0), ^uintptr(0), ^uintptr(0)}, Bare: true, Pdeathsig: unix.SIGKILL,
	})
	if err != nil {
		return 0
	}
	return pid
}

// reap waits for a process, and returns its wait status.
func reap(pid int) unix.WaitStatus {
	status := unix.WaitStatus(1)
	for {
		if _, err := unix.Wait4(pid, &status, 0, nil); err != unix.EINTR {
			return status
		}
	}
}

// end gives them back.
func (w witnesses) end() {
	for _, pid := range w {
		if pid != 0 {
			reap(pid)
		}
	}
}
