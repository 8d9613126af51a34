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
	"blcr-cli/internal/ckpt/criu/attributes"
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

// lockAgain has the processes, which are stopped, take the locks that they have lost, and set
// what only they can set.
func (r *restart) lockAgain() (err error) {
	thread.Run(func() {
		for _, lock := range r.lost {
			if err = lock.take(); err != nil {
				return
			}
		}
		for _, call := range r.calls {
			_, _ = call.make() // as far as the job may
		}
	})
	return err
}

// take has the process make the call.
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
	call := attributes.Call{Number: unix.SYS_FCNTL, Args: []uint64{uint64(l.FD), unix.F_SETLK, 0}, Data: bytes, DataAt: 2}
	switch result, err := (ownCall{call, l.process, l.process}).make(); {
	case err != nil:
		return failed(ckpt.ErrnoOf(err), "restart it as root")
	case result == -int64(unix.EAGAIN), result == -int64(unix.EACCES):
		return failed(syscall.EBUSY, "restart the job when nobody else has it locked; 'lslocks' lists who has")
	case result < 0:
		return failed(syscall.Errno(-result), "restart it when the file system takes locks")
	}
	return nil
}

// ownCall is a system call that a thread of the job, which is stopped, has to make for itself.
type ownCall struct {
	attributes.Call
	pid, tid int // here
}

// make has the thread make it, and returns its result, which is -errno for a failure. What the
// call reads is in the process's memory meanwhile, in place of something else. The error is an
// errno: the thread could not be made to.
func (c ownCall) make() (result int64, err error) {
	args := slices.Clone(c.Args)
	if len(c.Data) > 0 {
		before := make([]byte, len(c.Data))
		at := proc.Writable(c.pid)
		if at == 0 || !proc.ReadMemory(c.pid, at, before) || !proc.WriteMemory(c.pid, at, c.Data) {
			return 0, syscall.EFAULT
		}
		defer proc.WriteMemory(c.pid, at, before)
		args[c.DataAt] = uint64(at)
	}
	_, filtered := proc.Confined(c.tid)
	t := remote.Thread{PID: c.pid, TID: c.tid, Filtered: filtered && os.Geteuid() == 0, Stopped: true, Deadline: time.Now().Add(patience)}
	result, ok := remote.Call(t, c.Number, args...)
	if !ok {
		return 0, syscall.EPERM
	}
	return result, nil
}

// ownCalls returns what the threads of the job, which do not run yet, have to set for themselves.
func (r *restart) ownCalls() (calls []ownCall) {
	if len(r.plan.attributes) == 0 {
		return nil
	}
	outer := r.numbers()
	restorer := r.restorer()
	for _, task := range r.plan.tasks {
		for _, id := range task.Threads {
			pid, tid := outer(task.PID), outer(id)
			if !restorer.Needs(id) || tid <= 0 || pid <= 0 {
				continue
			}
			for _, call := range restorer.Calls(id, tid) {
				calls = append(calls, ownCall{call, pid, tid})
			}
		}
	}
	return calls
}
