// Package atwork marks processes that have a request of our commands under way: a
// cr_checkpoint that waits for its checkpoint, a cr_restart whose job does not run yet.
// Another request must not save such a process, since its copy would wait for something
// that no longer exists.
//
// A process claims itself by a lock, which ends with the last process that has the
// descriptor open, however that ends. So nothing has to be cleaned up. It is an open
// file description lock (fcntl(2)) on one byte of a file, of which there is one for
// each user. The byte's offset identifies the process.
//
// A claim is an agreement between our own commands and not a protection: the owner of
// the process can create or remove it.
package atwork

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/proc"
)

// Claim is the claim of a process. The zero Claim claims nothing.
type Claim struct {
	fd   int
	held bool
}

// New claims a process until every process that has the descriptor has closed it. If no
// lock is available, the Claim claims nothing, and there is no error: the request only is
// not protected from others. The descriptor never has the number avoid, which may be that
// of the context.
func New(pid, avoid int) *Claim {
	c := &Claim{}
	fd, err := open(os.Geteuid(), true)
	if err != nil {
		return c
	}
	// Small numbers are left free, for descriptors that the caller passes on.
	moved, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, max(10, avoid+1))
	unix.Close(fd)
	if err != nil {
		return c
	}
	fd = moved
	offset, err := offsetOf(pid)
	if err == nil {
		lock := unix.Flock_t{Type: unix.F_WRLCK, Start: offset, Len: 1}
		err = unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &lock)
	}
	if err != nil {
		unix.Close(fd)
		return c
	}
	c.fd, c.held = fd, true
	own = c
	return c
}

// Inherited returns the claim of a descriptor that was inherited from the claimed
// process, -1 for none. It makes the descriptor close-on-exec.
func Inherited(fd int) *Claim {
	if fd < 0 {
		return &Claim{}
	}
	unix.CloseOnExec(fd)
	own = &Claim{fd: fd, held: true}
	return own
}

// FD returns the descriptor, which is close-on-exec, or -1. The Claim closes it.
func (c *Claim) FD() int {
	if c == nil || !c.held {
		return -1
	}
	return c.fd
}

// Close closes the descriptor. The claim ends when no process has it open.
func (c *Claim) Close() {
	if c.held {
		unix.Close(c.fd)
		c.held = false
	}
}

// own is the claim that this process has made or inherited.
var own *Claim

// Claimed reports whether a process is claimed by another request than that of this
// process.
func Claimed(pid int) bool {
	owner, err := proc.Owner(pid)
	if err != nil {
		return false
	}
	// The commands may have been run by the process's owner, or by root.
	return claimed(owner, pid) || owner != 0 && claimed(0, pid)
}

// Any reports whether any process that a process's owner or root has started is claimed
// by another request than that of this process.
func Any(pid int) bool {
	owner, err := proc.Owner(pid)
	return err == nil && (anyOf(owner) || owner != 0 && anyOf(0))
}

// anyOf reports whether there is a lock in the file of a user.
func anyOf(uid int) bool {
	fd := own.FD()
	if fd < 0 || uid != os.Geteuid() {
		var err error
		if fd, err = open(uid, false); err != nil {
			return false
		}
		defer unix.Close(fd)
	}
	return locked(fd, 0, 0)
}

// claimed reports whether there is a lock for a process in the file of a user.
func claimed(uid, pid int) bool {
	// A lock is not reported to the open file that holds it.
	fd := own.FD()
	if fd < 0 || uid != os.Geteuid() {
		var err error
		if fd, err = open(uid, false); err != nil {
			return false
		}
		defer unix.Close(fd)
	}
	// As a rule there is no other request, for which a tree of many processes need not
	// be looked at closely.
	if !locked(fd, 0, 0) {
		return false
	}
	offset, err := offsetOf(pid)
	return err == nil && locked(fd, offset, 1)
}

// locked reports whether there is a lock of another open file on some bytes; a length
// of 0 is up to the end of all offsets.
func locked(fd int, start, length int64) bool {
	lock := unix.Flock_t{Type: unix.F_WRLCK, Start: start, Len: length}
	return unix.FcntlFlock(uintptr(fd), unix.F_OFD_GETLK, &lock) == nil && lock.Type != unix.F_UNLCK
}

// offsetOf returns the offset of the byte for a process: its pid namespace and its pid
// in that namespace. A pid has at most 22 bits (PID_MAX_LIMIT), an inode of nsfs 32.
func offsetOf(pid int) (int64, error) {
	namespace, err := proc.Namespace(pid, "pid")
	if err != nil {
		return 0, err
	}
	inner, err := proc.InnerPid(pid)
	if err != nil {
		return 0, err
	}
	return int64(namespace)<<22 | int64(inner), nil
}

// directories returns the directories in which the file of a user may be, the preferred
// one first. They do not depend on the environment, since other processes have to find
// them. Tests replace them.
var directories = func(uid int) []string {
	if uid == 0 {
		return []string{"/run/blcr-cli"}
	}
	return []string{fmt.Sprintf("/run/user/%d/blcr-cli", uid), fmt.Sprintf("/tmp/blcr-cli-%d", uid)}
}

// open opens the file of a user. If create is set, it creates the file and its
// directory. It refuses a file or directory that belongs to another user.
func open(uid int, create bool) (fd int, err error) {
	err = unix.ENOENT
	for _, dir := range directories(uid) {
		if create {
			_ = unix.Mkdir(dir, 0o700)
		}
		var st unix.Stat_t
		if err = unix.Lstat(dir, &st); err != nil {
			continue
		}
		if st.Mode&unix.S_IFMT != unix.S_IFDIR || int(st.Uid) != uid || st.Mode&0o022 != 0 {
			err = unix.EPERM
			continue
		}
		flags := unix.O_RDONLY
		if create {
			flags = unix.O_RDWR | unix.O_CREAT // required for a write lock
		}
		flags |= unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC
		if fd, err = unix.Open(dir+"/requests", flags, 0o600); err != nil {
			continue
		}
		if err = unix.Fstat(fd, &st); err == nil && (st.Mode&unix.S_IFMT != unix.S_IFREG || int(st.Uid) != uid) {
			err = unix.EPERM
		}
		if err == nil {
			return fd, nil
		}
		unix.Close(fd)
	}
	return -1, err
}
