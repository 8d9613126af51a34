package target

import (
	"golang.org/x/sys/unix"
)

// maxBackupNumber is the highest number in the name of a backup, as in BLCR.
const maxBackupNumber = 1 << 16

// commit puts the file in place.
func (f *file) commit() error {
	if err := f.syncContent(); err != nil || f.borrowed {
		return err
	}
	parent, err := f.openParent()
	if err != nil {
		return err
	}
	if parent >= 0 {
		defer f.sys.close(parent)
	}
	if f.names.Rename == "" {
		return f.syncParent(parent)
	}
	return f.replace(parent)
}

// syncContent makes sure that the content has arrived: on disk with Sync, and otherwise
// at least where a file system that writes late, such as NFS, finds out that the quota is
// exceeded. That it tells to any close of the file, so a duplicate will do, and the lock
// is kept.
func (f *file) syncContent() error {
	if f.spec.Sync {
		if err := f.sys.fsync(f.fd); err != nil && err != unix.EINVAL {
			return fail(OpSync, f.names.Write, err)
		}
		return nil
	}
	if f.kind != unix.S_IFREG {
		return nil
	}
	dup, err := f.sys.dup(f.fd)
	if err != nil {
		return nil // says nothing about the file
	}
	if err := f.sys.close(dup); err != nil && err != unix.EINTR {
		return fail(OpWrite, f.names.Write, err)
	}
	return nil
}

// replace puts the new context in the old one's place.
func (f *file) replace(parent int) error {
	if !f.putBack() {
		f.unlink(f.spec.spareName()) // left by a run that was killed
	}
	old, err := f.keepOld()
	if err != nil {
		return err
	}
	if err := f.syncBackup(old, parent); err != nil {
		f.restore(old)
		return err
	}
	if err := f.moveTo(f.spec.Path); err != nil {
		f.restore(old)
		return failRename(f.names.Write, f.spec.Path, err)
	}
	if err := f.syncParent(parent); err != nil {
		f.restore(old)
		return err
	}
	if old.spare {
		f.unlink(old.name)
	}
	f.prune()
	return nil
}

// syncBackup makes sure that the backup's name is on disk before that of the old context
// leads to the new one. The spare name is for failures only, not for a loss of power.
func (f *file) syncBackup(old kept, parent int) error {
	if parent < 0 || old.name == "" || old.spare {
		return nil
	}
	if err := f.syncDirOf(old.name, parent); err != nil {
		return err
	}
	if old.moved && dirname(old.name) != f.names.Dir {
		return f.syncParent(parent)
	}
	return nil
}

// kept says where the old context is besides at Path.
type kept struct {
	name     string // "" if nowhere
	none     bool   // there was nothing at Path
	spare    bool   // name is a hidden one, to go when all is done
	replaced bool   // name existed before, with other content
	moved    bool   // it is not at Path any more
}

// keepOld gives the old context a second name: the backup, or with Sync a spare one, to
// have it back if the directory cannot be synced. The backup must succeed, the spare need
// not: without it, it takes two failures to lose the old context, and then the new one is
// in its place.
func (f *file) keepOld() (kept, error) {
	path := f.spec.Path
	if f.spec.Policy == Backup {
		// Following a symbolic link, like BLCR: one that leads nowhere has no
		// content to keep.
		if _, err := f.sys.stat(path); err != unix.ENOENT {
			k, err := f.backup()
			if err != nil || k.name != "" {
				return k, err
			}
		}
	}
	if !f.spec.Sync {
		return kept{}, nil
	}
	spare := f.spec.spareName()
	switch err := f.sys.link(path, spare); {
	case err == nil:
		return kept{name: spare, spare: true}, nil
	case err == unix.ENOENT:
		return kept{none: true}, nil
	case linksUnsupported(err):
		return f.setAside(spare), nil
	}
	return kept{}, nil
}

// setAside gives the old context the spare name where it cannot have two. The new one goes
// there first, so that they can be exchanged in one step. Where that cannot be done either,
// the old one is moved away, and its name leads nowhere until the new one is moved there.
func (f *file) setAside(spare string) kept {
	temp, path := f.name, f.spec.Path
	// A directory is never replaced. That the new one is gone moveTo will tell.
	if st, err := f.sys.lstat(path); err != nil || fileType(st) == unix.S_IFDIR || f.moveTo(spare) != nil {
		return kept{none: err == unix.ENOENT}
	}
	err := f.sys.renameat2(spare, path, unix.RENAME_EXCHANGE)
	if err == nil {
		f.name = path
		return kept{name: spare, spare: true}
	}
	if f.moveTo(temp) != nil || !flagsUnsupported(err) || f.sys.rename(path, spare) != nil {
		return kept{}
	}
	return kept{name: spare, spare: true, moved: true}
}

// putBack gives the old context its name again if a run was killed while that led nowhere,
// and tells whether it did.
func (f *file) putBack() bool {
	spare := f.spec.spareName()
	if _, err := f.sys.lstat(f.spec.Path); err != unix.ENOENT {
		return false
	}
	st, err := f.sys.lstat(spare)
	return err == nil && fileType(st) == unix.S_IFREG && f.sys.rename(spare, f.spec.Path) == nil
}

// backup keeps the old context under the backup's name. It keeps nothing if that name,
// however spelled, is the old context already. Directories have toBackup.
func (f *file) backup() (kept, error) {
	if f.spec.BackupNamed {
		return f.namedBackup()
	}
	path := f.spec.Path
	first, last, made, err := f.nextBackup()
	if err != nil {
		return kept{}, err
	}
	if made != "" {
		return kept{name: made, replaced: true}, nil
	}
	var name string
	for n := first; n <= last; n++ {
		name = backupName(path, n)
		moved, err := f.linkOrMove(name)
		if err == nil {
			return kept{name: name, moved: moved}, nil
		}
		if err != unix.EEXIST {
			return kept{}, failRename(path, name, err)
		}
	}
	return kept{}, failRename(path, name, unix.ERANGE)
}

func (f *file) namedBackup() (kept, error) {
	path, name := f.spec.Path, f.spec.BackupName
	k := kept{name: name}
	var err error
	k.moved, err = f.linkOrMove(name)
	if err == unix.EEXIST {
		k.replaced = true
		var same bool
		if same, err = f.sameFile(path, name); same {
			return kept{}, nil
		}
		if err == nil {
			k.moved, err = f.replaceBackup(name)
		}
	}
	if err != nil {
		return kept{}, failRename(path, name, err)
	}
	return k, nil
}

// sameFile tells whether two names are one file. Renaming one to the other would do
// nothing then.
func (f *file) sameFile(a, b string) (bool, error) {
	sta, err := f.sys.lstat(a)
	if err != nil {
		return false, err
	}
	stb, err := f.sys.lstat(b)
	return err == nil && idOf(sta) == idOf(stb), err
}

// linkOrMove gives Path the further name name, which must not exist (EEXIST), or where
// that cannot be, moves it there.
func (f *file) linkOrMove(name string) (moved bool, err error) {
	err = f.sys.link(f.spec.Path, name)
	if !linksUnsupported(err) {
		return false, err
	}
	switch _, err := f.sys.lstat(name); err {
	case nil:
		return false, unix.EEXIST
	case unix.ENOENT:
		return true, f.sys.rename(f.spec.Path, name)
	default:
		return false, err
	}
}

// replaceBackup is linkOrMove for a name that exists. Path always exists meanwhile, if it
// is not moved, and so does the former backup until the new one is there.
func (f *file) replaceBackup(name string) (moved bool, err error) {
	private := f.spec.privateName()
	f.unlink(private) // left by a run that was killed
	err = f.sys.link(f.spec.Path, private)
	if linksUnsupported(err) {
		return true, f.sys.rename(f.spec.Path, name)
	}
	if err != nil {
		return false, err
	}
	if err = f.sys.rename(private, name); err != nil {
		f.unlink(private)
	}
	return false, err
}

// linksUnsupported tells whether link failed because this file cannot have one more
// name: for the file system, for its type (directories: EPERM), or for its owner
// (protected_hardlinks: EPERM).
func linksUnsupported(err error) bool {
	switch err {
	case unix.EPERM, unix.EOPNOTSUPP, unix.ENOSYS, unix.EMLINK:
		return true
	}
	return false
}

// restore is the way back, before our file was moved to Path or after. What keepOld kept
// is at Path again, and its second name is gone; only a backup that replaced another
// remains if there was no move.
func (f *file) restore(old kept) {
	path := f.spec.Path
	moved := f.name == path
	if moved && !old.none {
		// Either it is replaced now or it must stay, for want of the old one. In no
		// case is discard to remove it.
		f.name = ""
		if ours, err := f.isAt(path); err != nil || !ours {
			return // a later run's
		}
	}
	if old.name == "" {
		return
	}
	// Before the move they are two names of one file, unless that was moved itself. A file
	// system that could not rename ours need not be asked to rename again.
	if (moved || old.moved) && retryOnce(func() error { return f.sys.rename(old.name, path) }) != nil {
		return
	}
	if !old.replaced {
		f.unlink(old.name)
	}
}
