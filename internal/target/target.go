// Package target is where a context goes: a file that is replaced atomically,
// one of which a backup is kept, one that is written in place, one that must
// not exist yet, or a descriptor that somebody else opened.
//
// It knows files, and nothing of who writes into them: no engines, no
// command-line options, no messages. Its errors carry what failed, on which
// name and why; the command makes BLCR's sentences of that.
//
// A Target goes through
//
//	Open or FromFD  →  Begin  →  (somebody writes to FD)  →  Commit or Abort
//
// # Atomicity and durability
//
// They are two promises. Atomicity is about who looks at the name while we
// work, or after we were killed: with Atomic and Backup the name points to the
// old context or to the new one, complete, at every instant, because the new
// one is written under a hidden name and renamed. Durability is about the
// machine losing power: with Spec.Sync, Commit returns nil only when the
// content and then the directory entry are on disk, and with Atomic and Backup
// the content gets there before the name does. Without Sync a power failure
// may leave an empty or partial file behind a name that was never partial
// while the machine was up.
//
// With Atomic and Backup, a Commit that fails leaves the old context at its
// name. There are two exceptions, both where a hard link to the old file cannot
// be made. Atomic has then nowhere to keep the old context while the directory
// is synced: if that fails, the new one stays, which is complete. And Backup has
// to rename the old context away before it can rename the new one in, as BLCR
// always did; for that moment the name does not exist.
//
// # Hidden names
//
// For a target DIR/BASE these are ours, to create and to remove:
//
//	DIR/.BASE.tmp    the context being written, locked with flock; also with
//	                 Clobber, until Begin, over a file that is not writable
//	DIR/.BASE.old    with Sync, during Commit: the old context, if no backup
//	                 keeps it
//	.NAME.bak        beside a backup NAME that exists, during Commit: the
//	                 backup that is about to replace it
//
// A run that was killed may leave them. The next one with Atomic or Backup
// removes the first two, and the next one that needs the third removes that.
//
// Two runs on one target: the one that finds the temporary locked fails with
// EBUSY. Where flock is not supported nothing keeps them apart, as in BLCR,
// but a run whose temporary was taken away notices and fails.
package target

import (
	"sync"

	"golang.org/x/sys/unix"
)

// Policy is what becomes of a file that the target's name already has.
type Policy int

const (
	// Atomic writes a hidden file and renames it over the target.
	Atomic Policy = iota
	// Backup is Atomic, and an existing target is kept under another name.
	Backup
	// Clobber writes the target in place. One that may not be written is
	// replaced, as BLCR did by unlinking it.
	Clobber
	// NoClobber fails if the target exists.
	NoClobber
)

// Spec says where a context is to go.
type Spec struct {
	// Path is the target as the user named it.
	Path string
	// Policy is what to do with a file that is there already.
	Policy Policy
	// BackupName is the name of the backup if BackupNamed is set: relative
	// to the working directory, not to Path's, and replaced if it exists.
	// Without BackupNamed it is the first of Path.~1~, Path.~2~ … that is
	// free. An empty name that was given is an error once a backup is due.
	BackupName  string
	BackupNamed bool
	// Sync makes Commit wait until the context and its directory are on
	// disk.
	Sync bool
}

// Destination is an open target: a *Target or a *Dir. Its methods may be called
// from several goroutines; Begin, Commit and Abort exclude each other.
type Destination interface {
	// FD returns the descriptor to write to, or of the directory to fill. It is
	// valid until Commit or Abort, and -1 after that.
	FD() int
	// Begin is to be called right before the writing starts.
	Begin() error
	// Commit puts what was written in place. If it fails nothing of it is left.
	Commit() error
	// Abort gives up, and removes what was written. After Commit or Abort it does
	// nothing.
	Abort() error
}

// Target is an open destination that is a file. Its methods may be called from several
// goroutines; Begin, Commit and Abort exclude each other.
type Target struct {
	sys   *system
	spec  Spec
	names Names

	mu      sync.Mutex
	fd      int
	foreign bool // fd belongs to the caller
	begun   bool
	done    bool // committed or aborted

	// name is where our file is now and discard has to look for it, "" if
	// nowhere.
	name    string
	id      fileID
	regular bool
	created bool // Open made the file: it goes even if nothing was begun
	pending bool // Clobber: the file is still under its hidden name
}

// fileID tells one file of the running system from every other.
type fileID struct{ dev, ino uint64 }

func idOf(st *unix.Stat_t) fileID {
	return fileID{uint64(st.Dev), uint64(st.Ino)}
}

// FromFD returns a target that is the open descriptor fd, at its offset. The
// descriptor remains the caller's: it is never closed, truncated or removed.
// With sync, Commit calls fsync on it, and takes no offence if it is something
// that cannot be synced, such as a pipe.
func FromFD(fd int, sync bool) *Target {
	return &Target{sys: &system{}, spec: Spec{Sync: sync}, fd: fd, foreign: true}
}

// FD returns the descriptor to write to, which is write-only and close-on-exec
// unless it came from FromFD. It belongs to the Target and is valid until
// Commit or Abort; after that FD returns -1.
func (t *Target) FD() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.fd
}

// Begin is to be called right before the request that will write is issued.
// With Clobber this is where the old content is given up: until then a failure
// or Abort leaves the file as it was, and after that it will be removed. With
// the other policies nothing happens, but Commit insists on it.
//
// Errors are OpOpen if the file cannot be truncated and OpRemove if it cannot
// be replaced; the old content is still there then. OpWrite with ECANCELED: the
// Target was aborted.
func (t *Target) Begin() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.done:
		return t.canceled()
	case t.begun:
		return nil
	case t.pending:
		if err := t.moveTo(t.spec.Path); err != nil {
			return fail(OpRemove, t.spec.Path, err)
		}
	case t.regular && !t.created:
		if err := t.sys.truncate(t.fd); err != nil {
			return fail(OpOpen, t.spec.Path, err)
		}
	}
	t.begun = true
	return nil
}

// Abort gives up: it closes the descriptor, unless that is the caller's, and
// removes the file that Open created or Begin emptied, if the name still has
// it. FIFOs and sockets are left alone. Abort after Commit, or after Abort,
// does nothing; while a Commit runs it waits for that to end.
//
// Whoever still writes to FD must have been stopped, or the process must be
// about to end: the number may be given to another file.
//
// The error is OpDiscard, if the file could not be removed.
func (t *Target) Abort() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.done {
		return nil
	}
	defer t.finish()
	if err := t.discard(); err != nil {
		return fail(OpDiscard, t.name, err)
	}
	return nil
}

// canceled is the error of Begin and Commit on a Target that is done.
func (t *Target) canceled() error {
	return fail(OpWrite, t.names.Write, unix.ECANCELED)
}

// finish releases the descriptor, and the lock with it. A failing close has
// nothing to tell: fsync or flush did that.
func (t *Target) finish() {
	t.done = true
	if !t.foreign && t.fd >= 0 {
		t.sys.close(t.fd)
	}
	t.fd = -1
}

// discard removes our file, if it is at t.name still and ours to remove.
func (t *Target) discard() error {
	if t.name == "" || !t.created && !t.begun {
		return nil
	}
	if t.id == (fileID{}) { // Open failed in the fstat
		if _, err := t.identify(); err != nil {
			return err
		}
	}
	if !t.regular {
		return nil
	}
	return twice(func() error {
		mine, err := t.holds(t.name)
		if err != nil || !mine {
			return err
		}
		return t.sys.unlink(t.name)
	})
}

// identify notes which file the descriptor is.
func (t *Target) identify() (*unix.Stat_t, error) {
	st, err := t.sys.fstat(t.fd)
	if err != nil {
		return nil, err
	}
	t.id = idOf(st)
	t.regular = fileType(st) == unix.S_IFREG
	return st, nil
}

// holds tells whether name, itself and not what it may link to, is our file.
func (t *Target) holds(name string) (bool, error) {
	st, err := t.sys.lstat(name)
	if err != nil {
		return false, err
	}
	return idOf(st) == t.id, nil
}

// moveTo renames our file. It fails with ENOENT if the file is no longer where
// we left it, and with EBUSY if another one is there: somebody does not respect
// the lock, and what he put there is not a context.
func (t *Target) moveTo(path string) error {
	switch mine, err := t.holds(t.name); {
	case err != nil:
		return err
	case !mine:
		return unix.EBUSY
	}
	if err := t.sys.rename(t.name, path); err != nil {
		return err
	}
	t.name = path
	return nil
}

// unlink removes one of our hidden names, which need not exist. Failing is not
// worth an error: the next run tries again.
func (t *Target) unlink(name string) {
	_ = twice(func() error { return t.sys.unlink(name) })
}

// twice is for cleaning up: it gives a removal a second chance, so that one
// passing failure leaves nothing behind. What does not exist is removed.
func twice(f func() error) error {
	err := f()
	if err != nil && err != unix.ENOENT {
		err = f()
	}
	if err == unix.ENOENT {
		return nil
	}
	return err
}

func fileType(st *unix.Stat_t) uint32 { return st.Mode & unix.S_IFMT }
