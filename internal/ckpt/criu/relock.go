package criu

import (
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/criu/images"
	"blcr-cli/internal/ckpt/criu/remote"
	"blcr-cli/internal/hints"
	"blcr-cli/internal/proc"
	"blcr-cli/internal/thread"
)

// Locks of fcntl(2) that are lost in a restore. A process loses those on a file when it closes
// any descriptor of that file, and CRIU opens a file that is mapped, and closes it, when it has
// taken the locks. Others it does not save: see package attributes. The process itself takes
// them again, before any of the job runs.

// lostLock is a lock that a process has to take again.
type lostLock struct {
	images.Lock
	process int // here
}

// lostLocks returns the locks that the restored processes, which do not run yet, should have
// and do not have.
func (r *restart) lostLocks() (lost []lostLock) {
	if !slices.ContainsFunc(r.locks, func(l images.Lock) bool { return l.Kind == images.LockPOSIX }) {
		return nil
	}
	outer := r.numbers()
	for _, lock := range r.locks {
		pid := outer(lock.PID)
		if lock.Kind != images.LockPOSIX || pid <= 0 {
			continue
		}
		have, err := proc.LocksOf(pid, int(lock.FD))
		if err == nil && !slices.ContainsFunc(have, func(l proc.Lock) bool {
			return l.Kind == "POSIX" && l.Write == lock.Write && l.First <= lock.Start && l.Last >= lastOf(lock)
		}) {
			lost = append(lost, lostLock{lock, pid})
		}
	}
	return lost
}

// lockAgain has the processes, which are stopped, take the locks that they have lost.
func (r *restart) lockAgain() (err error) {
	thread.Run(func() {
		for _, lock := range r.lost {
			if err = lock.take(); err != nil {
				return
			}
		}
	})
	return err
}

// take has the process make the call. What the call reads is in its memory meanwhile, in place
// of something else.
func (l lostLock) take() error {
	failed := func(errno syscall.Errno, hint string) error {
		name, _ := os.Readlink(proc.Open(l.process, int(l.FD)))
		return &ckpt.Error{Op: "restart", Object: name, Errno: errno, Detail: []string{
			fmt.Sprintf("%s cannot lock the file %s again by %s", hints.Process(l.process), name, lockCall(l.Kind)), hint}}
	}
	request := unix.Flock_t{Type: unix.F_RDLCK, Start: l.Start, Len: l.Length}
	if l.Write {
		request.Type = unix.F_WRLCK
	}
	bytes := unsafe.Slice((*byte)(unsafe.Pointer(&request)), unsafe.Sizeof(request))
	before := make([]byte, len(bytes))
	at := proc.Writable(l.process)
	if at == 0 || !proc.ReadMemory(l.process, at, before) || !proc.WriteMemory(l.process, at, bytes) {
		return failed(syscall.EFAULT, "restart it as root")
	}
	_, filtered := proc.Confined(l.process)
	t := remote.Thread{PID: l.process, TID: l.process, Filtered: filtered && os.Geteuid() == 0, Stopped: true, Deadline: time.Now().Add(patience)}
	result, ok := remote.Call(t, unix.SYS_FCNTL, uint64(l.FD), unix.F_SETLK, uint64(at))
	proc.WriteMemory(l.process, at, before)
	switch {
	case !ok:
		return failed(syscall.EPERM, "restart it as root")
	case result == -int64(unix.EAGAIN), result == -int64(unix.EACCES):
		return failed(syscall.EBUSY, "restart the job when nobody else has it locked; 'lslocks' lists who has")
	case result < 0:
		return failed(syscall.Errno(-result), "restart it when the file system takes locks")
	}
	return nil
}
