package target

import (
	"context"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// writeFlags are BLCR's, but for O_TRUNC: Begin does that.
	writeFlags = unix.O_WRONLY | unix.O_NOCTTY | unix.O_NONBLOCK | unix.O_LARGEFILE
	// newFlags create a file or fail with EEXIST. O_EXCL follows no symbolic
	// link; O_NOFOLLOW says it to the reader.
	newFlags = writeFlags | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW

	// mode is that of every file created, less the umask.
	mode = 0o400

	// tries is how often Open starts again when others create and remove the
	// same names under its hands.
	tries = 4
)

// Open prepares the target: on success nothing has happened yet to a file that
// is there already, and FD is open for writing. On failure nothing is left
// behind. Errors, all *Error:
//
//   - OpOpen, OpFstat, OpType, OpIsDir as described there;
//   - OpRename, with Atomic and Backup, if the rename at the end cannot
//     succeed because Path is a directory or can only be one;
//   - OpRemove, with Clobber, if the file may neither be written nor replaced.
//
// Cancelling ctx ends the wait for a file system that does not answer, with
// OpOpen and ECANCELED. What is opened or created in the end is given up then.
//
// The caller owns the Target and must call Commit or Abort.
func Open(ctx context.Context, spec Spec) (*Target, error) {
	return interruptible(ctx, spec, func() (*Target, error) { return open(spec, &system{}) })
}

// patience is how long a cancelled open is waited for, so that it usually has
// cleaned up before the program ends.
const patience = time.Second

// interruptible returns what open returns, or ECANCELED if ctx is cancelled
// meanwhile. A destination that is opened too late is aborted.
//
// The open itself goes on in its goroutine: the kernel gives no way to interrupt
// it that all file systems heed.
func interruptible[D Destination](ctx context.Context, spec Spec, open func() (D, error)) (D, error) {
	if ctx.Done() == nil {
		return open()
	}
	type result struct {
		dest D
		err  error
	}
	opened := make(chan result, 1)
	go func() {
		dest, err := open()
		opened <- result{dest, err}
	}()
	select {
	case r := <-opened:
		return r.dest, r.err
	case <-ctx.Done():
	}
	abandoned := make(chan struct{})
	go func() {
		defer close(abandoned)
		if r := <-opened; r.err == nil {
			_ = r.dest.Abort()
		}
	}()
	select {
	case <-abandoned:
	case <-time.After(patience):
	}
	var none D
	return none, fail(OpOpen, spec.Path, unix.ECANCELED)
}

func open(spec Spec, sys *system) (*Target, error) {
	t := &Target{sys: sys, spec: spec, names: spec.Names(), fd: -1}
	var err error
	switch spec.Policy {
	case Atomic, Backup:
		if err = t.refuse(); err == nil {
			err = t.createTemp()
		}
	case Clobber:
		err = t.openClobber()
	case NoClobber:
		err = t.create(spec.Path)
	default:
		err = fail(OpOpen, spec.Path, unix.EINVAL)
	}
	if err != nil {
		return nil, err
	}
	return t, nil
}

// refuse looks for what would make the rename at the end fail, or do harm,
// before anything is created and anybody is checkpointed. Not being able to
// look is no reason to refuse.
func (t *Target) refuse() error {
	path := t.spec.Path
	if errno := renameRefusal(path); errno != 0 {
		return t.refuseRename(errno)
	}
	st, err := t.sys.lstat(path)
	if err != nil {
		return nil
	}
	switch fileType(st) {
	case unix.S_IFDIR:
		if t.spec.Policy == Atomic { // Backup moves it out of the way
			return t.refuseRename(unix.EISDIR)
		}
	case unix.S_IFBLK, unix.S_IFCHR:
		return fail(OpType, path, unix.EINVAL)
	case unix.S_IFLNK:
		// A link to a file, or to nothing, is replaced. One like /dev/stdout
		// is not meant to be.
		st, err := t.sys.stat(path)
		if err == nil && fileType(st) != unix.S_IFREG && fileType(st) != unix.S_IFDIR {
			return fail(OpType, path, unix.EINVAL)
		}
	}
	return nil
}

// refuseRename fails as the rename would, unless the file to rename could not
// even have been created: that comes first, as it did in BLCR.
func (t *Target) refuseRename(errno unix.Errno) error {
	if err := t.changeable(); err != nil {
		return fail(OpOpen, t.names.Write, err)
	}
	return failRename(t.names.Write, t.spec.Path, errno)
}

// changeable returns nil if names in the target's directory may be changed.
func (t *Target) changeable() error {
	return t.sys.access(t.names.Dir, unix.W_OK|unix.X_OK)
}

// renameRefusal is the error with which rename(2) answers a path that no file
// can have, or 0. See fs/namei.c, do_renameat2.
func renameRefusal(path string) unix.Errno {
	trimmed := strings.TrimRight(path, "/")
	last := trimmed[strings.LastIndexByte(trimmed, '/')+1:]
	switch {
	case path == "":
		return unix.ENOENT
	case last == "", last == ".", last == "..":
		return unix.EBUSY
	case trimmed != path:
		return unix.ENOTDIR
	}
	return 0
}

// create creates name and makes it our file. EEXIST if there is one.
func (t *Target) create(name string) error {
	fd, err := t.sys.open(name, newFlags, mode)
	if err != nil {
		return fail(OpOpen, name, err)
	}
	t.created = true
	return t.adopt(fd, name)
}

// adopt makes an open file ours, if it is of a kind to write a context to.
// Otherwise it is closed, and removed if we created it.
func (t *Target) adopt(fd int, name string) error {
	t.fd, t.name = fd, name
	err := t.examine()
	if err != nil {
		_ = t.discard() // the error that led here is the one to report
		t.finish()
	}
	return err
}

func (t *Target) examine() error {
	st, err := t.identify()
	if err != nil {
		return fail(OpFstat, t.spec.Path, err)
	}
	switch fileType(st) {
	case unix.S_IFREG, unix.S_IFIFO, unix.S_IFSOCK:
		return nil
	case unix.S_IFDIR:
		return fail(OpIsDir, t.spec.Path, unix.EISDIR)
	}
	return fail(OpType, t.spec.Path, unix.EINVAL)
}

// The temporary file. Whoever writes one holds an exclusive flock on it, so
// that a temporary without a lock is what a crashed run left. Between creating
// and locking it there is a gap; two rules close it. Nobody unlinks a
// temporary without holding its lock himself and having seen, after that, that
// the name still is this file. And having locked his own, its creator looks
// whether it has a name still.

// createTemp creates and locks the temporary file, removing a stale one.
func (t *Target) createTemp() error {
	temp := t.spec.tempName()
	for range tries {
		fd, err := t.sys.open(temp, newFlags, mode)
		switch err {
		case nil:
			if claimed, err := t.claim(fd, temp); claimed || err != nil {
				return err
			}
		case unix.EEXIST:
			if err := t.removeStale(temp); err != nil {
				return fail(OpOpen, temp, err)
			}
		default:
			return fail(OpOpen, temp, err)
		}
	}
	return fail(OpOpen, temp, unix.EBUSY)
}

// claim locks the temporary just created and makes it our file. It returns
// false if another run took it for a stale one meanwhile.
func (t *Target) claim(fd int, temp string) (bool, error) {
	lockErr := t.sys.flock(fd, unix.LOCK_EX|unix.LOCK_NB)
	if lockErr == unix.EWOULDBLOCK {
		t.sys.close(fd) // he who looks at it will remove it, or we shall
		return false, nil
	}
	t.fd, t.name, t.created = fd, temp, true
	st, err := t.identify()
	switch {
	case err != nil:
		err = fail(OpFstat, temp, err)
	case lockErr != nil && !locksUnsupported(lockErr):
		err = fail(OpOpen, temp, lockErr)
	case st.Nlink == 0:
		// Some FUSE file systems count no links, so the name decides.
		if mine, _ := t.holds(temp); !mine {
			t.sys.close(fd)
			return false, nil
		}
	}
	if err != nil {
		_ = t.discard()
		t.finish()
		return false, err
	}
	return true, nil
}

// removeStale removes what has the temporary's name, whatever it is, never
// following or writing to it. EISDIR if it is a directory, EBUSY if a running
// cr_checkpoint is writing to it. It returns nil also if the name has changed
// meanwhile: the caller tries to create it again anyway.
func (t *Target) removeStale(temp string) error {
	st, err := t.sys.lstat(temp)
	switch {
	case err == unix.ENOENT:
		return nil
	case err != nil:
		return err
	case fileType(st) == unix.S_IFDIR:
		return unix.EISDIR
	case fileType(st) != unix.S_IFREG:
		return t.unlinkStale(temp)
	}

	fd, err := t.sys.open(temp, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	switch err {
	case nil:
	case unix.EACCES, unix.EPERM, unix.ELOOP, unix.ENXIO:
		// Not ours, or no longer a file: nobody like us is writing to it.
		return t.unlinkStale(temp)
	case unix.ENOENT:
		return nil
	default:
		return err
	}
	defer t.sys.close(fd) // which unlocks, not before the unlink

	switch err := t.probe(fd); {
	case err == unix.EWOULDBLOCK:
		return unix.EBUSY
	case err != nil && !locksUnsupported(err):
		return err
	}
	opened, err := t.sys.fstat(fd)
	if err != nil {
		return err
	}
	st, err = t.sys.lstat(temp)
	if err == unix.ENOENT || err == nil && idOf(st) != idOf(opened) {
		return nil
	}
	if err != nil {
		return err
	}
	return t.unlinkStale(temp)
}

// probe locks a file that is open for reading. EWOULDBLOCK if it is locked.
// NFS grants an exclusive lock only for writing, and says EBADF; two runs that
// meet over one stale file there are a risk taken.
func (t *Target) probe(fd int) error {
	err := t.sys.flock(fd, unix.LOCK_EX|unix.LOCK_NB)
	if err == unix.EBADF {
		err = t.sys.flock(fd, unix.LOCK_SH|unix.LOCK_NB)
	}
	return err
}

func (t *Target) unlinkStale(temp string) error {
	if err := t.sys.unlink(temp); err != unix.ENOENT {
		return err
	}
	return nil
}

// locksUnsupported tells whether flock failed because this file system has no
// locks. Then there are none: the package comment says what that means.
func locksUnsupported(err error) bool {
	switch err {
	case unix.ENOLCK, unix.EOPNOTSUPP, unix.ENOSYS, unix.EINVAL:
		return true
	}
	return false
}
