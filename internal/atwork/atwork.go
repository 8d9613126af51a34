// Package atwork tells which processes have a request of ours under way: a
// cr_checkpoint that waits for its checkpoint, a cr_restart whose job does not run
// yet. Such a process must not be saved by another request, since its copy would
// wait for something that exists no more.
//
// A process claims itself by a lock, which ends with the last process that has
// the descriptor open, however it ends. So nothing has to be tidied up. It is an
// open file description lock (fcntl(2)) on one byte of one file for each user;
// the byte's offset stands for the process.
//
// A claim is an agreement between our own commands and no protection: who owns
// the process can make or break it.
package atwork

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/proc"
)

// Claim is the claim of a process. The zero Claim is none.
type Claim struct {
	fd   int
	held bool
}

// New claims the calling process, until every process that has the descriptor
// has closed it. Where no lock can be had there is no claim, and no error: the
// request only loses the protection from others. The descriptor will not be the
// number avoid, which may be one that the request is about.
func New(avoid int) *Claim {
	c := &Claim{}
	fd, err := open(os.Geteuid(), true)
	if err != nil {
		return c
	}
	// Small numbers are the caller's to pass on.
	moved, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, max(10, avoid+1))
	unix.Close(fd)
	if err != nil {
		return c
	}
	fd = moved
	offset, err := offsetOf(os.Getpid())
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

// Inherited returns the claim behind a descriptor that was inherited from the
// claimed process, -1 for none. It makes the descriptor close-on-exec.
func Inherited(fd int) *Claim {
	if fd < 0 {
		return &Claim{}
	}
	unix.CloseOnExec(fd)
	own = &Claim{fd: fd, held: true}
	return own
}

// FD returns the descriptor, which is close-on-exec, or -1. It stays the Claim's.
func (c *Claim) FD() int {
	if c == nil || !c.held {
		return -1
	}
	return c.fd
}

// Close ends this process's part in the claim.
func (c *Claim) Close() {
	if c.held {
		unix.Close(c.fd)
		c.held = false
	}
}

// own is this process's claim, made or inherited.
var own *Claim

// Claimed tells whether a process is claimed by another request than the one of
// this process.
func Claimed(pid int) bool {
	offset, err := offsetOf(pid)
	if err != nil {
		return false
	}
	owner, err := proc.Owner(pid)
	if err != nil {
		return false
	}
	// The commands may have run for the process's owner, or for root.
	return claimed(owner, offset) || owner != 0 && claimed(0, offset)
}

// claimed looks for a lock in the file of a user.
func claimed(uid int, offset int64) bool {
	// A lock is not reported to the open file that holds it.
	fd := own.FD()
	if fd < 0 || uid != os.Geteuid() {
		var err error
		if fd, err = open(uid, false); err != nil {
			return false
		}
		defer unix.Close(fd)
	}
	lock := unix.Flock_t{Type: unix.F_WRLCK, Start: offset, Len: 1}
	return unix.FcntlFlock(uintptr(fd), unix.F_OFD_GETLK, &lock) == nil && lock.Type != unix.F_UNLCK
}

// offsetOf is the byte that stands for a process: its pid namespace and its pid in
// there. A pid has at most 22 bits (PID_MAX_LIMIT), an inode of nsfs 32.
func offsetOf(pid int) (int64, error) {
	namespace, err := proc.Namespace(pid, "pid")
	if err != nil {
		return 0, err
	}
	inner, err := proc.InnerPids(pid)
	if err != nil {
		return 0, err
	}
	return int64(namespace)<<22 | int64(inner[len(inner)-1]), nil
}

// directories are where the file of a user may be, the preferred one first. They
// do not depend on the environment: others have to find them. Tests have others.
var directories = func(uid int) []string {
	if uid == 0 {
		return []string{"/run/blcr-cli"}
	}
	return []string{fmt.Sprintf("/run/user/%d/blcr-cli", uid), fmt.Sprintf("/tmp/blcr-cli-%d", uid)}
}

// open opens the file of a user, and creates it, with its directory, if create is
// set. What belongs to somebody else is not used.
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
			flags = unix.O_RDWR | unix.O_CREAT // a lock for writing needs that
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
