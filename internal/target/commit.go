package target

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// maxBackups is the highest number that a backup gets, as in BLCR.
const maxBackups = 1 << 16

// Commit makes what was written to FD the context. It closes the descriptor,
// unless that is the caller's, on success and on failure alike.
//
// If it fails, nothing of ours is left: with Atomic and Backup the old context
// is at Path as before (the package comment has the exceptions), with Clobber
// and NoClobber a regular file at Path is removed. One thing does not come
// back: the former content of a backup NAME that was replaced.
//
// Errors, all *Error: OpSync; OpWrite; OpOpenDir; OpSyncDir; OpRename of Path
// to its backup or of Names.Write to Path. An fsync that says EINVAL is
// forgiven for file and directory, EROFS for the directory.
func (t *Target) Commit() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.done {
		return t.canceled()
	}
	err := t.commit()
	if err != nil {
		_ = t.discard() // the error that led here is the one to report
	}
	t.finish()
	return err
}

func (t *Target) commit() error {
	if !t.begun {
		return fail(OpWrite, t.names.Write, unix.EINVAL)
	}
	if err := t.syncFile(); err != nil {
		return err
	}
	if t.foreign {
		return nil
	}
	dir := -1
	if t.spec.Sync {
		// Before the rename, so that failing changes nothing.
		var err error
		dir, err = t.sys.open(t.names.Dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		if err != nil {
			return fail(OpOpenDir, t.names.Dir, err)
		}
		defer t.sys.close(dir)
	}
	if t.names.Rename == "" {
		return t.syncDir(dir)
	}
	return t.replace(dir)
}

// syncFile makes sure that the content has arrived: on disk with Sync, and
// otherwise at least where a file system that writes late, such as NFS, finds
// out that the quota is exceeded. That it tells to any close of the file, so a
// duplicate will do, and the lock is kept.
func (t *Target) syncFile() error {
	if t.spec.Sync {
		if err := t.sys.fsync(t.fd); err != nil && err != unix.EINVAL {
			return fail(OpSync, t.names.Write, err)
		}
		return nil
	}
	if !t.regular {
		return nil
	}
	dup, err := t.sys.dup(t.fd)
	if err != nil {
		return nil // says nothing about the file
	}
	if err := t.sys.close(dup); err != nil && err != unix.EINTR {
		return fail(OpWrite, t.names.Write, err)
	}
	return nil
}

// syncDir syncs the directory open as dir, or does nothing if that is -1.
func (t *Target) syncDir(dir int) error {
	if dir < 0 {
		return nil
	}
	switch err := t.sys.fsync(dir); err {
	case nil, unix.EINVAL, unix.EROFS:
		return nil
	default:
		return fail(OpSyncDir, t.names.Dir, err)
	}
}

// replace puts the new context in the old one's place.
func (t *Target) replace(dir int) error {
	t.unlink(t.spec.spareName()) // left by a run that was killed
	old, err := t.keepOld()
	if err != nil {
		return err
	}
	if err := t.moveTo(t.spec.Path); err != nil {
		t.restore(old)
		return failRename(t.names.Write, t.spec.Path, err)
	}
	if err := t.syncDir(dir); err != nil {
		t.restore(old)
		return err
	}
	if old.spare {
		t.unlink(old.name)
	}
	return nil
}

// kept says where the old context is besides at Path.
type kept struct {
	name     string // "" if nowhere
	none     bool   // there was nothing at Path
	spare    bool   // name is a hidden one, to go when all is done
	replaced bool   // name existed before, with other content
}

// keepOld gives the old context a second name: the backup, or with Sync a
// spare one, to have it back if the directory cannot be synced. The backup must
// succeed, the spare need not: without it, it takes two failures to lose the
// old context, and then the new one is in its place.
func (t *Target) keepOld() (kept, error) {
	path := t.spec.Path
	if t.spec.Policy == Backup {
		// Following a symbolic link, like BLCR: one that leads nowhere
		// has no content to keep.
		if _, err := t.sys.stat(path); err != unix.ENOENT {
			k, err := t.backup()
			if err != nil || k.name != "" {
				return k, err
			}
		}
	}
	if !t.spec.Sync {
		return kept{}, nil
	}
	spare := t.spec.spareName()
	switch t.sys.link(path, spare) {
	case nil:
		return kept{name: spare, spare: true}, nil
	case unix.ENOENT:
		return kept{none: true}, nil
	}
	return kept{}, nil
}

// backup keeps the old context under the backup's name. It keeps nothing if
// that name, however spelled, is the old context already.
func (t *Target) backup() (kept, error) {
	if t.spec.BackupNamed {
		return t.namedBackup()
	}
	path := t.spec.Path
	var name string
	for n := 1; n <= maxBackups; n++ {
		name = fmt.Sprintf("%s.~%d~", path, n)
		err := t.linkOrMove(name)
		if err == nil {
			return kept{name: name}, nil
		}
		if err != unix.EEXIST {
			return kept{}, failRename(path, name, err)
		}
	}
	return kept{}, failRename(path, name, unix.ERANGE)
}

func (t *Target) namedBackup() (kept, error) {
	path, name := t.spec.Path, t.spec.BackupName
	k := kept{name: name}
	err := t.linkOrMove(name)
	if err == unix.EEXIST {
		k.replaced = true
		var same bool
		if same, err = t.sameFile(path, name); same {
			return kept{}, nil
		}
		if err == nil {
			err = t.replaceBackup(name)
		}
	}
	if err != nil {
		return kept{}, failRename(path, name, err)
	}
	return k, nil
}

// sameFile tells whether two names are one file. Renaming one to the other
// would do nothing then.
func (t *Target) sameFile(a, b string) (bool, error) {
	sta, err := t.sys.lstat(a)
	if err != nil {
		return false, err
	}
	stb, err := t.sys.lstat(b)
	return err == nil && idOf(sta) == idOf(stb), err
}

// linkOrMove gives Path the further name name, which must not exist (EEXIST),
// or where that cannot be, moves it there.
func (t *Target) linkOrMove(name string) error {
	err := t.sys.link(t.spec.Path, name)
	if !linksUnsupported(err) {
		return err
	}
	switch _, err := t.sys.lstat(name); err {
	case nil:
		return unix.EEXIST
	case unix.ENOENT:
		return t.sys.rename(t.spec.Path, name)
	default:
		return err
	}
}

// replaceBackup is linkOrMove for a name that exists. Path is never without a
// name meanwhile, and neither is the former backup until the new one is there.
func (t *Target) replaceBackup(name string) error {
	private := t.spec.privateName()
	t.unlink(private) // left by a run that was killed
	err := t.sys.link(t.spec.Path, private)
	if linksUnsupported(err) {
		return t.sys.rename(t.spec.Path, name)
	}
	if err != nil {
		return err
	}
	if err = t.sys.rename(private, name); err != nil {
		t.unlink(private)
	}
	return err
}

// linksUnsupported tells whether link failed because this file cannot have one
// more name: for the file system, for its type (directories: EPERM), or for
// its owner (protected_hardlinks: EPERM).
func linksUnsupported(err error) bool {
	switch err {
	case unix.EPERM, unix.EOPNOTSUPP, unix.ENOSYS, unix.EMLINK:
		return true
	}
	return false
}

// restore is the way back, before our file was moved to Path or after. What
// keepOld kept is at Path again, and its second name is gone; only a backup
// that replaced another remains if there was no move.
func (t *Target) restore(old kept) {
	path := t.spec.Path
	if moved := t.name == path; moved && !old.none {
		// Either it is replaced now or it must stay, for want of the old
		// one. In no case is discard to remove it.
		t.name = ""
		if mine, err := t.holds(path); err != nil || !mine {
			return // a later run's
		}
	}
	if old.name == "" {
		return
	}
	if twice(func() error { return t.sys.rename(old.name, path) }) != nil {
		return
	}
	if !old.replaced {
		// Two names of one file, before the move: rename did nothing.
		t.unlink(old.name)
	}
}
