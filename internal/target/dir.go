package target

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// dirMode is that of the directories created: what is in them is the memory of
// processes.
const dirMode = 0o700

// Dir is an open destination that is a directory: one of files that somebody
// else writes, none of which is a directory itself. It goes through
//
//	OpenDir  →  Begin  →  (somebody fills FD)  →  Commit or Abort
//
// as a Target does, with the same promises. The directory is filled under its
// hidden name DIR/.BASE.tmp and then, by Commit, exchanged with the old one in
// one step. Where the file system cannot do that, the old one is moved out of
// the way, to DIR/.BASE.old for a moment, and for that moment the name does not
// exist.
//
// Directories have one name only, so the old one cannot be linked to its backup
// beforehand. Instead the new one goes to the backup's name first, complete as
// it is, and is exchanged from there. So the backup's name may lead to the new
// one for a moment, and to nothing only where files would have that, too.
//
// What is there already is replaced only if it is an empty directory or one that
// holds nothing but what belongs into such a directory, as OpenDir is told. A
// symbolic link is neither. There is nothing to be written in place, so that
// Clobber is Atomic.
type Dir struct {
	sys      *system
	spec     Spec // its names without slashes at the end
	given    string
	names    Names
	required string
	known    func(name string) bool

	mu    sync.Mutex
	fd    int
	id    fileID
	name  string // where our directory is, "" if discard is to leave it alone
	begun bool
	done  bool
}

// DirNames is Names for OpenDir.
func (s Spec) DirNames() Names {
	s = s.trimmed()
	return Names{Write: s.tempName(), Dir: dirname(s.Path), Rename: s.Path}
}

// trimmed is s without slashes at the end of names, which mean nothing for
// directories.
func (s Spec) trimmed() Spec {
	trim := func(path string) string {
		if trimmed := strings.TrimRight(path, "/"); trimmed != "" {
			return trimmed
		}
		return path
	}
	s.Path, s.BackupName = trim(s.Path), trim(s.BackupName)
	return s
}

// OpenDir prepares the target: on success nothing has happened yet to what is
// there already, and there is a new, empty directory to be filled. On failure
// nothing is left behind.
//
// A directory of which known is true for each file's name may be replaced,
// which removes all of them, if one of them is the file named required.
//
// Errors, all *Error: OpOpen with ENOTDIR for what is no directory, ENOTEMPTY
// for one with something else in it, EEXIST for anything with NoClobber, EBUSY
// if another run is filling the same target or Path ends in "." or "..", EEXIST
// on the hidden name if something has that and is no directory of this user's;
// OpRename if the backup's name is taken by something that is not replaced.
//
// Cancelling ctx is as for Open. The caller owns the Dir and must call Commit or
// Abort.
func OpenDir(ctx context.Context, spec Spec, required string, known func(name string) bool) (*Dir, error) {
	return interruptible(ctx, spec, func() (*Dir, error) { return openDir(spec, required, known, &system{}) })
}

func openDir(spec Spec, required string, known func(name string) bool, sys *system) (*Dir, error) {
	d := &Dir{sys: sys, spec: spec.trimmed(), given: spec.Path, names: spec.DirNames(), required: required, known: known, fd: -1}
	if err := d.refuse(); err != nil {
		return nil, err
	}
	if err := d.create(); err != nil {
		return nil, err
	}
	return d, nil
}

// FD returns the descriptor of the directory to be filled, close-on-exec. It
// belongs to the Dir and is valid until Commit or Abort; after that FD returns
// -1.
func (d *Dir) FD() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.fd
}

// Begin is to be called right before the directory is filled: Commit insists on
// it. The error is OpWrite with ECANCELED: the Dir was aborted.
func (d *Dir) Begin() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.done {
		return fail(OpWrite, d.names.Write, unix.ECANCELED)
	}
	d.begun = true
	return nil
}

// Abort gives up, and removes the directory with what is in it. Abort after
// Commit, or after Abort, does nothing; while a Commit runs it waits for that to
// end. Whoever still fills the directory finds that nothing can be created in it
// any more.
//
// The error is OpDiscard, if the directory could not be removed.
func (d *Dir) Abort() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.done {
		return nil
	}
	defer d.finish()
	if err := d.discard(); err != nil {
		return fail(OpDiscard, d.name, err)
	}
	return nil
}

// Commit gives the directory its name.
//
// If it fails, nothing of ours is left, and what was there is at Path as
// before. Errors, all *Error: OpSync; OpOpenDir; OpSyncDir; OpRename; OpWrite.
func (d *Dir) Commit() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.done {
		return fail(OpWrite, d.names.Write, unix.ECANCELED)
	}
	defer d.finish()
	err := d.commit()
	if err != nil {
		_ = d.discard() // the error that led here is the one to report
	}
	return err
}

func (d *Dir) commit() error {
	if !d.begun {
		return fail(OpWrite, d.names.Write, unix.EINVAL)
	}
	parent := -1
	if d.spec.Sync {
		if err := d.sys.syncFiles(d.fd); err != nil {
			return fail(OpSync, d.names.Write, err)
		}
		// Before the rename, so that failing changes nothing.
		var err error
		parent, err = d.sys.open(d.names.Dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		if err != nil {
			return fail(OpOpenDir, d.names.Dir, err)
		}
		defer d.sys.close(parent)
	}
	return d.replace(parent)
}

// syncFiles makes sure that all files of the directory open as fd are on disk,
// and the directory itself. What cannot be synced (EINVAL) need not be.
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
	knownDir // a directory that may be replaced, with all that is in it
)

// look tells what is at path. The error says why it is nothing to be replaced.
func (d *Dir) look(path string) (content, error) {
	st, err := d.sys.lstat(path)
	switch {
	case err == unix.ENOENT:
		return nothing, nil
	case err != nil:
		return nothing, err
	case fileType(st) != unix.S_IFDIR:
		return nothing, unix.ENOTDIR
	}
	fd, err := d.sys.open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nothing, err
	}
	defer d.sys.close(fd)
	names, err := d.sys.entries(fd)
	if err != nil {
		return nothing, err
	}
	if len(names) == 0 {
		return emptyDir, nil
	}
	if !slices.Contains(names, d.required) {
		return nothing, unix.ENOTEMPTY
	}
	for _, name := range names {
		st, err := d.sys.fstatat(fd, name)
		if err != nil {
			return nothing, err
		}
		if !d.known(name) || fileType(st) == unix.S_IFDIR {
			return nothing, unix.ENOTEMPTY
		}
	}
	return knownDir, nil
}

// refuse looks for what would make the rename at the end fail, or do harm,
// before anything is created and anybody is checkpointed.
func (d *Dir) refuse() error {
	path := d.spec.Path
	if errno := renameRefusal(path); errno != 0 {
		return fail(OpOpen, d.given, errno)
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
	if there == knownDir && d.spec.Policy == Backup && d.spec.BackupNamed {
		if _, err := d.look(d.spec.BackupName); err != nil {
			return failRename(d.given, d.spec.BackupName, err)
		}
		if errno := renameRefusal(d.spec.BackupName); errno != 0 {
			return failRename(d.given, d.spec.BackupName, errno)
		}
	}
	return nil
}

// create creates and locks the hidden directory, removing a stale one. The
// rules are those of temporary files, see open.go.
func (d *Dir) create() error {
	temp := d.names.Write
	for range tries {
		switch err := d.sys.mkdir(temp, dirMode); err {
		case nil:
			if claimed, err := d.claim(temp); claimed || err != nil {
				return err
			}
		case unix.EEXIST:
			if err := d.removeStale(temp); err != nil {
				return fail(OpOpen, temp, err)
			}
		default:
			return fail(OpOpen, temp, err)
		}
	}
	return fail(OpOpen, temp, unix.EBUSY)
}

// claim opens and locks the directory just created. It returns false if another
// run took it for a stale one meanwhile.
func (d *Dir) claim(temp string) (bool, error) {
	fd, err := d.sys.open(temp, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err == unix.ENOENT {
		return false, nil
	}
	if err != nil {
		_ = d.sys.rmdir(temp)
		return false, fail(OpOpen, temp, err)
	}
	lockErr := d.sys.flock(fd, unix.LOCK_EX|unix.LOCK_NB)
	if lockErr == unix.EWOULDBLOCK {
		d.sys.close(fd) // he who looks at it will remove it, or we shall
		return false, nil
	}
	st, err := d.sys.fstat(fd)
	switch {
	case err != nil:
		err = fail(OpFstat, temp, err)
	case lockErr != nil && !locksUnsupported(lockErr):
		err = fail(OpOpen, temp, lockErr)
	default:
		d.id = idOf(st)
		if mine, _ := d.holds(temp); !mine {
			d.sys.close(fd)
			return false, nil
		}
		d.fd, d.name = fd, temp
		return true, nil
	}
	_ = d.sys.rmdir(temp)
	d.sys.close(fd)
	return false, err
}

// removeStale removes a directory that a run of ours has left. EBUSY if one is
// still filling it, EEXIST for anything that is no directory of ours.
func (d *Dir) removeStale(name string) error {
	st, err := d.sys.lstat(name)
	switch {
	case err == unix.ENOENT:
		return nil
	case err != nil:
		return err
	case fileType(st) != unix.S_IFDIR || int(st.Uid) != unix.Geteuid():
		return unix.EEXIST
	}
	return d.remove(name, idOf(st))
}

// remove removes the directory at name, if it still is that one, with all its
// files. EBUSY if somebody has locked it.
func (d *Dir) remove(name string, id fileID) error {
	fd, err := d.sys.open(name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
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
	switch err := d.sys.flock(fd, unix.LOCK_EX|unix.LOCK_NB); {
	case err == unix.EWOULDBLOCK:
		return unix.EBUSY
	case err != nil && !locksUnsupported(err):
		return err
	}
	opened, err := d.sys.fstat(fd)
	if err != nil {
		return err
	}
	st, err := d.sys.lstat(name)
	if err == unix.ENOENT || err == nil && idOf(st) != idOf(opened) || idOf(opened) != id {
		return nil
	}
	if err != nil {
		return err
	}
	return d.clear(fd, name)
}

// clear removes the files of the directory open as fd, and then the directory
// itself, which is at name. It goes by the descriptor, so that no exchange of
// names leads it elsewhere. Somebody may be adding files meanwhile, who finds at
// some time that there is no directory any more.
func (d *Dir) clear(fd int, name string) error {
	var err error
	for range 100 * tries {
		var names []string
		if names, err = d.sys.entries(fd); err != nil {
			return err
		}
		for _, file := range names {
			if err := twice(func() error { return d.sys.unlinkat(fd, file) }); err != nil {
				return err
			}
		}
		if err = twice(func() error { return d.sys.rmdir(name) }); err != unix.ENOTEMPTY && err != unix.EEXIST {
			return err
		}
	}
	return err
}

// discard removes our directory, if it is at d.name still.
func (d *Dir) discard() error {
	if d.name == "" || d.fd < 0 {
		return nil
	}
	return twice(func() error {
		mine, err := d.holds(d.name)
		if err != nil || !mine {
			return err
		}
		return d.clear(d.fd, d.name)
	})
}

// holds tells whether name is our directory.
func (d *Dir) holds(name string) (bool, error) {
	st, err := d.sys.lstat(name)
	if err != nil {
		return false, err
	}
	return idOf(st) == d.id, nil
}

func (d *Dir) finish() {
	d.done = true
	if d.fd >= 0 {
		d.sys.close(d.fd)
	}
	d.fd = -1
}

// replace puts our directory in the old one's place.
func (d *Dir) replace(parent int) error {
	temp, path := d.names.Write, d.spec.Path
	switch mine, err := d.holds(temp); {
	case err != nil:
		return failRename(temp, path, err)
	case !mine:
		return failRename(temp, path, unix.EBUSY)
	}
	// What becomes of what is replaced: it ends up under our hidden name, or
	// as the backup.
	var undo []func() error
	back := func(err error) error {
		for _, step := range slices.Backward(undo) {
			if twice(step) != nil {
				// What is at Path, complete as it is, must not be removed.
				d.name = ""
				break
			}
		}
		return err
	}
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
		if d.spec.Policy == Backup && there == knownDir {
			steps, err := d.toBackup()
			if err != nil {
				return err
			}
			undo = steps
		}
		from := d.name
		if err := d.exchange(from, path); err != nil {
			return back(failRename(temp, path, err))
		}
		undo = append(undo, func() error { return d.exchange(path, from) })
	}
	if parent >= 0 {
		switch err := d.sys.fsync(parent); err {
		case nil, unix.EINVAL, unix.EROFS:
		default:
			return back(fail(OpSyncDir, d.names.Dir, err))
		}
	}
	d.name = ""
	// Failing is not worth an error: the next run tries again.
	if st, err := d.sys.lstat(temp); err == nil && fileType(st) == unix.S_IFDIR {
		_ = d.remove(temp, idOf(st))
	}
	return nil
}

// toBackup moves our directory to where the old one will be kept. It returns how
// to undo that.
func (d *Dir) toBackup() (undo []func() error, err error) {
	temp, path := d.names.Write, d.spec.Path
	if !d.spec.BackupNamed {
		var name string
		for n := 1; n <= maxBackups; n++ {
			name = fmt.Sprintf("%s.~%d~", path, n)
			switch err := d.moveNew(name); err {
			case nil:
				return []func() error{func() error { return d.rename(name, temp) }}, nil
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
			return []func() error{func() error { return d.rename(name, temp) }}, nil
		}
	default:
		if err = d.exchange(temp, name); err == nil {
			return []func() error{func() error { return d.exchange(name, temp) }}, nil
		}
	}
	return nil, failRename(path, name, err)
}

// same tells whether two names are one directory.
func (d *Dir) same(path, name string) (bool, error) {
	a, err := d.sys.lstat(path)
	if err != nil {
		return false, failRename(path, name, err)
	}
	b, err := d.sys.lstat(name)
	return err == nil && idOf(a) == idOf(b), nil
}

// rename moves our directory.
func (d *Dir) rename(from, to string) error {
	err := d.sys.rename(from, to)
	if err == nil {
		d.name = to
	}
	return err
}

// moveNew moves our directory to a name that must not exist: EEXIST.
func (d *Dir) moveNew(to string) error {
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

// exchange exchanges two directories, the first of which is ours. Where that
// cannot be done at once, the second is nowhere for a moment.
func (d *Dir) exchange(ours, other string) error {
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
		_ = twice(func() error { return d.sys.rename(spare, other) })
		return err
	}
	if err := twice(func() error { return d.sys.rename(spare, ours) }); err != nil {
		if d.rename(other, ours) == nil {
			_ = twice(func() error { return d.sys.rename(spare, other) })
		}
		return err
	}
	return nil
}

// flagsUnsupported tells whether renameat2 failed because this file system, or
// this kernel, has plain renames only.
func flagsUnsupported(err error) bool {
	return err == unix.EINVAL || err == unix.ENOSYS || err == unix.EOPNOTSUPP
}
