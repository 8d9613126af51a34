package target

import (
	"errors"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// writeFlags are BLCR's, but for O_TRUNC: Begin does that. With O_NONBLOCK the
	// open of a FIFO does not wait for a reader.
	writeFlags = unix.O_WRONLY | unix.O_NOCTTY | unix.O_NONBLOCK | unix.O_LARGEFILE
	// newFlags create a file or fail with EEXIST. O_EXCL follows no symbolic link;
	// O_NOFOLLOW says so to the reader.
	newFlags = writeFlags | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW

	// fileMode is that of every file created, less the umask.
	fileMode = 0o400

	// tries is how often an open starts again when other processes create and
	// remove the same names meanwhile.
	tries = 4
)

// file is a destination that is a file.
type file struct {
	destination
	created bool // openFile made the file: it goes even if nothing was begun
	pending bool // Clobber: the file is still under its hidden name
}

func newFile(spec Spec, sys *system) *file {
	f := &file{destination: destination{sys: sys, spec: spec, names: spec.Names(), fd: -1}}
	f.steps = f
	return f
}

func fromFD(fd int, sync bool, sys *system) *file {
	f := newFile(Spec{Sync: sync}, sys)
	f.names, f.fd, f.borrowed = Names{}, fd, true
	return f
}

func openFile(spec Spec, sys *system) (*file, error) {
	f := newFile(spec, sys)
	var err error
	switch spec.Policy {
	case Atomic, Backup:
		if err = f.refuse(); err == nil {
			err = f.createTemp()
		}
	case Clobber:
		err = f.openClobber()
	case NoClobber:
		err = f.create(spec.Path)
	default:
		err = fail(OpOpen, spec.Path, unix.EINVAL)
	}
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (f *file) begin() error {
	switch {
	case f.pending:
		if err := f.moveTo(f.spec.Path); err != nil {
			return fail(OpRemove, f.spec.Path, err)
		}
	case f.kind == unix.S_IFREG && !f.created:
		if err := f.sys.truncate(f.fd); err != nil {
			return fail(OpOpen, f.spec.Path, err)
		}
	}
	return nil
}

func (f *file) disposable() bool { return (f.created || f.begun) && f.kind == unix.S_IFREG }

func (f *file) remove(name string) error { return f.sys.unlink(name) }

// moveTo renames our file. It fails with ENOENT if the file is no longer where we left
// it, and with EBUSY if another one is there: a process does not respect the lock, and
// what it put there is not a context.
func (f *file) moveTo(path string) error {
	switch ours, err := f.isAt(f.name); {
	case err != nil:
		return err
	case !ours:
		return unix.EBUSY
	}
	if err := f.sys.rename(f.name, path); err != nil {
		return err
	}
	f.name = path
	return nil
}

// refuse looks for what would make the rename at the end fail, or do harm, before
// anything is created and any process is checkpointed. Not being able to look is no
// reason to refuse.
func (f *file) refuse() error {
	path := f.spec.Path
	if errno := renameRefusal(path); errno != 0 {
		return f.refuseRename(errno)
	}
	if fixed(path, f.names.Dir) {
		return f.refuseRename(unix.EPERM)
	}
	if f.spec.Keep > 0 {
		if _, err := f.generations(); errors.Is(err, unix.EACCES) {
			return err // no backup could be numbered
		}
	}
	st, err := f.sys.lstat(path)
	if err != nil {
		return nil
	}
	switch fileType(st) {
	case unix.S_IFDIR:
		if f.spec.Policy == Atomic { // Backup moves it out of the way
			return f.refuseRename(unix.EISDIR)
		}
	case unix.S_IFBLK, unix.S_IFCHR:
		return fail(OpType, path, unix.EINVAL)
	case unix.S_IFLNK:
		// A link to a file, or to nothing, is replaced. One like /dev/stdout is
		// not meant to be.
		st, err := f.sys.stat(path)
		if err == nil && fileType(st) != unix.S_IFREG && fileType(st) != unix.S_IFDIR {
			return fail(OpType, path, unix.EINVAL)
		}
	}
	return nil
}

// refuseRename fails as the rename would, unless the file to rename could not even have
// been created: that comes first, as it did in BLCR.
func (f *file) refuseRename(errno unix.Errno) error {
	if err := f.changeable(); err != nil {
		return fail(OpOpen, f.names.Write, err)
	}
	return failRename(f.names.Write, f.spec.Path, errno)
}

// changeable returns nil if names in the target's directory may be changed.
func (f *file) changeable() error {
	return f.sys.access(f.names.Dir, unix.W_OK|unix.X_OK)
}

// renameRefusal is the error with which rename(2) answers a path that no file can have,
// or 0. See fs/namei.c, do_renameat2.
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
func (f *file) create(name string) error {
	fd, err := f.sys.open(name, newFlags, fileMode)
	if err != nil {
		return fail(OpOpen, name, err)
	}
	f.created = true
	return f.adopt(fd, name)
}

// adopt makes an open file ours, if it is of a kind to write a context to. Otherwise it
// is closed, and removed if we created it.
func (f *file) adopt(fd int, name string) error {
	f.fd, f.name = fd, name
	err := f.examine()
	if err != nil {
		_ = f.discard() // the error that led here is the one to report
		f.finish()
	}
	return err
}

func (f *file) examine() error {
	if _, err := f.identify(); err != nil {
		return fail(OpFstat, f.spec.Path, err)
	}
	switch f.kind {
	case unix.S_IFREG, unix.S_IFIFO, unix.S_IFSOCK:
		return nil
	case unix.S_IFDIR:
		return fail(OpIsDir, f.spec.Path, unix.EISDIR)
	}
	return fail(OpType, f.spec.Path, unix.EINVAL)
}

// createTemp creates and locks the temporary file, removing a stale one.
func (f *file) createTemp() error {
	temp := f.spec.tempName()
	f.created = true
	return f.createHidden(temp, func() (int, error) { return f.sys.open(temp, newFlags, fileMode) }, f.removeStale)
}

// removeStale removes what has the temporary's name, whatever it is, never following or
// writing to it. EISDIR if it is a directory, EBUSY if a running cr_checkpoint is
// writing to it. It returns nil also if the name has changed meanwhile: the caller tries
// to create it again anyway.
func (f *file) removeStale(temp string) error {
	st, err := f.sys.lstat(temp)
	switch {
	case err == unix.ENOENT:
		return nil
	case err != nil:
		return err
	case fileType(st) == unix.S_IFDIR:
		return unix.EISDIR
	case fileType(st) != unix.S_IFREG:
		return f.unlinkStale(temp)
	}
	fd, err := f.sys.open(temp, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	switch err {
	case nil:
	case unix.ENOENT:
		return nil
	case unix.EACCES, unix.EPERM, unix.ELOOP, unix.ENXIO:
		// Another user's, or no longer a file: no run of ours is writing to it.
		return f.unlinkStale(temp)
	default:
		return err
	}
	defer f.sys.close(fd) // which unlocks, not before the unlink
	if same, err := f.lockStale(fd, temp); !same || err != nil {
		return err
	}
	return f.unlinkStale(temp)
}

func (f *file) unlinkStale(temp string) error {
	if err := f.sys.unlink(temp); err != unix.ENOENT {
		return err
	}
	return nil
}
