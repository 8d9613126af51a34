package proc

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// What the threads of a process have for themselves, and what processes share.

// Shared is something that threads or processes may have in common, as a type of
// kcmp(2).
type Shared uintptr

// The values, from the kernel's kcmp.h.
const (
	SharedMemory      Shared = 1 // KCMP_VM
	SharedDescriptors Shared = 2 // KCMP_FILES
	SharedDirectory   Shared = 3 // KCMP_FS: working directory, root and umask
)

// Shares reports whether two processes or threads have that in common. The error is
// EPERM for those that the caller may not look at, ESRCH for those that there are not,
// and ENOSYS on a kernel without kcmp(2).
func Shares(one, other int, what Shared) (bool, error) {
	r, _, errno := unix.Syscall6(unix.SYS_KCMP, uintptr(one), uintptr(other), uintptr(what), 0, 0, 0)
	if errno != 0 {
		return false, errno
	}
	return r == 0, nil
}

// Thread returns a thread of a process as Read returns a process: Pid is the
// thread's number. The error is ESRCH where there is none.
func Thread(pid, tid int) (*Process, error) { return readStat(threadDir(pid, tid), tid) }

// Killed reports whether a thread is about to end of SIGKILL, or of an exit of the
// whole process by another thread.
func Killed(pid, tid int) bool {
	text, err := read(threadDir(pid, tid) + "/status")
	if err != nil {
		return true // there is no such thread any more
	}
	_, rest, _ := bytes.Cut(text, []byte("\nSigPnd:"))
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	pending, _ := strconv.ParseUint(string(bytes.TrimSpace(line)), 16, 64)
	return pending&(1<<(unix.SIGKILL-1)) != 0
}

// Confined reports whether a process or a thread has given up new privileges
// (PR_SET_NO_NEW_PRIVS of prctl(2)), and whether it has a filter of system calls
// (seccomp(2)). On a kernel that shows neither both are false.
func Confined(id int) (noNewPrivileges, filtered bool) {
	status, err := fields(id, "NoNewPrivs", "Seccomp")
	if err != nil {
		return false, false
	}
	set := func(name string) bool { return len(status[name]) == 1 && status[name][0] != "0" }
	return set("NoNewPrivs"), set("Seccomp")
}

// Permitted reports whether a process has any capability that it may use.
func Permitted(pid int) bool {
	words, _ := field(pid, "CapPrm")
	return mask(words) != 0
}

// ThreadNamespaces is Namespaces for a thread.
func ThreadNamespaces(pid, tid int, kinds []string) []uint64 {
	return namespaces(threadDir(pid, tid)+"/ns", kinds)
}

// AddressSpace returns the size of all that a process has mapped, in bytes; 0 where it
// cannot be seen, and for a process that has ended.
func AddressSpace(pid int) uint64 {
	text, err := read(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0
	}
	word, _, _ := bytes.Cut(text, []byte(" "))
	pages, _ := strconv.ParseUint(string(word), 10, 64)
	return pages * uint64(os.Getpagesize())
}

// PassedOn returns how many descriptors are on their way to a socket, by SCM_RIGHTS of
// unix(7): 0 for none, for another kind of file, and before Linux 5.6.
func PassedOn(pid, fd int) int {
	text, err := read(fmt.Sprintf("/proc/%d/fdinfo/%d", pid, fd))
	if err != nil {
		return 0
	}
	_, rest, found := bytes.Cut(text, []byte("scm_fds:"))
	if !found {
		return 0
	}
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	n, _ := strconv.Atoi(string(bytes.TrimSpace(line)))
	return n
}

// Here returns nil if /proc is that of the pid namespace of this process: only then
// are the numbers in it those that system calls take. The error is ENOENT where there
// is no /proc, or one that does not show this process, and EXDEV for that of another
// namespace.
func Here() error {
	link, err := os.Readlink("/proc/self")
	if err != nil {
		return syscall.ENOENT
	}
	if link != strconv.Itoa(os.Getpid()) {
		return syscall.EXDEV
	}
	return nil
}
