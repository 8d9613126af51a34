package pstree

import (
	"strings"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/proc"
)

// FileElsewhere is a file that is open in the tree and is on a mount of another mount
// namespace than the tree's: the output of a job that was given a /tmp of its own, for
// example, which was opened before. CRIU cannot look it up there.
type FileElsewhere struct {
	Mount int    // the number of the mount
	Inode uint64 // as of stat(2)
	Name  string // its name in that namespace
}

// FilesElsewhere returns these files, each once: all of them, unless there are more
// than limit. A file is among them only if its name leads this process there, too, as it
// does for a cr_restart in this place. Of a file system that was unmounted, or of a
// namespace that this process does not see, the name would lead to another file, or to
// none, and CRIU is to refuse it. Files without a name and terminals are not among them.
func (t *Tree) FilesElsewhere(limit int) (files []FileElsewhere) {
	mounts, err := proc.Mounts(t.Root)
	if err != nil {
		return nil
	}
	seen := make(map[FileElsewhere]bool)
	for _, pid := range t.PIDs {
		for d, err := range proc.Descriptors(pid) {
			if err != nil || len(files) == limit {
				break // CRIU will report what is wrong
			}
			if !strings.HasPrefix(d.Link, "/") || strings.HasSuffix(d.Link, proc.Deleted) || strings.HasPrefix(d.Link, "/dev/pts/") {
				continue
			}
			mount, err := proc.MountOf(pid, d.FD)
			if _, here := mounts[mount]; err != nil || here {
				continue
			}
			var st unix.Stat_t
			if unix.Stat(proc.Open(pid, d.FD), &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG && st.Mode&unix.S_IFMT != unix.S_IFCHR && st.Mode&unix.S_IFMT != unix.S_IFDIR {
				continue
			}
			f := FileElsewhere{mount, st.Ino, d.Link}
			if !seen[f] && proc.LeadsTo(d.Link, pid, d.FD) {
				seen[f] = true
				files = append(files, f)
			}
		}
	}
	return files
}
