package target

import (
	"slices"

	"golang.org/x/sys/unix"
)

// dirMode is that of the directories created: what is in them is the memory of
// processes.
const dirMode = 0o700

// dir is a destination that is a directory. The package comment says how it is replaced.
type dir struct {
	destination
	given    string // Path as the user named it
	required string
	belongs  func(name string) bool
}

func newDir(spec Spec, required string, belongs func(name string) bool, sys *system) *dir {
	d := &dir{
		destination: destination{sys: sys, spec: spec.trimmed(), names: spec.DirNames(), fd: -1},
		given:       spec.Path, required: required, belongs: belongs,
	}
	d.steps = d
	return d
}

func openDir(spec Spec, required string, belongs func(name string) bool, sys *system) (*dir, error) {
	d := newDir(spec, required, belongs, sys)
	if err := d.refuse(); err != nil {
		return nil, err
	}
	if err := d.createHidden(d.names.Write, d.create, d.removeStale); err != nil {
		return nil, err
	}
	return d, nil
}

func (d *dir) begin() error     { return nil }
func (d *dir) disposable() bool { return true }

// remove removes our own directory.
func (d *dir) remove(name string) error { return d.clear(d.fd, name) }

// commit puts the directory in place.
func (d *dir) commit() error {
	if d.spec.Sync {
		if err := d.sys.syncFiles(d.fd); err != nil {
			return fail(OpSync, d.names.Write, err)
		}
	}
	parent, err := d.openParent()
	if err != nil {
		return err
	}
	if parent >= 0 {
		defer d.sys.close(parent)
	}
	return d.replace(parent)
}

// syncFiles makes sure that all files of the directory open as fd are on disk, and the
// directory itself. What cannot be synced (EINVAL) need not be.
func (s *system) syncFiles(fd int) error {
	names, err := s.entries(fd)
	if err != nil {
		return err
	}
	for _, name := range names {
		file, err := s.openat(fd, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK)
		switch err {
		case nil:
		case unix.ELOOP, unix.ENXIO: // no file
			continue
		default:
			return err
		}
		err = s.fsync(file)
		s.close(file)
		if err != nil && err != unix.EINVAL {
			return err
		}
	}
	if err := s.fsync(fd); err != nil && err != unix.EINVAL {
		return err
	}
	return nil
}

// content is what is at a name, as far as it matters.
type content int

const (
	nothing content = iota
	emptyDir
	imageDir // a directory that may be replaced, with all that is in it
)

// look tells what is at path. The error says why it is nothing to be replaced.
func (d *dir) look(path string) (content, error) {
	st, err := d.sys.lstat(path)
	switch {
	case err == unix.ENOENT:
		return nothing, nil
	case err != nil:
		return nothing, err
	case fileType(st) != unix.S_IFDIR:
		return nothing, unix.ENOTDIR
	}
	fd, err := d.openDir(path)
	if err != nil {
		return nothing, err
	}
	defer d.sys.close(fd)
	names, err := d.ownEntries(fd)
	if err != nil {
		return nothing, err
	}
	switch {
	case len(names) == 0:
		return emptyDir, nil
	case slices.Contains(names, d.required):
		return imageDir, nil
	}
	return nothing, unix.ENOTEMPTY
}

// openDir opens a directory, and not what a symbolic link leads to.
func (d *dir) openDir(path string) (int, error) {
	return d.sys.open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
}

// ownEntries returns the names of the files in a directory, all of which belong into it,
// or ENOTEMPTY.
func (d *dir) ownEntries(fd int) ([]string, error) {
	names, err := d.sys.entries(fd)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		st, err := d.sys.fstatat(fd, name)
		if err == unix.ENOENT { // removed meanwhile
			continue
		}
		if err != nil {
			return nil, err
		}
		if !d.belongs(name) || fileType(st) == unix.S_IFDIR {
			return nil, unix.ENOTEMPTY
		}
	}
	return names, nil
}

// refuse looks for what would make the rename at the end fail, or do harm, before
// anything is created and any process is checkpointed.
func (d *dir) refuse() error {
	path := d.spec.Path
	if errno := renameRefusal(path); errno != 0 {
		return fail(OpOpen, d.given, errno)
	}
	if fixed(path, d.names.Dir) {
		return failRename(d.names.Write, path, unix.EPERM)
	}
	if d.spec.Policy == NoClobber {
		switch _, err := d.sys.lstat(path); err {
		case unix.ENOENT:
			return nil
		case nil:
			return fail(OpOpen, d.given, unix.EEXIST)
		default:
			return fail(OpOpen, d.given, err)
		}
	}
	there, err := d.look(path)
	if err == nil && there != nothing {
		// It will have to be emptied, or moved.
		err = d.sys.access(path, unix.W_OK|unix.X_OK)
	}
	if err != nil {
		return fail(OpOpen, d.given, err)
	}
	if there == imageDir && d.spec.Policy == Backup && d.spec.BackupNamed {
		if _, err := d.look(d.spec.BackupName); err != nil {
			return failRename(d.given, d.spec.BackupName, err)
		}
		if errno := renameRefusal(d.spec.BackupName); errno != 0 {
			return failRename(d.given, d.spec.BackupName, errno)
		}
	}
	return nil
}

// create makes the hidden directory, and opens it.
func (d *dir) create() (int, error) {
	temp := d.names.Write
	if err := d.sys.mkdir(temp, dirMode); err != nil {
		return -1, err
	}
	fd, err := d.openDir(temp)
	if err == unix.ENOENT {
		return -1, unix.EEXIST // another run took it for a stale one; try again
	}
	if err != nil {
		_ = d.sys.rmdir(temp)
	}
	return fd, err
}

// removeStale removes a directory that has one of our hidden names, with all its files:
// what a run that was killed has left, or what was replaced. EBUSY if one is still
// filling it, EEXIST for anything that is no directory of ours, ENOTEMPTY if something
// is in it that does not belong there: then nothing is removed.
func (d *dir) removeStale(name string) error {
	st, err := d.sys.lstat(name)
	switch {
	case err == unix.ENOENT:
		return nil
	case err != nil:
		return err
	case fileType(st) != unix.S_IFDIR || int(st.Uid) != unix.Geteuid():
		return unix.EEXIST
	}
	fd, err := d.openDir(name)
	switch err {
	case nil:
	case unix.ENOENT:
		return nil
	case unix.ELOOP, unix.ENOTDIR: // no longer a directory
		return unix.EEXIST
	default:
		return err
	}
	defer d.sys.close(fd) // which unlocks, not before it is gone
	if same, err := d.lockStale(fd, name); !same || err != nil {
		return err
	}
	if _, err := d.ownEntries(fd); err != nil {
		return err
	}
	return d.clear(fd, name)
}

// clear removes the files that belong into the directory open as fd, and then the
// directory itself, which is at name. It goes by the descriptor, so that no exchange of
// names leads it elsewhere. A process that adds files meanwhile finds at some time that
// there is no directory any more. ENOTEMPTY if there is something else in it.
func (d *dir) clear(fd int, name string) error {
	var err error
	for range 100 * tries {
		var names []string
		if names, err = d.sys.entries(fd); err != nil {
			return err
		}
		for _, file := range names {
			if !d.belongs(file) {
				err = unix.ENOTEMPTY
			} else if e := retryOnce(func() error { return d.sys.unlinkat(fd, file) }); e != nil {
				return e
			}
		}
		if err != nil {
			return err
		}
		if err = retryOnce(func() error { return d.sys.rmdir(name) }); err != unix.ENOTEMPTY && err != unix.EEXIST {
			return err
		}
	}
	return err
}

// undoing is a list of steps back, of which the last is taken first.
type undoing []func() error

// back takes the steps back after err, which it returns.
func (d *dir) back(undo undoing, err error) error {
	for _, step := range slices.Backward(undo) {
		if retryOnce(step) != nil {
			// What is at Path, complete as it is, must not be removed.
			d.name = ""
			break
		}
	}
	return err
}

// replace puts our directory in the old one's place.
func (d *dir) replace(parent int) error {
	temp, path := d.names.Write, d.spec.Path
	switch ours, err := d.isAt(temp); {
	case err != nil:
		return failRename(temp, path, err)
	case !ours:
		return failRename(temp, path, unix.EBUSY)
	}
	var undo undoing
	from := temp // where the old one will be
	there, err := d.look(path)
	switch {
	case err == nil && there == nothing:
		if err := d.moveNew(path); err != nil {
			return failRename(temp, path, err)
		}
		undo = append(undo, func() error { return d.rename(path, temp) })
	case d.spec.Policy == NoClobber:
		return failRename(temp, path, unix.EEXIST)
	case err != nil:
		return failRename(temp, path, err)
	default:
		// What is replaced ends up as the backup, or under our hidden name.
		if d.spec.Policy == Backup && there == imageDir {
			if undo, err = d.toBackup(); err != nil {
				return err
			}
		}
		from = d.name
		if err := d.exchange(from, path); err != nil {
			return d.back(undo, failRename(temp, path, err))
		}
		undo = append(undo, func() error { return d.exchange(path, from) })
	}
	if d.holdsOthers(temp) {
		return d.back(undo, failRename(temp, path, unix.ENOTEMPTY))
	}
	sync := func() error {
		err := d.syncParent(parent)
		if err == nil && dirname(from) != d.names.Dir {
			err = d.syncDirOf(from, parent)
		}
		return err
	}
	if err := sync(); err != nil {
		err = d.back(undo, err)
		// Ours is removed now. It must not be at Path on the disk meanwhile.
		_ = sync()
		return err
	}
	d.name = ""
	_ = d.removeStale(temp) // failing is not worth an error: the next run tries again
	return nil
}

// holdsOthers tells whether what was replaced, and is at temp now, has something in it
// that does not belong there: a process may have put it there at the last moment.
func (d *dir) holdsOthers(temp string) bool {
	fd, err := d.openDir(temp)
	if err != nil {
		return false
	}
	defer d.sys.close(fd)
	_, err = d.ownEntries(fd)
	return err == unix.ENOTEMPTY
}

// toBackup moves our directory to where the old one will be kept. It returns how to undo
// that. Files have file.backup.
func (d *dir) toBackup() (undoing, error) {
	temp, path := d.names.Write, d.spec.Path
	if !d.spec.BackupNamed {
		var name string
		for n := 1; n <= maxBackupNumber; n++ {
			name = backupName(path, n)
			switch err := d.moveNew(name); err {
			case nil:
				return undoing{func() error { return d.rename(name, temp) }}, nil
			case unix.EEXIST:
			default:
				return nil, failRename(path, name, err)
			}
		}
		return nil, failRename(path, name, unix.ERANGE)
	}
	name := d.spec.BackupName
	if same, err := d.same(path, name); same || err != nil {
		// It is its own backup, which is none.
		return nil, err
	}
	there, err := d.look(name)
	switch {
	case err != nil:
	case there == nothing:
		if err = d.moveNew(name); err == nil {
			return undoing{func() error { return d.rename(name, temp) }}, nil
		}
	default:
		if err = d.exchange(temp, name); err == nil {
			return undoing{func() error { return d.exchange(name, temp) }}, nil
		}
	}
	return nil, failRename(path, name, err)
}

// same tells whether two names are one directory.
func (d *dir) same(path, name string) (bool, error) {
	a, err := d.sys.lstat(path)
	if err != nil {
		return false, failRename(path, name, err)
	}
	b, err := d.sys.lstat(name)
	return err == nil && idOf(a) == idOf(b), nil
}

// rename moves our directory.
func (d *dir) rename(from, to string) error {
	err := d.sys.rename(from, to)
	if err == nil {
		d.name = to
	}
	return err
}

// moveNew moves our directory to a name that must not exist: EEXIST.
func (d *dir) moveNew(to string) error {
	err := d.sys.renameat2(d.name, to, unix.RENAME_NOREPLACE)
	if flagsUnsupported(err) {
		if _, err = d.sys.lstat(to); err == unix.ENOENT {
			return d.rename(d.name, to)
		} else if err == nil {
			err = unix.EEXIST
		}
	}
	if err == nil {
		d.name = to
	}
	return err
}

// exchange exchanges two directories, the first of which is ours. Where that cannot be
// done at once, the second is nowhere for a moment.
func (d *dir) exchange(ours, other string) error {
	err := d.sys.renameat2(ours, other, unix.RENAME_EXCHANGE)
	if err == nil {
		d.name = other
	}
	if !flagsUnsupported(err) {
		return err
	}
	spare := d.spec.spareName()
	if err := d.removeStale(spare); err != nil {
		return err
	}
	if err := d.sys.rename(other, spare); err != nil {
		return err
	}
	if err := d.rename(ours, other); err != nil {
		_ = retryOnce(func() error { return d.sys.rename(spare, other) })
		return err
	}
	if err := retryOnce(func() error { return d.sys.rename(spare, ours) }); err != nil {
		if d.rename(other, ours) == nil {
			_ = retryOnce(func() error { return d.sys.rename(spare, other) })
		}
		return err
	}
	return nil
}

// flagsUnsupported tells whether renameat2 failed because this file system, or this
// kernel, has plain renames only.
func flagsUnsupported(err error) bool {
	return err == unix.EINVAL || err == unix.ENOSYS || err == unix.EOPNOTSUPP
}
