package criu

import (
	"context"
	"fmt"
	"math"
	"os"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt/criu/images"
	"blcr-cli/internal/hints"
	"blcr-cli/internal/proc"
	"blcr-cli/internal/show"
)

// Locks on files. Criu takes those of the job as if the job did, and waits without an end
// where somebody else has one. So they are looked for before.

// locksFree is the error for locks of the job that somebody else has. One who has ended, or
// is about to, is waited for, as for pids.
func (r *restart) locksFree(ctx context.Context) error {
	f := r.foresight()
	locks, err := r.plan.locks(r.source)
	if err != nil {
		return contextError(err)
	}
	r.locks = locks
	wanted, err := f.wanted(locks, r.plan.images[images.FilesName])
	if err != nil {
		return contextError(err)
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		f.Failures = nil
		holder := f.conflicts(wanted)
		if err := interrupted(ctx, "restart"); err != nil {
			return err
		}
		if len(f.Failures) == 0 {
			return nil
		}
		if !leaving(holder) || time.Now().After(deadline) {
			return f.Failures[0]
		}
	}
}

// locks looks for locks of the job that somebody else has.
func (f *foresight) locks() error {
	img, err := namedFiles(f.source)
	if err != nil {
		return err
	}
	locks, err := f.plan.locks(f.source)
	if err != nil {
		return err
	}
	wanted, err := f.wanted(locks, img)
	f.conflicts(wanted)
	return err
}

// wantedLock is a lock that CRIU is going to take.
type wantedLock struct {
	images.Lock
	name     string // of the file
	dev, ino uint64 // by which /proc/locks has it
}

// wanted returns those of the job's locks that are on files that are opened by their names. Img
// is files.img.
func (f *foresight) wanted(locks []images.Lock, img []byte) (wanted []wantedLock, err error) {
	if len(locks) == 0 {
		return nil, nil
	}
	own, err := f.ownMounts()
	if err != nil || own {
		return nil, err // the files are on mounts that CRIU makes
	}
	names, err := f.openNames(img)
	if err != nil {
		return nil, err
	}
	mounts, _ := proc.Mounts(os.Getpid())
	for _, lock := range locks {
		name := names[descriptor{lock.PID, lock.FD}]
		if name == "" {
			continue
		}
		if dev, ino, ok := lockedFile(name, mounts); ok { // else CRIU says what is wrong with it
			wanted = append(wanted, wantedLock{lock, name, dev, ino})
		}
	}
	return wanted, nil
}

// locks returns the locks in the images, and those that were noted beside them.
func (p *plan) locks(source source) (list []images.Lock, err error) {
	if source.Has(images.FileLocksName) {
		list, err = images.Read(source, images.FileLocksName, images.Locks)
	}
	for _, task := range p.tasks {
		for _, l := range p.attributes.Locks(task.PID) {
			noted := images.Lock{Kind: images.LockPOSIX, Write: l.Write, PID: task.PID, FD: l.FD, Start: l.First}
			if l.Last != math.MaxInt64 {
				noted.Length = l.Last - l.First + 1
			}
			if !slices.ContainsFunc(list, func(o images.Lock) bool { o.FD = noted.FD; return o == noted }) {
				list = append(list, noted)
			}
		}
	}
	return list, err
}

// conflicts adds a failure for each lock that somebody else has. Holder is who has the first
// of them, -1 if that is not known.
func (f *foresight) conflicts(wanted []wantedLock) (holder int) {
	if len(wanted) == 0 {
		return 0
	}
	held, err := proc.Locks()
	if err != nil {
		return 0 // a kernel without locks
	}
	for _, want := range wanted {
		for _, have := range held {
			if have.Dev != want.dev || have.Ino != want.ino || !conflict(want.Lock, have) {
				continue
			}
			if len(f.Failures) == 0 {
				holder = have.PID
			}
			f.obstacle(syscall.EBUSY, want.name, fmt.Sprintf("the job had the file %s locked by %s, and %s has it locked now", show.Name(want.name), lockCall(want.Kind), lockHolder(have.PID)),
				"restart the job when that is over")
			break
		}
	}
	return holder
}

// descriptor is a descriptor of a process of the job.
type descriptor struct {
	pid int32
	fd  uint32
}

// openNames returns the names of the files that are opened by their names. Files that had
// lost theirs, or are in the context, are new ones, which nobody else can have locked.
func (f *foresight) openNames(img []byte) (map[descriptor]string, error) {
	list, err := images.Files(img)
	if err != nil {
		return nil, err
	}
	open := make(map[uint32]bool)
	for _, file := range list {
		open[file.ID] = file.Type == images.TypeReg
	}
	if err := f.withoutRemoved(open); err != nil {
		return nil, err
	}
	saved, err := f.saved()
	if err != nil {
		return nil, err
	}
	byID := make(map[uint32]string)
	for _, file := range list {
		if open[file.ID] && !saved[file.Name] {
			byID[file.ID] = file.Name
		}
	}
	tables, err := f.plan.tables(f.source)
	if err != nil {
		return nil, err
	}
	names := make(map[descriptor]string)
	for task, err := range f.plan.ids(f.source) {
		if err != nil {
			return nil, err
		}
		for _, fd := range tables[task.Files] {
			names[descriptor{task.pid, fd.FD}] = byID[fd.FileID]
		}
	}
	return names, nil
}

// lockedFile returns by what /proc/locks has a file on one of these mounts.
func lockedFile(name string, mounts map[int]uint64) (dev, ino uint64, ok bool) {
	var st unix.Statx_t
	if unix.Statx(unix.AT_FDCWD, name, 0, unix.STATX_INO|unix.STATX_MNT_ID, &st) != nil {
		return 0, 0, false
	}
	dev = unix.Mkdev(st.Dev_major, st.Dev_minor)
	if st.Mask&unix.STATX_MNT_ID != 0 { // since Linux 5.8
		if mounted, seen := mounts[int(st.Mnt_id)]; seen {
			dev = mounted
		}
	}
	return dev, st.Ino, true
}

// conflict reports whether a lock cannot be taken as long as somebody has another one on the
// same file.
func conflict(want images.Lock, have proc.Lock) bool {
	if !want.Write && !have.Write {
		return false
	}
	switch want.Kind {
	case images.LockFlock:
		return have.Kind == "FLOCK"
	case images.LockPOSIX, images.LockOFD:
		return (have.Kind == "POSIX" || have.Kind == "OFDLCK") && want.Start <= have.Last && have.First <= lastOf(want)
	}
	return false // Criu does not wait for a lease.
}

// lastOf is the last byte that a lock is on.
func lastOf(lock images.Lock) int64 {
	if lock.Length > 0 {
		return lock.Start + lock.Length - 1
	}
	return math.MaxInt64
}

// lockCall is how a lock is taken.
func lockCall(kind images.LockKind) string {
	switch kind {
	case images.LockFlock:
		return "flock(2)"
	case images.LockOFD:
		return "fcntl(2) with F_OFD_SETLK"
	}
	return "fcntl(2) with F_SETLK"
}

// lockHolder is who has a lock, by the pid of who took it.
func lockHolder(pid int) string {
	switch {
	case pid <= 0:
		return "another process"
	case proc.Ended(pid):
		return fmt.Sprintf("what process %d, which has ended, has started", pid)
	}
	return hints.Process(pid)
}
