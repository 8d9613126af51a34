package criu

import (
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/criu/explain"
	"blcr-cli/internal/ckpt/criu/pstree"
	"blcr-cli/internal/proc"
	"blcr-cli/internal/show"
)

// Files that were removed under the name by which the job has them, and that have another
// one beside it, as the semaphores of sem_open(3) and what takes its place by link(2). CRIU
// would give them one more name, only as long as the job stands still. So they are external
// to it, and a restart opens them by their other name.

// otherNames returns these files, each once, and no more than limit.
func otherNames(t *pstree.Tree, limit int) (files []pstree.FileElsewhere) {
	type file struct{ dev, ino uint64 }
	names := make(map[file]string)
	seen := make(map[pstree.FileElsewhere]bool)
	add := func(link string, dev, ino uint64, mount func(name string) int) {
		removed, ok := strings.CutSuffix(link, proc.Deleted)
		if !ok || !strings.HasPrefix(removed, "/") || len(files) == limit {
			return
		}
		name, known := names[file{dev, ino}]
		if !known {
			name = explain.OtherName(removed, dev, ino)
			names[file{dev, ino}] = name
		}
		if name == "" {
			return
		}
		f := pstree.FileElsewhere{Mount: mount(name), Inode: ino, Name: name}
		if f.Mount != 0 && !seen[f] {
			seen[f] = true
			files = append(files, f)
		}
	}
	for _, pid := range t.PIDs {
		for d, err := range proc.Descriptors(pid) {
			if err != nil {
				break // CRIU will report what is wrong
			}
			var st unix.Stat_t
			if !strings.HasSuffix(d.Link, proc.Deleted) || unix.Stat(proc.Open(pid, d.FD), &st) != nil || st.Nlink == 0 {
				continue
			}
			add(d.Link, st.Dev, st.Ino, func(string) int {
				mount, _ := proc.MountOf(pid, d.FD)
				return mount
			})
		}
		for m, err := range proc.Mappings(pid) {
			if err != nil {
				break
			}
			var st unix.Stat_t
			if !strings.HasSuffix(m.Path, proc.Deleted) || unix.Stat(m.Link(pid), &st) == nil && st.Nlink == 0 {
				continue // users may not follow that link
			}
			add(strings.ReplaceAll(m.Path, `\012`, "\n"), m.Dev, m.Ino, func(name string) int {
				mount, _ := proc.MountAt(name)
				return mount
			})
		}
	}
	return files
}

// otherName returns the other name of a file, "" if it needs none.
func (c *capture) otherName(dev, ino uint64) string {
	for _, f := range c.elsewhere {
		var st unix.Stat_t
		if f.Inode == ino && unix.Stat(f.Name, &st) == nil && st.Dev == dev {
			return f.Name
		}
	}
	return ""
}

// checkNames fails if a file that is opened by another name has lost that since.
func (c *capture) checkNames() error {
	for _, f := range c.elsewhere {
		var st unix.Stat_t
		if err := unix.Stat(f.Name, &st); err != nil || st.Mode&unix.S_IFMT == unix.S_IFREG && st.Ino != f.Inode {
			return &ckpt.Error{Op: "checkpoint", Object: f.Name, Errno: unix.EBUSY, Detail: []string{
				show.Name(filepath.Clean(f.Name)) + ", which the job has open, has just lost that name",
				"try again",
			}}
		}
	}
	return nil
}
