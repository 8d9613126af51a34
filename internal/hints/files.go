package hints

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/proc"
	"blcr-cli/internal/show"
)

// Space says how much space the file system of an open file or directory has, after a
// write failed with ENOSPC, EDQUOT or EFBIG. need is roughly how many bytes were to be
// written, 0 if that is not known. The space that the file already occupies counts as
// free. The caller closes the descriptor.
func Space(fd int, errno syscall.Errno, need uint64) []string {
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil
	}
	on := "the file system"
	if point, kind := proc.Mount(uint64(st.Dev)); point != "" {
		on = fmt.Sprintf("the file system %s (%s)", show.Name(point), kind)
	}
	needs := ""
	if need > 0 {
		needs = ", and the context takes some " + show.Size(need)
	}
	switch errno {
	case unix.ENOSPC:
		var fs unix.Statfs_t
		if unix.Fstatfs(fd, &fs) != nil {
			return nil
		}
		if fs.Files > 0 && fs.Ffree == 0 {
			return []string{on + " has no room for more files (df -i)"}
		}
		return []string{fmt.Sprintf("%s has %s free, of %s%s", on, show.Size(free(&st, &fs)), show.Size(fs.Blocks*uint64(fs.Bsize)), needs)}
	case unix.EDQUOT:
		return []string{fmt.Sprintf("%s may not use more of %s: the quota is used up%s", User(os.Geteuid()), on, needs)}
	case unix.EFBIG:
		var l unix.Rlimit
		if unix.Getrlimit(unix.RLIMIT_FSIZE, &l) == nil && l.Cur < 1<<62 {
			return []string{fmt.Sprintf("files may have %s here (ulimit -f)%s", show.Size(l.Cur), needs)}
		}
		return []string{on + " can have no files as large as that" + needs}
	}
	return nil
}

// free returns how many bytes a file may have in its file system, in all.
func free(st *unix.Stat_t, fs *unix.Statfs_t) uint64 {
	blocks := fs.Bavail
	if os.Geteuid() == 0 {
		blocks = fs.Bfree
	}
	bytes := blocks * uint64(fs.Bsize)
	if st.Mode&unix.S_IFMT == unix.S_IFREG {
		bytes += uint64(st.Blocks) * 512
	}
	return bytes
}

// Room returns how many bytes there is room for in an open file, or in the file system
// of an open directory. ok is false for anything else. The caller closes the descriptor.
func Room(fd int) (bytes uint64, ok bool) {
	var st unix.Stat_t
	var fs unix.Statfs_t
	if unix.Fstat(fd, &st) != nil || unix.Fstatfs(fd, &fs) != nil {
		return 0, false
	}
	kind := st.Mode & unix.S_IFMT
	return free(&st, &fs), kind == unix.S_IFREG || kind == unix.S_IFDIR
}

// Fixed says which attribute keeps a file from being replaced, even by root.
func Fixed(path string) []string {
	var st unix.Statx_t
	for _, of := range []struct {
		path, does string
		attributes uint64
	}{
		{path, "cannot be changed", unix.STATX_ATTR_IMMUTABLE}, {path, "can only be appended to", unix.STATX_ATTR_APPEND},
		{filepath.Dir(path), "cannot be changed", unix.STATX_ATTR_IMMUTABLE}, {filepath.Dir(path), "can only get more files", unix.STATX_ATTR_APPEND},
	} {
		if unix.Statx(unix.AT_FDCWD, of.path, unix.AT_STATX_DONT_SYNC, unix.STATX_TYPE, &st) == nil && st.Attributes&of.attributes != 0 {
			flag := "-i"
			if of.attributes == unix.STATX_ATTR_APPEND {
				flag = "-a"
			}
			return []string{fmt.Sprintf("%s %s, by an attribute that 'chattr %s' takes away", show.Name(of.path), of.does, flag)}
		}
	}
	return nil
}

// Open says why a file could not be created or opened for writing, as far as its
// directory shows the reason.
func Open(path string, errno syscall.Errno) []string {
	dir := filepath.Dir(path)
	shown := show.Name(dir)
	switch errno {
	case unix.ENOENT:
		for up := dir; ; up = filepath.Dir(up) {
			if _, err := os.Stat(up); err == nil {
				break
			}
			if parent := filepath.Dir(up); parent == up || exists(parent) {
				return []string{fmt.Sprintf("there is no directory %s", show.Name(up))}
			}
		}
	case unix.ENOTDIR:
		for up := dir; up != filepath.Dir(up); up = filepath.Dir(up) {
			if st, err := os.Stat(up); err == nil && !st.IsDir() {
				return []string{fmt.Sprintf("%s is no directory", show.Name(up))}
			}
		}
	case unix.EROFS:
		var st unix.Stat_t
		if unix.Stat(dir, &st) == nil {
			if point, kind := proc.Mount(uint64(st.Dev)); point != "" {
				return []string{fmt.Sprintf("the file system %s (%s) is read-only", show.Name(point), kind)}
			}
		}
	case unix.EACCES:
		if owner := Owner(dir); owner != "" && unix.Access(dir, unix.W_OK|unix.X_OK) != nil {
			return []string{fmt.Sprintf("%s may not create files in %s, which %s", User(os.Geteuid()), shown, owner)}
		}
	case unix.ENOSPC, unix.EDQUOT:
		if fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err == nil {
			defer unix.Close(fd)
			return Space(fd, errno, 0)
		}
	case unix.EMFILE, unix.ENFILE:
		return Limits(errno)
	case unix.EPERM:
		return Fixed(path)
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// Owner returns the owner and the mode of a file, as "belongs to root, mode 0755"; ""
// if it cannot be examined.
func Owner(path string) string {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return ""
	}
	return fmt.Sprintf("belongs to %s, mode %04o", User(int(st.Uid)), st.Mode&0o7777)
}
