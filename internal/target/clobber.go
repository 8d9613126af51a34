package target

import (
	"errors"

	"golang.org/x/sys/unix"
)

// openClobber opens Path for writing in place, without touching its content. Like BLCR
// it asks access(2) first. That decides between the three cases; if the name changes
// between question and answer, it asks again.
func (f *file) openClobber() error {
	var err error
	for range tries {
		switch f.sys.access(f.spec.Path, unix.W_OK) {
		case nil:
			err = f.openExisting()
		case unix.ENOENT:
			err = f.create(f.spec.Path)
			if errors.Is(err, unix.EEXIST) { // a dangling symbolic link, or new
				err = f.openExisting()
			}
		default:
			return f.openReplacement()
		}
		if !errors.Is(err, unix.ENOENT) {
			break
		}
	}
	return err
}

// openExisting opens what is at Path. If that is a symbolic link, it must be one that we
// or root made.
func (f *file) openExisting() error {
	path := f.spec.Path
	fd, err := f.sys.open(path, writeFlags|unix.O_NOFOLLOW, 0)
	if err == unix.ELOOP {
		return f.openLink()
	}
	if err != nil {
		return fail(OpOpen, path, err)
	}
	return f.adopt(fd, path)
}

// openLink follows the symbolic link at Path, if it can be trusted: a link that another
// user put there could make us overwrite any file of ours. (Where that user may also
// exchange it between our two looks, in a directory like /tmp, the kernel's
// protected_symlinks prevents that.)
func (f *file) openLink() error {
	path := f.spec.Path
	st, err := f.sys.lstat(path)
	if err != nil {
		return fail(OpOpen, path, err)
	}
	if owner := int(st.Uid); fileType(st) == unix.S_IFLNK && owner != 0 && owner != unix.Geteuid() {
		return fail(OpOpen, path, unix.ELOOP)
	}
	fd, err := f.sys.open(path, writeFlags, 0)
	if err == unix.ENOENT {
		fd, err = f.sys.open(path, writeFlags|unix.O_CREAT, fileMode)
		f.created = err == nil
	}
	if err != nil {
		return fail(OpOpen, path, err)
	}
	// The file to remove and the directory to sync are those behind the link. If the
	// kernel does not name them, the file stays.
	name, err := f.sys.fdName(fd)
	if err == nil {
		f.names.Dir = dirname(name)
	}
	return f.adopt(fd, name)
}

// openReplacement is for a target that may not be written, which any context of ours is
// to everybody but root. BLCR unlinked it here, before it knew whether there would be a
// checkpoint. We put the new file beside it, and let Begin replace it.
func (f *file) openReplacement() error {
	path := f.spec.Path
	if st, err := f.sys.lstat(path); err == nil {
		switch fileType(st) {
		case unix.S_IFDIR:
			return f.refuseRemove()
		case unix.S_IFBLK, unix.S_IFCHR:
			return fail(OpType, path, unix.EINVAL)
		}
	}
	err := f.createTemp()
	if err == nil {
		f.pending = true
		return nil
	}
	switch e := errno(err); e {
	case unix.EACCES, unix.EPERM, unix.EROFS, unix.ENOTDIR, unix.ENAMETOOLONG, unix.ELOOP:
		return fail(OpRemove, path, e) // what unlink would have said
	}
	return err
}

// refuseRemove fails as unlink(2) does with a directory: a name that no file can have is
// refused before anything is looked at. See fs/namei.c, do_unlinkat.
func (f *file) refuseRemove() error {
	err := error(unix.EISDIR)
	if renameRefusal(f.spec.Path) == 0 {
		if unchangeable := f.changeable(); unchangeable != nil {
			err = unchangeable
		}
	}
	return fail(OpRemove, f.spec.Path, err)
}
