package imagedir

import (
	"bytes"
	"io"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/criu/images"
)

// Writer adds the members of a context that are not CRIU's to a directory, into
// which criu writes its images itself. Its methods may be called from many
// goroutines. Errors are *[ckpt.Error].
type Writer struct {
	fd      int
	aborted atomic.Bool
}

// NewWriter returns a writer into the directory that is open as fd, which remains
// the caller's and must stay open.
func NewWriter(fd int) *Writer { return &Writer{fd: fd} }

// Bytes adds a member; see File.
func (w *Writer) Bytes(name string, data []byte) error { return w.File(name, bytes.NewReader(data)) }

// File adds a member with what r has. The error is EINVAL for a name that
// [images.IsMember] does not know: such a file would make the directory one that
// is never replaced again.
func (w *Writer) File(name string, r io.Reader) error {
	if !images.IsMember(name) {
		return ckpt.SystemError("create", name, unix.EINVAL)
	}
	fd, err := unix.Openat(w.fd, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return ckpt.SystemError("create", name, err)
	}
	file := os.NewFile(uintptr(fd), name)
	_, err = io.Copy(file, &abortable{r, &w.aborted})
	if e := file.Close(); err == nil {
		err = e
	}
	if err != nil {
		return ckpt.SystemError("write", name, err)
	}
	return nil
}

// Sync writes the content of all files in the directory to disk. The error is an
// errno.
func (w *Writer) Sync() error {
	again, err := unix.Openat(w.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	dir := os.NewFile(uintptr(again), ".")
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		fd, err := unix.Openat(w.fd, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		err = unix.Fdatasync(fd)
		unix.Close(fd)
		if err != nil && err != unix.EINVAL {
			return err
		}
	}
	return nil
}

// Abort ends every call under way, with ECANCELED.
func (w *Writer) Abort() { w.aborted.Store(true) }

// Close does nothing: there is nothing at the end of such a context.
func (w *Writer) Close() error { return nil }

// abortable is a reader that can be told to give up.
type abortable struct {
	r       io.Reader
	aborted *atomic.Bool
}

func (a *abortable) Read(b []byte) (int, error) {
	if a.aborted.Load() {
		return 0, unix.ECANCELED
	}
	return a.r.Read(b)
}
