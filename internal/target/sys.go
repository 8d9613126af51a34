package target

import (
	"strconv"

	"golang.org/x/sys/unix"
)

// system makes the system calls of this package. Each is made again when a
// signal interrupts it, and returns a bare syscall.Errno as its error, so that
// == and switch will do.
type system struct {
	// hook is for tests: it is told of every call before it is made, and an error
	// from it is the result instead.
	hook func(call string, args ...string) error
}

func (s *system) call(f func() error, name string, args ...string) error {
	for {
		err := s.announce(name, args...)
		if err == nil {
			err = f()
		}
		if err != unix.EINTR {
			return err
		}
	}
}

func (s *system) announce(name string, args ...string) error {
	if s.hook == nil {
		return nil
	}
	return s.hook(name, args...)
}

// open opens path, close-on-exec and without O_TRUNC, ever.
func (s *system) open(path string, flags int, mode uint32) (fd int, err error) {
	err = s.call(func() (err error) {
		fd, err = unix.Openat(unix.AT_FDCWD, path, flags|unix.O_CLOEXEC, mode)
		return err
	}, "open", path)
	if err != nil {
		return -1, err
	}
	return fd, nil
}

// close is never repeated: Linux has freed the descriptor whatever it says.
func (s *system) close(fd int) error {
	err := unix.Close(fd)
	if h := s.announce("close"); h != nil {
		err = h
	}
	return err
}

// dup duplicates fd, close-on-exec.
func (s *system) dup(fd int) (dup int, err error) {
	err = s.call(func() (err error) {
		dup, err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		return err
	}, "dup")
	return dup, err
}

func (s *system) fstat(fd int) (*unix.Stat_t, error) {
	st := new(unix.Stat_t)
	err := s.call(func() error { return unix.Fstat(fd, st) }, "fstat")
	return st, err
}

func (s *system) stat(path string) (*unix.Stat_t, error) {
	st := new(unix.Stat_t)
	err := s.call(func() error { return unix.Stat(path, st) }, "stat", path)
	return st, err
}

func (s *system) lstat(path string) (*unix.Stat_t, error) {
	st := new(unix.Stat_t)
	err := s.call(func() error { return unix.Lstat(path, st) }, "lstat", path)
	return st, err
}

// attributes returns the attributes of statx(2), 0 if they cannot be read, which is no failure.
// A symbolic link in the last place is not followed.
func attributes(path string) uint64 {
	var st unix.Statx_t
	if unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW|unix.AT_STATX_DONT_SYNC, unix.STATX_TYPE, &st) != nil {
		return 0
	}
	return st.Attributes
}

func (s *system) access(path string, mode uint32) error {
	return s.call(func() error { return unix.Access(path, mode) }, "access", path)
}

func (s *system) flock(fd, how int) error {
	return s.call(func() error { return unix.Flock(fd, how) }, "flock")
}

func (s *system) truncate(fd int) error {
	return s.call(func() error { return unix.Ftruncate(fd, 0) }, "truncate")
}

func (s *system) fsync(fd int) error {
	return s.call(func() error { return unix.Fsync(fd) }, "fsync", strconv.Itoa(fd))
}

// link follows no symbolic link in the last place of either name.
func (s *system) link(from, to string) error {
	return s.call(func() error { return unix.Link(from, to) }, "link", from, to)
}

func (s *system) rename(from, to string) error {
	return s.call(func() error { return unix.Rename(from, to) }, "rename", from, to)
}

func (s *system) unlink(path string) error {
	return s.call(func() error { return unix.Unlink(path) }, "unlink", path)
}

// fdName asks the kernel for the name of an open file.
func (s *system) fdName(fd int) (name string, err error) {
	err = s.call(func() error {
		buf := make([]byte, unix.PathMax)
		n, err := unix.Readlink("/proc/self/fd/"+strconv.Itoa(fd), buf)
		if err != nil {
			return err
		}
		name = string(buf[:n])
		return nil
	}, "readlink")
	return name, err
}

// openat opens a file of a directory, close-on-exec.
func (s *system) openat(dir int, name string, flags int) (fd int, err error) {
	err = s.call(func() (err error) {
		fd, err = unix.Openat(dir, name, flags|unix.O_CLOEXEC, 0)
		return err
	}, "openat", name)
	return fd, err
}

// fstatat is lstat for a file of a directory.
func (s *system) fstatat(dir int, name string) (*unix.Stat_t, error) {
	st := new(unix.Stat_t)
	err := s.call(func() error { return unix.Fstatat(dir, name, st, unix.AT_SYMLINK_NOFOLLOW) }, "fstatat", name)
	return st, err
}

func (s *system) unlinkat(dir int, name string) error {
	return s.call(func() error { return unix.Unlinkat(dir, name, 0) }, "unlinkat", name)
}

func (s *system) mkdir(path string, mode uint32) error {
	return s.call(func() error { return unix.Mkdir(path, mode) }, "mkdir", path)
}

func (s *system) rmdir(path string) error {
	return s.call(func() error { return unix.Rmdir(path) }, "rmdir", path)
}

func (s *system) renameat2(from, to string, flags uint) error {
	return s.call(func() error {
		return unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, flags)
	}, "renameat2", from, to)
}

// entries returns the names of the files in a directory.
func (s *system) entries(dir int) (names []string, err error) {
	err = s.call(func() error {
		if _, err := unix.Seek(dir, 0, unix.SEEK_SET); err != nil {
			return err
		}
		names = nil
		buf := make([]byte, 16<<10)
		for {
			n, err := unix.ReadDirent(dir, buf)
			if err != nil || n == 0 {
				return err
			}
			_, _, names = unix.ParseDirent(buf[:n], -1, names)
		}
	}, "entries")
	return names, err
}
