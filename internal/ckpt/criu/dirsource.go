package criu

import (
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
)

// dirSource is a directory of images, written by us or by criu itself. It is
// known by its descriptor, so that all images are of the same directory even if
// another gets its name meanwhile. Only plain files in it are images.
type dirSource struct {
	fd   int
	name string // for messages

	mu      sync.Mutex
	calls   sync.WaitGroup
	aborted bool
	closed  bool
	waiting map[*os.File]bool // pipes that calls may be waiting for
}

// mostBytes is the largest image that Bytes returns.
const mostBytes = 64 << 20

// openDirSource makes a source of the directory open as fd, which remains the
// caller's and may be closed at once.
func openDirSource(fd int, name string) (source, error) {
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, sysError("open", name, err)
	}
	s := &dirSource{fd: dup, name: name, waiting: make(map[*os.File]bool)}
	if !s.Has(Inventory) {
		s.Close()
		return nil, s.invalid(syscall.EINVAL, "there is no "+Inventory+" in it, so it is no directory of images")
	}
	var st unix.Stat_t
	if unix.Fstatat(s.fd, "parent", &st, unix.AT_SYMLINK_NOFOLLOW) == nil {
		s.Close()
		return nil, s.invalid(syscall.EOPNOTSUPP, "it only holds what has changed since an earlier dump, which criu alone can restore")
	}
	return s, nil
}

// invalid is the error for a directory that is not as it should be.
func (s *dirSource) invalid(errno syscall.Errno, why string) error {
	return &ckpt.Error{Op: "read", Object: s.name, Errno: errno, Detail: []string{s.name + ": " + why}}
}

// Has tells whether there is an image of that name.
func (s *dirSource) Has(name string) bool {
	var st unix.Stat_t
	return plainName(name) && unix.Fstatat(s.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil && st.Mode&unix.S_IFMT == unix.S_IFREG
}

// plainName tells whether a name leads to nowhere but a file in the directory.
func plainName(name string) bool {
	return name != "" && name != "." && name != ".." && !strings.ContainsAny(name, "/\x00")
}

// use opens an image and has do use it.
func (s *dirSource) use(name string, do func(fd int, size int64) error) error {
	s.mu.Lock()
	switch {
	case s.aborted:
		s.mu.Unlock()
		return sysError("read", name, unix.ECANCELED)
	case s.closed:
		s.mu.Unlock()
		return sysError("read", name, unix.EBADF)
	}
	s.calls.Add(1)
	s.mu.Unlock()
	defer s.calls.Done()
	if !s.Has(name) {
		return s.invalid(syscall.EINVAL, "there is no "+name+" in it")
	}
	// What it is may change, but it must not be waited for.
	fd, err := unix.Openat(s.fd, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return sysError("open", name, err)
	}
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		err = unix.EINVAL
	}
	defer unix.Close(fd)
	if err != nil {
		return sysError("open", name, err)
	}
	return do(fd, st.Size)
}

// Bytes returns a whole image, EFBIG for one of more than 64 MiB.
func (s *dirSource) Bytes(name string) (b []byte, err error) {
	err = s.use(name, func(fd int, size int64) error {
		if size > mostBytes {
			return sysError("read", name, unix.EFBIG)
		}
		b = make([]byte, size)
		n, err := readFull(fd, b)
		b = b[:n]
		return err
	})
	return b, err
}

// Serve writes an image into a pipe, which remains the caller's. While it runs
// the pipe is non-blocking, and one for memory becomes larger.
func (s *dirSource) Serve(name string, pipe int) error {
	return s.use(name, func(fd int, _ int64) error {
		if strings.HasPrefix(name, "pages-") {
			// The most that everybody may.
			_, _ = unix.FcntlInt(uintptr(pipe), unix.F_SETPIPE_SZ, 1<<20)
		}
		err := s.feed(pipe, &splicing{from: fd})
		if err == unix.EINVAL { // an odd file system; nothing is in the pipe yet
			err = s.feed(pipe, &copying{from: fd, buffer: make([]byte, 256<<10)})
		}
		if err == nil || errnoOf(err) == unix.EPIPE {
			return nil
		}
		return sysError("serve", name, err)
	})
}

// feeder moves data into a pipe until there is no more: done, or EAGAIN.
type feeder interface {
	step(pipe int) (done bool, err error)
}

// feed has a feeder fill a pipe. It waits by the runtime's poller, which keeps
// no processor from others: there may be only one.
func (s *dirSource) feed(pipe int, f feeder) error {
	flags, err := unix.FcntlInt(uintptr(pipe), unix.F_GETFL, 0)
	if err != nil {
		return err
	}
	dup, err := unix.FcntlInt(uintptr(pipe), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	// Of the description that the two share.
	if err := unix.SetNonblock(dup, true); err != nil {
		unix.Close(dup)
		return err
	}
	file := os.NewFile(uintptr(dup), "pipe")
	defer func() {
		s.mu.Lock()
		delete(s.waiting, file)
		s.mu.Unlock()
		if flags&unix.O_NONBLOCK == 0 {
			_ = unix.SetNonblock(pipe, false)
		}
		file.Close()
	}()
	s.mu.Lock()
	s.waiting[file] = true
	s.mu.Unlock()
	conn, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var stepErr error
	waitErr := conn.Write(func(fd uintptr) bool {
		for {
			if s.isAborted() {
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
	case s.isAborted():
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

// copying does so by hand.
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

func (s *dirSource) isAborted() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.aborted
}

// Abort ends every call under way, with ECANCELED.
func (s *dirSource) Abort() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.aborted = true
	for file := range s.waiting {
		_ = file.SetDeadline(time.Unix(1, 0))
	}
}

// Close waits for calls under way.
func (s *dirSource) Close() error {
	s.mu.Lock()
	first := !s.closed
	s.closed = true
	s.mu.Unlock()
	s.calls.Wait()
	if first {
		unix.Close(s.fd)
	}
	return nil
}

// readFull reads until b is full or the file ends.
func readFull(fd int, b []byte) (n int, err error) {
	for n < len(b) {
		m, err := unix.Read(fd, b[n:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return n, sysError("read", "context", err)
		}
		if m == 0 {
			break
		}
		n += m
	}
	return n, nil
}
