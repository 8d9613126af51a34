// Package target is where a context goes: a file that is replaced atomically, one
// of which a backup is kept, one that is written in place, one that must not exist
// yet, a descriptor that the caller opened, or a directory of files.
//
// It knows files, and nothing of what writes into them: no engines, no command-line
// options, no messages. Its errors carry what failed, on which name and why; the
// command makes BLCR's sentences of that.
//
// A Destination goes through
//
//	Open, OpenDir or FromFD  →  Begin  →  (the context is written to FD)  →  Commit or Abort
//
// # Atomicity and durability
//
// They are two promises. Atomicity is about processes that look at the name while
// we work, or after we were killed: with Atomic and Backup the name points to the
// old context or to the new one, complete, at every instant, because the new one is
// written under a hidden name and renamed. Durability is about the machine losing
// power: with Spec.Sync, Commit returns nil only when the content and then the
// directory entries are on disk; with Atomic and Backup the content gets there
// before the name does, and the name of a backup before the name of what replaces
// it. Without Sync a power failure may leave an empty or partial file behind a name
// that was never partial while the machine was up.
//
// With Atomic and Backup, a Commit that fails leaves the old context at its name.
//
// There is one exception from atomicity, where a hard link to the old file cannot be made.
// Backup has then to rename the old context away before it can rename the new one in, as
// BLCR always did; for that moment the name does not exist. With Sync, Atomic does the
// same, to have the old context until the directory is synced, but only where two files
// cannot be exchanged either. What a run that was killed then has left under the hidden
// name is put back by Sweep and by the next Commit.
//
// # Hidden names
//
// For a target DIR/BASE these names are ours, to create and to remove:
//
//	DIR/.BASE.tmp    the context being written, locked with flock; also with
//	                 Clobber, until Begin, over a file that is not writable
//	DIR/.BASE.old    with Sync, during Commit: the old context, if no backup
//	                 keeps it, before it the new one; of directories, where they
//	                 cannot be exchanged
//	.NAME.bak        beside a backup NAME that exists, during Commit: the
//	                 backup that is about to replace it
//
// A run that was killed may leave them. Sweep removes the first; the next run with Atomic
// or Backup removes the first two, and the next one that needs the third removes that.
//
// Two runs on one target: the one that finds the temporary locked fails with EBUSY.
// Where flock is not supported nothing keeps them apart, as in BLCR, but a run whose
// temporary was taken away notices and fails.
//
// # Directories
//
// A directory is filled under its hidden name and then exchanged with the old one in
// one step. Where the file system cannot do that, the old one is moved out of the
// way for a moment, in which the name does not exist.
//
// A directory has one name only, so that the old one cannot be linked to its backup
// beforehand. Instead the new one goes to the backup's name first, complete as it is,
// and is exchanged from there. So the backup's name may lead to the new one for a
// moment, and to nothing only where that of a file would, too.
//
// A directory is replaced only if it is empty, or if it holds nothing but what
// belongs into such a directory, as OpenDir is told. A symbolic link is neither. Only
// files that belong into it are ever removed. There is nothing to be written in
// place, so that Clobber is Atomic.
package target

import (
	"context"
	"time"

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
	// BackupName is the name of the backup if BackupNamed is set: relative to the
	// working directory, not to Path's, and replaced if it exists. Without
	// BackupNamed it is the first of Path.~1~, Path.~2~ … that is free. An empty
	// name that was given is an error once a backup is due.
	BackupName  string
	BackupNamed bool
	// Keep, if not 0, is how many contexts there are to be after a Commit: Path and
	// the backups of it with the highest numbers. The numbers of backups grow then, and
	// Commit removes the other ones when the new context is in place. It is for files,
	// and for Backup without BackupNamed.
	Keep int
	// Sync makes Commit wait until the context and its directory are on disk.
	Sync bool
}

// Destination is an open target. Its methods may be called from several goroutines;
// Begin, Commit and Abort exclude each other. It ends with Commit or Abort, one of
// which the caller must call.
type Destination interface {
	// FD returns the descriptor to write to, or that of the directory to fill. It
	// is write-only and close-on-exec unless it came from FromFD. It belongs to the
	// Destination and is valid until Commit or Abort; after that FD returns -1.
	FD() int

	// Begin is to be called right before the writing starts. With Clobber this is
	// where the old content is given up: until then a failure or Abort leaves the
	// file as it was, and after that it will be removed. With the other policies
	// nothing happens, but Commit insists on it.
	//
	// Errors are OpOpen if the file cannot be truncated and OpRemove if it cannot
	// be replaced; the old content is still there then. OpWrite with ECANCELED:
	// Commit or Abort has been called.
	Begin() error

	// Commit makes what was written to FD the context. It closes the descriptor,
	// unless that is the caller's, on success and on failure alike.
	//
	// If it fails, nothing of ours is left: with Atomic and Backup the old context
	// is at Path as before, with Clobber
	// and NoClobber a regular file at Path is removed. One thing does not come
	// back: the former content of a backup NAME that was replaced.
	//
	// Errors, all *Error: OpSync; OpWrite; OpOpenDir; OpSyncDir; OpRename of Path
	// to its backup or of Names.Write to Path. An fsync that says EINVAL is
	// forgiven for file and directory, EROFS for the directory.
	Commit() error

	// Abort gives up: it closes the descriptor, unless that is the caller's, and
	// removes the file that Open created or Begin emptied, if the name still has
	// it, or the directory. FIFOs and sockets are left alone. Abort after Commit,
	// or after Abort, does nothing, but tells what a Commit that failed could not
	// remove; while a Commit runs it waits for that to end.
	//
	// What writes to a file must have been stopped, or the process must be about
	// to end: the number of the descriptor may be given to another file. What
	// fills a directory finds that nothing can be created in it any more.
	//
	// The error is OpDiscard, if the file or directory could not be removed.
	Abort() error
}

// Open prepares a file: on success nothing has happened yet to a file that is there
// already, and FD is open for writing. On failure nothing is left behind. Errors, all
// *Error:
//
//   - OpOpen, OpFstat, OpType, OpIsDir as described there;
//   - OpRename, with Atomic and Backup, if the rename at the end cannot succeed
//     because Path is a directory or can only be one;
//   - OpRemove, with Clobber, if the file may neither be written nor replaced.
//
// A FIFO without a reader is OpOpen with ENXIO. Cancelling ctx ends the wait for a
// file system that does not answer, with OpOpen and ECANCELED; what is opened in the
// end is given up then.
func Open(ctx context.Context, spec Spec) (Destination, error) {
	return interruptible(ctx, spec, func() (Destination, error) { return openFile(spec, &system{}) })
}

// OpenDir prepares a directory: on success nothing has happened yet to what is there
// already, and there is a new, empty directory to be filled with files. On failure
// nothing is left behind.
//
// belongs tells whether a file of that name belongs into such a directory; others are
// never removed. A directory may be replaced if all its files belong into it, and one
// of them is the file named required.
//
// Errors, all *Error: OpOpen with ENOTDIR for what is no directory, ENOTEMPTY for one
// with something else in it, or for what a killed run has left with something else in
// it, EEXIST for anything with NoClobber, EBUSY if another run is filling the same
// target or Path ends in "." or "..", EEXIST on the hidden name if something has that
// and is no directory of this user's; OpRename if the backup's name is taken by
// something that is not replaced. Cancelling ctx is as for Open.
func OpenDir(ctx context.Context, spec Spec, required string, belongs func(name string) bool) (Destination, error) {
	return interruptible(ctx, spec, func() (Destination, error) { return openDir(spec, required, belongs, &system{}) })
}

// Sweep removes the hidden file that a run with this spec was writing to before it was
// killed, as far as there is one, and gives the old context its name if that run had taken it.
// The error is that of the removal: EBUSY if another run is writing there, or what that run
// has started does not end within a second.
func Sweep(spec Spec) error {
	f := newFile(spec, &system{})
	if f.names.Rename == "" { // what has no hidden name may be another's
		return nil
	}
	err := sweep(func() error { return f.removeStale(f.names.Write) })
	if err == nil && spec.Sync {
		f.putBack()
	}
	return err
}

// SweepDir is Sweep for OpenDir.
func SweepDir(spec Spec, belongs func(name string) bool) error {
	d := newDir(spec, "", belongs, &system{})
	return sweep(func() error { return d.removeStale(d.names.Write) })
}

func sweep(remove func() error) (err error) {
	const milliseconds = int(patience / time.Millisecond)
	for range milliseconds {
		if err = remove(); err != unix.EBUSY {
			break
		}
		// No timer of the runtime: the caller may be saved by BLCR's module.
		_, _ = unix.Poll(nil, 1)
	}
	return err
}

// FromFD returns a destination that is the open descriptor fd, at its offset. The
// descriptor remains the caller's: it is never closed, truncated or removed. With
// sync, Commit calls fsync on it, and ignores that it is something that cannot
// be synced, such as a pipe.
func FromFD(fd int, sync bool) Destination { return fromFD(fd, sync, &system{}) }

// patience is how long a cancelled open is waited for, so that it has usually cleaned
// up before the program ends.
const patience = time.Second

// interruptible returns what open returns, or ECANCELED if ctx is cancelled meanwhile.
// A destination that is opened too late is aborted.
//
// The open itself goes on in its goroutine: the kernel has no way to interrupt it that
// all file systems heed.
func interruptible(ctx context.Context, spec Spec, open func() (Destination, error)) (Destination, error) {
	if ctx.Done() == nil {
		return open()
	}
	type result struct {
		dest Destination
		err  error
	}
	opened := make(chan result, 1)
	go func() {
		dest, err := open()
		opened <- result{dest, err}
	}()
	select {
	case r := <-opened:
		if ctx.Err() == nil {
			return r.dest, r.err
		}
		opened <- r // cancelled at the same time
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
	return nil, fail(OpOpen, spec.Path, unix.ECANCELED)
}
