// Package imagedir is for contexts that are directories: of CRIU's plain images,
// as criu writes and any tool for its images can read, and beside them the
// members that are not CRIU's. A [Dir] is read from, a [Writer] adds members.
//
// What images contain belongs to package images, and how a directory takes the
// place of another to package target.
package imagedir

import (
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/criu/images"
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

	mu      sync.Mutex
	calls   sync.WaitGroup
	aborted bool
	closed  bool
	waiting map[*os.File]bool // pipes that calls may be waiting for
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
	return &Dir{fd: dup, name: name, waiting: make(map[*os.File]bool)}, nil
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
	fd, err := unix.Openat(d.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, ckpt.SystemError("open", d.name, err)
	}
	dir := os.NewFile(uintptr(fd), d.name)
	defer dir.Close()
	var list []Image
	for {
		names, err := dir.Readdirnames(1000)
		for _, name := range names {
			if st, ok := d.stat(name); ok && images.IsImage(name) {
				list = append(list, Image{name, st.Size, time.Unix(st.Mtim.Unix())})
			}
		}
		switch {
		case err == io.EOF:
			return list, nil
		case err != nil:
			return nil, ckpt.SystemError("read", d.name, err)
		}
	}
}

// use opens an image and calls do with it.
func (d *Dir) use(name string, do func(f *os.File, size int64) error) error {
	d.mu.Lock()
	switch {
	case d.aborted:
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

// Serve writes an image into a pipe, which remains the caller's. While it runs
// the pipe is non-blocking, and one for memory becomes larger. A reader that goes
// away is no error.
func (d *Dir) Serve(name string, pipe int) error {
	return d.use(name, func(f *os.File, _ int64) error {
		if images.IsPages(name) {
			// The most that an ordinary user may.
			_, _ = unix.FcntlInt(uintptr(pipe), unix.F_SETPIPE_SZ, 1<<20)
		}
		fd := int(f.Fd())
		err := d.feed(pipe, &splicing{from: fd})
		if err == unix.EINVAL { // the file system has no splice; nothing is in the pipe yet
			err = d.feed(pipe, &copying{from: fd, buffer: make([]byte, 256<<10)})
		}
		if err == nil || ckpt.ErrnoOf(err) == unix.EPIPE {
			return nil
		}
		return ckpt.SystemError("serve", name, err)
	})
}

// feeder moves data into a pipe until there is no more. The error is EAGAIN if
// the pipe is full.
type feeder interface {
	step(pipe int) (done bool, err error)
}

// feed has a feeder fill a pipe. It waits by the runtime's poller, which leaves
// the processor to others: there may be only one.
func (d *Dir) feed(pipe int, f feeder) error {
	flags, err := unix.FcntlInt(uintptr(pipe), unix.F_GETFL, 0)
	if err != nil {
		return err
	}
	dup, err := unix.FcntlInt(uintptr(pipe), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	// It is a flag of the open file, which both descriptors share.
	if err := unix.SetNonblock(dup, true); err != nil {
		unix.Close(dup)
		return err
	}
	file := os.NewFile(uintptr(dup), "pipe")
	defer func() {
		d.mu.Lock()
		delete(d.waiting, file)
		d.mu.Unlock()
		if flags&unix.O_NONBLOCK == 0 {
			_ = unix.SetNonblock(pipe, false)
		}
		file.Close()
	}()
	d.mu.Lock()
	d.waiting[file] = true
	d.mu.Unlock()
	conn, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var stepErr error
	waitErr := conn.Write(func(fd uintptr) bool {
		for {
			if d.isAborted() {
				stepErr = unix.ECANCELED
				return true
			}
			var done bool
			done, stepErr = f.step(int(fd))
			switch {
			case stepErr == unix.EINTR:
			case stepErr == unix.EAGAIN:
				return false
			case done || stepErr != nil:
				return true
			}
		}
	})
	switch {
	case d.isAborted():
		return unix.ECANCELED
	case waitErr != nil:
		return waitErr
	}
	return stepErr
}

// splicing has the kernel move the data.
type splicing struct {
	from   int
	offset int64
}

func (f *splicing) step(pipe int) (done bool, err error) {
	n, err := unix.Splice(f.from, &f.offset, pipe, nil, 1<<20, unix.SPLICE_F_NONBLOCK|unix.SPLICE_F_MOVE)
	return err == nil && n == 0, err
}

// copying reads and writes the data.
type copying struct {
	from   int
	buffer []byte
	rest   []byte // of the buffer, what is not in the pipe yet
}

func (f *copying) step(pipe int) (done bool, err error) {
	if len(f.rest) == 0 {
		n, err := unix.Read(f.from, f.buffer)
		if err != nil || n == 0 {
			return err == nil, err
		}
		f.rest = f.buffer[:n]
	}
	n, err := unix.Write(pipe, f.rest)
	if err == nil {
		f.rest = f.rest[n:]
	}
	return false, err
}

func (d *Dir) isAborted() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.aborted
}

// Abort ends every call under way, with ECANCELED.
func (d *Dir) Abort() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.aborted = true
	for file := range d.waiting {
		_ = file.SetDeadline(time.Unix(1, 0))
	}
}

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
