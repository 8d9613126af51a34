// Package tempdir makes directories that a request needs for a moment: until criu
// has connected to a socket in it, or has opened the files in it. A process that
// is killed in that moment leaves one behind, and the next request with a
// directory in the same place removes it. One that is in use is locked.
package tempdir

import (
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
)

// prefix begins the names of the directories; digits follow.
const prefix = "blcr-cli-"

// LongestName is the length of the longest name, in bytes.
const LongestName = len(prefix) + 10

// staleAfter is how old a directory has to be to be removed by another process:
// it is not locked from its first moment.
const staleAfter = time.Minute

// Dir is such a directory.
type Dir struct {
	Path string // absolute if its parent is; "" for none
	lock int    // a descriptor, -1 where it could not be locked
}

// None is no directory.
var None = Dir{lock: -1}

// New makes a directory in the first of the parents where that is possible, for
// this user only (mode 0700). The error is that of the first parent.
func New(parents []string) (Dir, error) {
	var failure error
	for _, parent := range parents {
		path, err := os.MkdirTemp(parent, prefix)
		if err != nil {
			if failure == nil {
				failure = ckpt.SystemError("create a directory in", parent, err)
			}
			continue
		}
		d := Dir{Path: path, lock: lock(path)}
		// Not waited for.
		go sweep(parent)
		return d, nil
	}
	if failure == nil {
		failure = &ckpt.Error{Op: "create", Object: "directory", Errno: unix.ENOENT}
	}
	return None, failure
}

// Unnamed makes a directory in memory that has no name. It is gone with the last
// descriptor of it, and of what is in it. Only root may do that; errors are those of
// fsopen(2), fsconfig(2) and fsmount(2).
func Unnamed() (fd int, err error) {
	fs, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, err
	}
	defer unix.Close(fs)
	if err = unix.FsconfigSetString(fs, "mode", "0700"); err == nil {
		err = unix.FsconfigCreate(fs)
	}
	if err != nil {
		return -1, err
	}
	return unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC)
}

// Remove removes the directory with everything in it.
func (d *Dir) Remove() {
	if d.Path != "" {
		// Rmdir needs no descriptor, of which there may be none left.
		if unix.Rmdir(d.Path) != nil {
			_ = os.RemoveAll(d.Path)
		}
		d.Path = ""
	}
	if d.lock >= 0 {
		unix.Close(d.lock)
		d.lock = -1
	}
}

// lock locks a directory that no other process has locked, and returns the
// descriptor that holds the lock, -1 for none.
func lock(path string) int {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1
	}
	if unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) != nil {
		unix.Close(fd)
		return -1
	}
	return fd
}

// sweep removes what killed processes of this user have left in a directory.
func sweep(parent string) {
	dir, err := os.Open(parent)
	if err != nil {
		return
	}
	names, _ := dir.Readdirnames(-1)
	dir.Close()
	for _, name := range names {
		digits, ours := strings.CutPrefix(name, prefix)
		if !ours || digits == "" || strings.Trim(digits, "0123456789") != "" {
			continue
		}
		path := filepath.Join(parent, name)
		var st unix.Stat_t
		if unix.Lstat(path, &st) != nil || st.Mode != unix.S_IFDIR|0o700 || int(st.Uid) != os.Geteuid() ||
			time.Since(time.Unix(st.Mtim.Unix())) < staleAfter {
			continue
		}
		if fd := lock(path); fd >= 0 {
			_ = os.RemoveAll(path)
			unix.Close(fd)
		}
	}
}
