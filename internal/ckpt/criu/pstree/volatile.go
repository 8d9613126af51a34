package pstree

import (
	"fmt"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/proc"
	"blcr-cli/internal/show"
)

// Files of a file system in memory that only the job can see, as after 'unshare --mount'
// and 'mount -t tmpfs'. They are gone with the job's mount namespace, and that goes with
// the job: no restart would find them.

// volatile looks for such files of a process. What process 1 can see stays.
func (p *preflight) volatile(s *subject) {
	if p.lasting == nil {
		p.lasting, p.kept, _ = proc.Devices(1)
		if p.container() { // CRIU saves what is in there
			p.lasting = nil
		}
	}
	if len(p.lasting) == 0 {
		return
	}
	what, name := "", ""
	look := func(path, link, as string) {
		if what == "" && p.isVolatile(path, link) {
			what, name = as, link
		}
	}
	for _, dir := range []string{"cwd", "root", "exe"} {
		path, link := proc.Place(s.Pid, dir)
		look(path, link, map[string]string{"cwd": "works in the directory", "root": "has the root directory", "exe": "runs the program"}[dir])
	}
	for d, err := range proc.Descriptors(s.Pid) {
		if err != nil || what != "" {
			break
		}
		look(proc.Open(s.Pid, d.FD), d.Link, "has the file open")
	}
	if devices := p.volatileDevices(); len(devices) > 0 && what == "" {
		for m, err := range proc.Mappings(s.Pid) {
			if err != nil || what != "" {
				break
			}
			if devices[m.Dev] && !strings.HasSuffix(m.Path, proc.Deleted) && !p.saves(m.Shared) {
				what, name = "has the file mapped", m.Path
			}
		}
	}
	if what == "" || p.survives(s) {
		return
	}
	p.refuse(syscall.EOPNOTSUPP, s, fmt.Sprintf("%s %s, which is in memory that only the job's own mount namespace has (tmpfs): it is gone when the job has ended", what, show.Name(name)),
		fmt.Sprintf("keep the namespace by a process in it, as 'nsenter --mount --target %d sleep infinity', and run cr_restart in there; or have the program keep the file elsewhere", s.Pid))
}

// isVolatile looks at a file, which a path in /proc leads to and link names.
func (p *preflight) isVolatile(path, link string) bool {
	if !strings.HasPrefix(link, "/") || strings.HasSuffix(link, proc.Deleted) {
		return false
	}
	var st unix.Statx_t // which asks no server
	if unix.Statx(unix.AT_FDCWD, path, unix.AT_STATX_DONT_SYNC, unix.STATX_TYPE, &st) != nil || p.lasting[unix.Mkdev(st.Dev_major, st.Dev_minor)] {
		return false
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFCHR, unix.S_IFBLK: // there is another of that name everywhere
		return false
	case unix.S_IFDIR: // so may be a directory, and is one if something is mounted there
		var other unix.Stat_t
		if st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0 || unix.Stat(proc.Under(1, link), &other) == nil && other.Mode&unix.S_IFMT == unix.S_IFDIR {
			return false
		}
	}
	return inMemory(path)
}

// inMemory reports whether the file system of a file exists in memory only.
func inMemory(path string) bool {
	const hugetlbfs = 0x958458f6
	var fs unix.Statfs_t
	if unix.Statfs(path, &fs) != nil {
		return false
	}
	kind := uint32(fs.Type) // of a signed type on 32 bits
	return kind == unix.TMPFS_MAGIC || kind == unix.RAMFS_MAGIC || kind == hugetlbfs
}

// volatileDevices are those of the tree's file systems in memory that process 1 does not
// see.
func (p *preflight) volatileDevices() map[uint64]bool {
	if p.private == nil {
		p.private = make(map[uint64]bool)
		theirs, _, _ := proc.Devices(p.Root)
		for dev := range theirs {
			if !p.lasting[dev] {
				p.private[dev] = true
			}
		}
	}
	return p.private
}

// saves reports whether the request has mapped files saved with the processes.
func (p *preflight) saves(shared bool) bool {
	r := p.request
	return r != nil && (shared && r.SaveShared || !shared && r.SavePrivate)
}

// survives reports whether the mount namespace of a process is kept, by a mount or by a
// process that stays: not one of the tree, nor the request, nor what has come into the
// namespace to make it.
func (p *preflight) survives(s *subject) bool {
	namespace, err := proc.Namespace(s.Pid, "mnt")
	if err != nil || p.kept[namespace] {
		return true
	}
	all, err := proc.All()
	if err != nil {
		return true
	}
	above := func(pid int) map[int]bool {
		pids := make(map[int]bool)
		for p := all[pid]; p != nil && !pids[p.Pid]; p = all[p.PPid] {
			pids[p.Pid] = true
		}
		return pids
	}
	in, asks, starts := p.contains(), above(self()), above(p.Root)
	for pid, other := range all {
		if in(pid) || other.Dead() || asks[pid] && !starts[pid] || above(pid)[self()] {
			continue
		}
		if ns, err := proc.Namespace(pid, "mnt"); err == nil && ns == namespace {
			return true
		}
	}
	return false
}
