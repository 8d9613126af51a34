package target

import (
	"sync"

	"golang.org/x/sys/unix"
)

// destination is what files and directories have in common: the order of the calls,
// and one file or directory of ours, which has a name until it is put in place or
// removed.
type destination struct {
	sys   *system
	spec  Spec
	names Names
	steps steps

	mu       sync.Mutex
	fd       int
	borrowed bool // fd belongs to the caller
	begun    bool
	done     bool  // committed or aborted
	left     error // why a Commit that failed could not remove what is ours

	// name is where our file or directory is now and discard has to look for it,
	// "" if nowhere.
	name string
	id   fileID
	kind uint32 // S_IFREG …
}

// steps is where files and directories differ. destination holds its mutex around
// them.
type steps interface {
	begin() error
	commit() error
	// disposable tells whether what is ours is to be removed if the context does
	// not come about, and remove removes it.
	disposable() bool
	remove(name string) error
}

// fileID tells one file of the running system from every other.
type fileID struct{ dev, ino uint64 }

func idOf(st *unix.Stat_t) fileID {
	return fileID{uint64(st.Dev), uint64(st.Ino)}
}

func fileType(st *unix.Stat_t) uint32 { return st.Mode & unix.S_IFMT }

func (d *destination) FD() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.fd
}

func (d *destination) Begin() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.done:
		return d.canceled()
	case d.begun:
		return nil
	}
	if err := d.steps.begin(); err != nil {
		return err
	}
	d.begun = true
	return nil
}

func (d *destination) Commit() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.done {
		return d.canceled()
	}
	defer d.finish()
	err := fail(OpWrite, d.names.Write, unix.EINVAL)
	if d.begun {
		err = d.steps.commit()
	}
	if err != nil {
		// The error that led here is the one to report; Abort has that of the removal.
		if left := d.discard(); left != nil {
			d.left = fail(OpDiscard, d.name, left)
		}
	}
	return err
}

func (d *destination) Abort() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.done {
		return d.left
	}
	defer d.finish()
	if err := d.discard(); err != nil {
		return fail(OpDiscard, d.name, err)
	}
	return nil
}

// canceled is the error of Begin and Commit on a destination that is done.
func (d *destination) canceled() error {
	return fail(OpWrite, d.names.Write, unix.ECANCELED)
}

// finish releases the descriptor, and the lock with it. A failing close has nothing to
// tell: fsync or flush did that.
func (d *destination) finish() {
	d.done = true
	if !d.borrowed && d.fd >= 0 {
		d.sys.close(d.fd)
	}
	d.fd = -1
}

// discard removes what is ours, if it is at d.name still.
func (d *destination) discard() error {
	if d.name == "" {
		return nil
	}
	if d.id == (fileID{}) { // the first fstat failed
		if _, err := d.identify(); err != nil {
			return err
		}
	}
	if !d.steps.disposable() {
		return nil
	}
	return retryOnce(func() error {
		ours, err := d.isAt(d.name)
		if err != nil || !ours {
			return err
		}
		return d.steps.remove(d.name)
	})
}

// identify notes which file the descriptor is, and of what kind.
func (d *destination) identify() (*unix.Stat_t, error) {
	st, err := d.sys.fstat(d.fd)
	if err != nil {
		return nil, err
	}
	d.id, d.kind = idOf(st), fileType(st)
	return st, nil
}

// isAt tells whether name, itself and not what it may link to, is our file or
// directory.
func (d *destination) isAt(name string) (bool, error) {
	st, err := d.sys.lstat(name)
	if err != nil {
		return false, err
	}
	return idOf(st) == d.id, nil
}

// fixed tells whether a file cannot be replaced, not even by root: it has an attribute of
// chattr(1), or files can only be added to its directory, so that our hidden file would stay.
func fixed(path, dir string) bool {
	return attributes(path)&(unix.STATX_ATTR_IMMUTABLE|unix.STATX_ATTR_APPEND) != 0 ||
		attributes(dir+"/")&unix.STATX_ATTR_APPEND != 0
}

// openParent opens the directory of the target, to be synced, or returns -1 if
// nothing is. That happens before the rename, so that failing changes nothing.
func (d *destination) openParent() (int, error) {
	if !d.spec.Sync {
		return -1, nil
	}
	fd, err := d.sys.open(d.names.Dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return -1, fail(OpOpenDir, d.names.Dir, err)
	}
	return fd, nil
}

// syncParent syncs the directory that openParent has opened, if any.
func (d *destination) syncParent(fd int) error {
	if fd < 0 {
		return nil
	}
	return d.syncDir(fd, d.names.Dir)
}

// syncDirOf syncs the directory of a further name, if syncParent(parent) syncs that of the
// target.
func (d *destination) syncDirOf(name string, parent int) error {
	dir := dirname(name)
	if parent < 0 || dir == d.names.Dir {
		return d.syncParent(parent)
	}
	fd, err := d.sys.open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err == unix.EACCES {
		return nil // names may be changed there, but not read
	}
	if err != nil {
		return fail(OpOpenDir, dir, err)
	}
	defer d.sys.close(fd)
	return d.syncDir(fd, dir)
}

// syncDir syncs the directory name, which is open as fd.
func (d *destination) syncDir(fd int, name string) error {
	switch err := d.sys.fsync(fd); err {
	case nil, unix.EINVAL, unix.EROFS:
		return nil
	default:
		return fail(OpSyncDir, name, err)
	}
}

// The hidden file or directory. The run that fills one holds an exclusive flock on it,
// so that one without a lock is what a killed run has left. Between creating and
// locking it there is a gap; two rules close it. A hidden file is unlinked only by a
// run that holds its lock and has seen, after locking, that the name still is this
// file. And having locked its own, a run looks whether that has its name still.

// createHidden creates and locks what is to be filled, with create, and removes with
// removeStale what a killed run has left there.
func (d *destination) createHidden(name string, create func() (fd int, err error), removeStale func(name string) error) error {
	for range tries {
		fd, err := create()
		switch err {
		case nil:
			if claimed, err := d.claim(fd, name); claimed || err != nil {
				return err
			}
		case unix.EEXIST:
			if err := removeStale(name); err != nil {
				return fail(OpOpen, name, err)
			}
		default:
			return fail(OpOpen, name, err)
		}
	}
	return fail(OpOpen, name, unix.EBUSY)
}

// claim locks what was just created and makes it ours. It returns false if another run
// took it for a stale one meanwhile.
func (d *destination) claim(fd int, name string) (bool, error) {
	lockErr := d.sys.flock(fd, unix.LOCK_EX|unix.LOCK_NB)
	if lockErr == unix.EWOULDBLOCK {
		d.sys.close(fd) // the run that looks at it will remove it, or we shall
		return false, nil
	}
	d.fd, d.name = fd, name
	st, err := d.identify()
	switch {
	case err != nil:
		err = fail(OpFstat, name, err)
	case lockErr != nil && !locksUnsupported(lockErr):
		err = fail(OpOpen, name, lockErr)
	case st.Nlink > 0 && d.kind == unix.S_IFREG:
		return true, nil
	default:
		// Some file systems count no links of directories, some FUSE ones no links
		// at all, so the name decides.
		if ours, _ := d.isAt(name); !ours {
			d.sys.close(fd)
			d.fd, d.name, d.id = -1, "", fileID{}
			return false, nil
		}
		return true, nil
	}
	_ = d.discard()
	d.finish()
	return false, err
}

// lockStale locks a hidden file or directory that another run has left, which is open
// as fd, and tells whether name still is that. EBUSY: the run is still at work.
func (d *destination) lockStale(fd int, name string) (same bool, err error) {
	err = d.sys.flock(fd, unix.LOCK_EX|unix.LOCK_NB)
	if err == unix.EBADF {
		// NFS grants an exclusive lock only for writing. Two runs that meet over
		// one stale file there are a risk taken.
		err = d.sys.flock(fd, unix.LOCK_SH|unix.LOCK_NB)
	}
	if err == unix.EWOULDBLOCK {
		return false, unix.EBUSY
	}
	if err != nil && !locksUnsupported(err) {
		return false, err
	}
	opened, err := d.sys.fstat(fd)
	if err != nil {
		return false, err
	}
	st, err := d.sys.lstat(name)
	if err == unix.ENOENT {
		return false, nil
	}
	return err == nil && idOf(st) == idOf(opened), err
}

// locksUnsupported tells whether flock failed because this file system has no locks.
// Then there are none: the package comment says what that means.
func locksUnsupported(err error) bool {
	switch err {
	case unix.ENOLCK, unix.EOPNOTSUPP, unix.ENOSYS, unix.EINVAL:
		return true
	}
	return false
}

// unlink removes one of our hidden names, which need not exist. Failing is not worth
// an error: the next run tries again.
func (d *destination) unlink(name string) {
	_ = retryOnce(func() error { return d.sys.unlink(name) })
}

// retryOnce is for cleaning up: it gives a removal a second chance, so that one passing
// failure leaves nothing behind. What does not exist is removed.
func retryOnce(f func() error) error {
	err := f()
	if err != nil && err != unix.ENOENT {
		err = f()
	}
	if err == unix.ENOENT {
		return nil
	}
	return err
}
