// Package imagedir is for contexts that are directories: of CRIU's plain images,
// as criu writes and any tool for its images can read, and beside them the
// members that are not CRIU's. A [Dir] is read from, a [Writer] adds members.
//
// A directory has no checksums. What images contain belongs to package images, and how a directory takes the
// place of another to package target.
package imagedir

import (
	"context"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/criu/images"
	"blcr-cli/internal/ckpt/criu/memory"
)

// Dir is a directory of images that is read from. It is known by its descriptor,
// so that all images are of the same directory even if another gets its name
// meanwhile. Only regular files in it are images. Its methods may be called from
// many goroutines.
//
// Errors are *[ckpt.Error]; EINVAL with one line of Detail is for a directory
// that is not as it should be.
type Dir struct {
	fd   int
	name string // for messages

	aborted context.Context
	abort   context.CancelFunc // has calls under way return ECANCELED

	mu     sync.Mutex
	calls  sync.WaitGroup
	closed bool
}

// maxBytes is the size of the largest image that Bytes returns.
const maxBytes = 64 << 20

// Open opens the directory that is open as fd, which remains the caller's and may
// be closed at once. The name is for messages.
func Open(fd int, name string) (*Dir, error) {
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, ckpt.SystemError("open", name, err)
	}
	d := &Dir{fd: dup, name: name}
	d.aborted, d.abort = context.WithCancel(context.Background())
	return d, nil
}

// Restorable returns the error for a directory that cr_restart cannot restore:
// EINVAL for one without an inventory, and EOPNOTSUPP for an incremental dump.
func (d *Dir) Restorable() error {
	if !d.Has(images.InventoryName) {
		return d.invalid(syscall.EINVAL, "there is no "+images.InventoryName+" in it, so it is no directory of images")
	}
	if d.Incremental() {
		return d.invalid(syscall.EOPNOTSUPP, "it only holds what has changed since an earlier dump, which criu alone can restore")
	}
	return nil
}

// Incremental reports whether it only holds what has changed since an earlier
// dump.
func (d *Dir) Incremental() bool {
	var st unix.Stat_t
	return unix.Fstatat(d.fd, images.ParentName, &st, unix.AT_SYMLINK_NOFOLLOW) == nil
}

// invalid returns the error for a directory that is not as it should be.
func (d *Dir) invalid(errno syscall.Errno, why string) error {
	return &ckpt.Error{Op: "read", Object: d.name, Errno: errno, Detail: []string{d.name + ": " + why}}
}

// Has reports whether there is an image of that name.
func (d *Dir) Has(name string) bool {
	_, ok := d.stat(name)
	return ok
}

// stat looks at an image; ok is false if there is none.
func (d *Dir) stat(name string) (st unix.Stat_t, ok bool) {
	// No name leads out of the directory.
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
		return st, false
	}
	err := unix.Fstatat(d.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	return st, err == nil && st.Mode&unix.S_IFMT == unix.S_IFREG
}

// Image is an image, or another member of the context, that a directory has.
type Image struct {
	Name    string
	Size    int64
	ModTime time.Time
}

// List returns the images in the directory, in no order. Files that
// [images.IsImage] does not know are not among them.
func (d *Dir) List() ([]Image, error) {
	var list []Image
	err := d.regular(func(name string, st *unix.Stat_t) error {
		if images.IsImage(name) {
			list = append(list, Image{name, st.Size, time.Unix(st.Mtim.Unix())})
		}
		return nil
	})
	return list, err
}

// Empty removes the images in the directory.
func (d *Dir) Empty() error {
	list, err := d.List()
	if err != nil {
		return err
	}
	for _, image := range list {
		if err := unix.Unlinkat(d.fd, image.Name, 0); err != nil {
			return ckpt.SystemError("remove", image.Name, err)
		}
	}
	return nil
}

// regular calls visit with every regular file in the directory, in no order, until visit
// returns an error.
func (d *Dir) regular(visit func(name string, st *unix.Stat_t) error) error {
	fd, err := unix.Openat(d.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return ckpt.SystemError("open", d.name, err)
	}
	dir := os.NewFile(uintptr(fd), d.name)
	defer dir.Close()
	for {
		names, err := dir.Readdirnames(1000)
		for _, name := range names {
			if st, ok := d.stat(name); ok {
				if err := visit(name, &st); err != nil {
					return err
				}
			}
		}
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return ckpt.SystemError("read", d.name, err)
		}
	}
}

// Each calls visit with the directory itself and every regular file in it, by the names
// that messages have for them, until visit returns an error, which Each returns.
func (d *Dir) Each(visit func(name string, st *unix.Stat_t) error) error {
	var st unix.Stat_t
	if err := unix.Fstat(d.fd, &st); err != nil {
		return ckpt.SystemError("stat", d.name, err)
	}
	if err := visit(d.name, &st); err != nil {
		return err
	}
	return d.regular(func(name string, st *unix.Stat_t) error { return visit(d.name+"/"+name, st) })
}

// use opens an image and calls do with it.
func (d *Dir) use(name string, do func(f *os.File, size int64) error) error {
	d.mu.Lock()
	switch {
	case d.aborted.Err() != nil:
		d.mu.Unlock()
		return ckpt.SystemError("read", name, unix.ECANCELED)
	case d.closed:
		d.mu.Unlock()
		return ckpt.SystemError("read", name, unix.EBADF)
	}
	d.calls.Add(1)
	d.mu.Unlock()
	defer d.calls.Done()
	if !d.Has(name) {
		return d.invalid(syscall.EINVAL, "there is no "+name+" in it")
	}
	// It may become something else meanwhile, which must not be waited for.
	fd, err := unix.Openat(d.fd, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return ckpt.SystemError("open", name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		err = unix.EINVAL
	}
	if err != nil {
		return ckpt.SystemError("open", name, err)
	}
	return do(f, st.Size)
}

// Bytes returns a whole image, EFBIG for one of more than 64 MiB.
func (d *Dir) Bytes(name string) (b []byte, err error) {
	err = d.use(name, func(f *os.File, size int64) error {
		if size > maxBytes {
			return ckpt.SystemError("read", name, unix.EFBIG)
		}
		b = make([]byte, size)
		n, err := io.ReadFull(f, b)
		b = b[:n]
		if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF { // it may have become shorter
			return ckpt.SystemError("read", name, err)
		}
		return nil
	})
	return b, err
}

// ReadAt reads the part of an image that begins at an offset: all of b, or what there
// is up to the image's end.
func (d *Dir) ReadAt(name string, b []byte, offset int64) (n int, err error) {
	err = d.use(name, func(f *os.File, _ int64) error {
		if n, err = f.ReadAt(b, offset); err != nil && err != io.EOF {
			return ckpt.SystemError("read", name, err)
		}
		return nil
	})
	return n, err
}

// Serve writes an image into a pipe, which remains the caller's; see memory.Feed.
// A reader that goes away is no error.
func (d *Dir) Serve(name string, pipe int) error {
	return d.use(name, func(f *os.File, size int64) error {
		err := memory.Feed(d.aborted, pipe, int(f.Fd()), size)
		if err == nil {
			return nil
		}
		return ckpt.SystemError("serve", name, err)
	})
}

// Abort ends every call under way, with ECANCELED.
func (d *Dir) Abort() { d.abort() }

// Close waits for calls under way and closes the directory.
func (d *Dir) Close() error {
	d.mu.Lock()
	first := !d.closed
	d.closed = true
	d.mu.Unlock()
	d.calls.Wait()
	if first {
		unix.Close(d.fd)
	}
	return nil
}
