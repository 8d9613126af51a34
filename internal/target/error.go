package target

import (
	"errors"
	"fmt"
	"syscall"
)

// Op is the step that failed. It decides which of BLCR's messages a command
// prints; the message is quoted here.
type Op string

const (
	// OpOpen: "Unable to open file 'Path': …". Besides what open(2) and
	// unlink(2) of a stale temporary say: EBUSY, another run is writing to
	// the same target; EISDIR, a directory has the temporary's name; ELOOP,
	// Clobber would have to follow a symbolic link of another user.
	OpOpen Op = "open"
	// OpFstat: "Unable to fstat opened file: …".
	OpFstat Op = "fstat"
	// OpType, always EINVAL: "File 'Path' is not an acceptable file type …".
	OpType Op = "use a file of this type"
	// OpIsDir, always EISDIR: "File 'Path' is a directory: …".
	OpIsDir Op = "use a directory"
	// OpRemove: "Unable to remove existing 'Path': …".
	OpRemove Op = "remove"
	// OpRename: "Unable to rename 'Path' to 'To': …". ENOENT or EBUSY: the
	// file written was removed or replaced by another process. ERANGE: no
	// number is free for a backup.
	OpRename Op = "rename"
	// OpSync: "Error syncing checkpoint to disk: …".
	OpSync Op = "sync"
	// OpOpenDir: "unable to opendir(Path): …".
	OpOpenDir Op = "open directory"
	// OpSyncDir: the directory Path could not be synced. BLCR went on, and
	// mentioned it with -v.
	OpSyncDir Op = "sync directory"
	// OpWrite: the content is not all there, and only closing the file said
	// so; BLCR did not look. Also ECANCELED, for a Target that was committed
	// or aborted before, and EINVAL, for Commit without Begin.
	OpWrite Op = "write"
	// OpDiscard: Abort could not remove Path; BLCR did not look.
	OpDiscard Op = "discard"
)

// Error is the error type of this package.
type Error struct {
	Op    Op
	Path  string
	To    string // OpRename only
	Errno syscall.Errno
}

func (e *Error) Error() string {
	if e.Op == OpRename {
		return fmt.Sprintf("%s %s to %s: %v", e.Op, e.Path, e.To, e.Errno)
	}
	return fmt.Sprintf("%s %s: %v", e.Op, e.Path, e.Errno)
}

// Unwrap returns the Errno, for errors.Is and errors.As.
func (e *Error) Unwrap() error { return e.Errno }

func fail(op Op, path string, err error) error {
	return &Error{Op: op, Path: path, Errno: errno(err)}
}

func failRename(from, to string, err error) error {
	return &Error{Op: OpRename, Path: from, To: to, Errno: errno(err)}
}

// errno is the Errno that every method of system returns.
func errno(err error) syscall.Errno {
	var e syscall.Errno
	if !errors.As(err, &e) {
		return syscall.EIO
	}
	return e
}
