package pstree

import (
	"fmt"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/hints"
	"blcr-cli/internal/proc"
	"blcr-cli/internal/show"
)

// A removed file that is open by more than one mount, as of 'mount --bind'. CRIU makes the
// file again and links it to each name that it was opened by, which no link can do across
// mounts.

// removedFile is a removed file of the tree, as it was first found.
type removedFile struct {
	pid     int
	mount   uint64
	refused bool
}

// fileID identifies a file.
type fileID struct{ dev, ino uint64 }

// removed looks at a file that a process has, which a path in /proc leads to and link names.
func (p *preflight) removed(s *subject, path, link string) {
	if !strings.HasPrefix(link, "/") || !strings.HasSuffix(link, proc.Deleted) {
		return
	}
	var st unix.Statx_t // which asks no server
	const want = unix.STATX_TYPE | unix.STATX_NLINK | unix.STATX_INO | unix.STATX_MNT_ID
	if unix.Statx(unix.AT_FDCWD, path, unix.AT_STATX_DONT_SYNC, want, &st) != nil || st.Mask&want != want { // before Linux 5.8
		return
	}
	if kind := st.Mode & unix.S_IFMT; st.Nlink != 0 || kind != unix.S_IFREG && kind != unix.S_IFIFO {
		return // a directory, or a terminal, is not linked
	}
	id := fileID{unix.Mkdev(st.Dev_major, st.Dev_minor), st.Ino}
	first, known := p.gone[id]
	switch {
	case !known:
		p.gone[id] = removedFile{pid: s.Pid, mount: st.Mnt_id}
	case first.mount != st.Mnt_id && !first.refused:
		who := "it"
		if first.pid != s.Pid {
			who = hints.Process(first.pid)
		}
		p.refuse(syscall.EOPNOTSUPP, s, fmt.Sprintf("has the removed file %s open, which %s has open by another mount, too, as of 'mount --bind', and criu cannot make it again on both", show.Name(strings.TrimSuffix(link, proc.Deleted)), who),
			"have the program close one of the two, or open both by the same directory")
		first.refused = true
		p.gone[id] = first
	}
}

// removedMappings looks at what the processes have mapped, if any has a removed file open. That
// is not done once more when they are frozen, as there may be many mappings. Only root may see
// it.
func (p *preflight) removedMappings() {
	if p.frozen || len(p.gone) == 0 {
		return
	}
	for _, pid := range p.PIDs {
		process := p.table[pid]
		if process == nil || process.Dead() {
			continue
		}
		s := newSubject(process)
		for m, err := range proc.Mappings(pid) {
			if err != nil {
				break
			}
			p.removed(s, m.Link(pid), m.Path)
		}
	}
}
