package target

import (
	"errors"

	"golang.org/x/sys/unix"
)

// openClobber opens Path for writing in place, without touching its content.
// Like BLCR it asks access(2) first. That decides between the three cases; if
// the name changes between question and answer, it is asked again.
func (t *Target) openClobber() error {
	var err error
	for range tries {
		switch t.sys.access(t.spec.Path, unix.W_OK) {
		case nil:
			err = t.openExisting()
		case unix.ENOENT:
			err = t.create(t.spec.Path)
			if errors.Is(err, unix.EEXIST) { // a dangling symbolic link, or new
				err = t.openExisting()
			}
		default:
			return t.openReplacement()
		}
		if !errors.Is(err, unix.ENOENT) {
			break
		}
	}
	return err
}

// openExisting opens what is at Path. If that is a symbolic link, it must be
// one that we or root made.
func (t *Target) openExisting() error {
	path := t.spec.Path
	fd, err := t.sys.open(path, writeFlags|unix.O_NOFOLLOW, 0)
	if err == unix.ELOOP {
		return t.openLink()
	}
	if err != nil {
		return fail(OpOpen, path, err)
	}
	return t.adopt(fd, path)
}

// openLink follows the symbolic link at Path, if it can be trusted: a link
// that another user put there could make us overwrite any file of ours. (Where
// he may also exchange it between our two looks, in a directory like /tmp, the
// kernel's protected_symlinks watches.)
func (t *Target) openLink() error {
	path := t.spec.Path
	st, err := t.sys.lstat(path)
	if err != nil {
		return fail(OpOpen, path, err)
	}
	if owner := int(st.Uid); fileType(st) == unix.S_IFLNK && owner != 0 && owner != unix.Geteuid() {
		return fail(OpOpen, path, unix.ELOOP)
	}
	fd, err := t.sys.open(path, writeFlags, 0)
	if err == unix.ENOENT {
		fd, err = t.sys.open(path, writeFlags|unix.O_CREAT, mode)
		t.created = err == nil
	}
	if err != nil {
		return fail(OpOpen, path, err)
	}
	// The file to remove and the directory to sync are those behind the link.
	// If the kernel will not name them, the file stays.
	name, err := t.sys.fdName(fd)
	if err == nil {
		t.names.Dir = dirname(name)
	}
	return t.adopt(fd, name)
}

// openReplacement is for a target that may not be written, which any context
// of ours is to everybody but root. BLCR unlinked it here, before it knew
// whether there would be a checkpoint. We put the new file beside it, and let
// Begin replace it.
func (t *Target) openReplacement() error {
	path := t.spec.Path
	if st, err := t.sys.lstat(path); err == nil {
		switch fileType(st) {
		case unix.S_IFDIR:
			err := t.changeable()
			if err == nil {
				err = unix.EISDIR
			}
			return fail(OpRemove, path, err)
		case unix.S_IFBLK, unix.S_IFCHR:
			return fail(OpType, path, unix.EINVAL)
		}
	}
	err := t.createTemp()
	if err == nil {
		t.pending = true
		return nil
	}
	switch e := errno(err); e {
	case unix.EACCES, unix.EPERM, unix.EROFS, unix.ENOTDIR, unix.ENAMETOOLONG, unix.ELOOP:
		return fail(OpRemove, path, e) // what unlink would have said
	}
	return err
}
