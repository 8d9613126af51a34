package criu

import (
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
)

// A request needs a directory of its own for a moment: until criu has connected,
// or has opened the files in it. Whoever is killed in that moment leaves it
// behind, and the next request in the same place removes it: one that is in use
// is locked.

// scratchPrefix begins the names of these directories; digits follow.
const scratchPrefix = "blcr-cli-"

// longestScratch is the longest such name.
const longestScratch = len(scratchPrefix) + 10

// staleAfter is how old one has to be: it is not locked from its first moment.
const staleAfter = time.Minute

// scratch is such a directory.
type scratch struct {
	path string // "" for none
	lock int    // its descriptor, -1 where it cannot be locked
}

// noScratch is none.
var noScratch = scratch{lock: -1}

// newScratch makes one in the first of those directories where it can. The error
// is for the first of them. Mode 0700, as only we and criu have business there.
func newScratch(parents []string) (scratch, error) {
	var failure error
	for _, parent := range parents {
		path, err := os.MkdirTemp(parent, scratchPrefix)
		if err != nil {
			if failure == nil {
				failure = sysError("create a directory in", parent, err)
			}
			continue
		}
		s := scratch{path: path, lock: lockDir(path)}
		// Nobody waits for this.
		go sweep(parent)
		return s, nil
	}
	if failure == nil {
		failure = &ckpt.Error{Op: "create", Object: "directory", Errno: unix.ENOENT}
	}
	return noScratch, failure
}

// remove removes it with all that is in it.
func (s *scratch) remove() {
	if s.path != "" {
		// The first needs no descriptor, of which there may be none left.
		if unix.Rmdir(s.path) != nil {
			_ = os.RemoveAll(s.path)
		}
		s.path = ""
	}
	if s.lock >= 0 {
		unix.Close(s.lock)
		s.lock = -1
	}
}

// lockDir locks a directory that nobody else has locked, and returns the
// descriptor that holds the lock, -1 for none.
func lockDir(path string) int {
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

// sweep removes what requests of ours that were killed have left in a directory.
func sweep(parent string) {
	dir, err := os.Open(parent)
	if err != nil {
		return
	}
	names, _ := dir.Readdirnames(-1)
	dir.Close()
	for _, name := range names {
		digits, ours := strings.CutPrefix(name, scratchPrefix)
		if !ours || digits == "" || strings.Trim(digits, "0123456789") != "" {
			continue
		}
		path := filepath.Join(parent, name)
		var st unix.Stat_t
		if unix.Lstat(path, &st) != nil || st.Mode != unix.S_IFDIR|0o700 || int(st.Uid) != os.Geteuid() ||
			time.Since(time.Unix(st.Mtim.Unix())) < staleAfter {
			continue
		}
		if fd := lockDir(path); fd >= 0 {
			_ = os.RemoveAll(path)
			unix.Close(fd)
		}
	}
}
