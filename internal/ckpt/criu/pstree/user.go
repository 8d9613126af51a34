package pstree

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/hints"
	"blcr-cli/internal/proc"
	"blcr-cli/internal/show"
)

// What the processes have and their user may not have again: a file that root has opened
// for them, for example. CRIU restores that with the rights of the user who restarts the
// job, and there is no job any more when it finds that out.

// untraceable refuses a process that criu may not look at, and reports whether it is one.
func (p *preflight) untraceable(s *subject) bool {
	if !p.user {
		return false
	}
	for _, id := range append([]int{s.Pid}, s.threads...) {
		if !proc.EndHidden(id) || proc.Ended(id) {
			continue
		}
		if uid, gid, err := proc.RealIDs(id); err == nil && id == s.Pid && uid == unix.Geteuid() && gid != unix.Getegid() {
			p.refuse(syscall.EPERM, s, otherGroup(gid), inGroup(gid))
			return true
		}
		it, why := "it", "it has forbidden that (PR_SET_DUMPABLE of prctl(2)), or runs a program that the user may not read"
		if id != s.Pid {
			it = fmt.Sprintf("its thread %d", id)
			why = it + " runs as another user or group"
		}
		if proc.Permitted(id) {
			why = it + " has capabilities"
		}
		p.refuse(syscall.EPERM, s, fmt.Sprintf("may not be traced by %s, as criu has to: %s", me(), why), "root can save it")
		return true
	}
	return false
}

// otherGroup says why a process of the same user may not be looked at.
func otherGroup(gid int) string {
	return fmt.Sprintf("has the group %s and not %s, as cr_checkpoint has, and only root may trace it then", hints.Group(gid), hints.Group(unix.Getegid()))
}

func inGroup(gid int) string {
	return fmt.Sprintf("save it, and restart it, with that group: sg %s -c 'cr_checkpoint …'", hints.Group(gid))
}

func me() string { return hints.User(unix.Geteuid()) }

// filtered refuses a process with a filter of system calls, which criu has to suspend. It must
// not have one itself.
func (p *preflight) filtered(s *subject) {
	if _, filtered := proc.Confined(unix.Getpid()); !filtered && (!p.user || proc.Capable(unix.CAP_SYS_ADMIN)) {
		return
	}
	for _, id := range append([]int{s.Pid}, s.threads...) {
		if _, filtered := proc.Confined(id); filtered {
			hint := "root can save it, or start the program without that"
			if unix.Geteuid() == 0 {
				hint = unfiltered
			}
			p.refuse(syscall.EPERM, s, "has a filter of system calls (seccomp(2)), which criu has to suspend, and only root may, with CAP_SYS_ADMIN and without such a filter of its own", hint)
			return
		}
	}
}

// foreign refuses a tree in a namespace that a user may not enter.
func (p *preflight) foreign(s *subject, theirs []uint64) {
	if !p.user || proc.Capable(unix.CAP_SYS_ADMIN) || p.Through() != nil {
		return
	}
	for _, i := range []int{kindNet, kindIPC, kindUTS, kindTime} {
		if theirs[i] != 0 && p.ours[i] != 0 && theirs[i] != p.ours[i] {
			p.refuse(syscall.EPERM, s, fmt.Sprintf("is in another %s namespace than cr_checkpoint, which %s may not enter, as criu has to", word(kinds[i]), me()),
				"run cr_checkpoint in there, or as root")
			return
		}
	}
}

// access is how a file has to be opened.
type access struct {
	name string
	mode uint32 // R_OK and so on, of access(2)
}

// permissions refuses what a restart by this user could not have again.
func (p *preflight) permissions(s *subject) {
	if !p.user {
		return
	}
	if _, dir := proc.Place(s.Pid, "cwd"); strings.HasPrefix(dir, "/") && !strings.HasSuffix(dir, proc.Deleted) {
		p.reopens(s, access{dir, unix.R_OK | unix.X_OK}, dir, "works in %s")
	}
	if _, dir := proc.Place(s.Pid, "root"); strings.HasPrefix(dir, "/") && dir != "/" && !proc.Capable(unix.CAP_SYS_CHROOT) {
		p.refuse(syscall.EPERM, s, fmt.Sprintf("has the root directory %s, which takes CAP_SYS_CHROOT to restore", show.Name(dir)), "have root save and restart the job, or run both commands in there")
	}
	for d, err := range proc.Descriptors(s.Pid) {
		if err != nil {
			return
		}
		if strings.HasPrefix(d.Link, "/") {
			p.file(s, d)
		} else if inode, ok := inodeOf(d, "socket"); ok && !p.asked[inode] {
			p.asked[inode] = true
			if ours, err := proc.CopyDescriptor(s.Pid, d.FD); err == nil {
				p.socket(s, d.FD, ours)
				unix.Close(ours)
			}
		}
	}
	through := p.Through() != nil
	for m, err := range proc.Mappings(s.Pid) {
		if err != nil {
			return
		}
		if name, removed := strings.CutSuffix(m.Path, proc.Deleted); removed && through && name != "/dev/zero" {
			// In there CRIU finds mapped files by their names only.
			p.refuse(syscall.EOPNOTSUPP, s, fmt.Sprintf("has %s mapped, which has no name any more, and criu may not open it in the user namespace that cr_restart --no-restore-pid has made", show.Name(name)),
				"restart its context without --no-restore-pid: then it can be saved again")
			through = false // one is enough
		}
		// CRIU opens it as the mapping's link shows it to have been opened.
		var st unix.Stat_t
		if strings.HasSuffix(m.Path, proc.Deleted) || strings.HasPrefix(m.Path, "/SYSV") || p.saves(m.Shared) || unix.Lstat(m.Link(s.Pid), &st) != nil {
			continue
		}
		mode := uint32(unix.R_OK)
		if st.Mode&0o200 != 0 {
			mode |= unix.W_OK
		}
		p.reopens(s, access{m.Path, mode}, m.Path, "has %s mapped")
	}
}

// smallest is the size of the largest file that CRIU does not read for its build ID.
const smallest = 4

// file looks at a descriptor with a name.
func (p *preflight) file(s *subject, d proc.Descriptor) {
	path := proc.Open(s.Pid, d.FD)
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return
	}
	what := fmt.Sprintf("has %%s open as descriptor %d", d.FD)
	if strings.HasPrefix(d.Link, "/memfd:") {
		if !hints.MayGive(&st) {
			p.refuse(syscall.EPERM, s, fmt.Sprintf(what+", which belongs to %s, and %s may not make it again", show.Name(d.Link), hints.User(int(st.Uid)), me()), asRoot)
		}
		return
	}
	again := access{name: d.Link}
	if d.Readable {
		again.mode |= unix.R_OK
	}
	if d.Writable {
		again.mode |= unix.W_OK
	}
	kind := st.Mode & unix.S_IFMT
	name, removed := strings.CutSuffix(d.Link, proc.Deleted)
	removed = removed && st.Nlink == 0
	switch {
	case kind == unix.S_IFREG:
		if removed || st.Size > smallest {
			again.mode |= unix.R_OK
		}
	case kind == unix.S_IFIFO: // CRIU opens it in both ways first
		again.mode = unix.R_OK | unix.W_OK
	case kind == unix.S_IFDIR, kind == unix.S_IFCHR && unix.Major(st.Rdev) == 1: // memory devices such as /dev/null
	default:
		return
	}
	if d.FD <= 2 && kind == unix.S_IFREG {
		// A log of at(1)'s or a service's: cr_restart --keep-stdio has another.
		again.mode &= unix.R_OK
	}
	if removed {
		if kind == unix.S_IFCHR && !proc.Capable(unix.CAP_MKNOD) {
			p.refuse(syscall.EPERM, s, fmt.Sprintf("has the removed device %s open as descriptor %d, which takes CAP_MKNOD to make it again", show.Name(name), d.FD), asRoot)
		}
		if kind != unix.S_IFREG && kind != unix.S_IFIFO {
			return
		}
		again.name = path
		what = fmt.Sprintf("has the removed file %%s open as descriptor %d", d.FD)
		if d.FD > 2 && !hints.MayGive(&st) {
			p.refuse(syscall.EPERM, s, fmt.Sprintf(what+", which belongs to %s, and %s may not make it again", show.Name(name), hints.User(int(st.Uid)), me()), asRoot)
			return
		}
	} else {
		name = d.Link
	}
	if p.reopens(s, again, name, what) && int(st.Uid) != unix.Geteuid() && proc.OpenFlags(s.Pid, d.FD)&unix.O_NOATIME != 0 && !proc.Capable(unix.CAP_FOWNER) {
		p.refuse(syscall.EPERM, s, fmt.Sprintf(what+" with O_NOATIME, which only its owner may open so, %s", show.Name(name), hints.User(int(st.Uid))), asRoot)
	}
}

// asRoot is the way out where there is no other.
const asRoot = "have root save and restart the job, or have the program close it"

// reopens reports whether a file can be opened again in that way, and refuses the process
// if not. What says what the process has, with a verb for the name.
func (p *preflight) reopens(s *subject, again access, name, what string) bool {
	err, known := p.may[again]
	if !known {
		err = unix.Faccessat(unix.AT_FDCWD, again.name, again.mode, unix.AT_EACCESS)
		p.may[again] = err
	}
	if err != unix.EACCES && err != unix.EPERM {
		return true
	}
	if known { // it has been refused
		return false
	}
	what = fmt.Sprintf(what, show.Name(name))
	if unix.Faccessat(unix.AT_FDCWD, again.name, unix.F_OK, unix.AT_EACCESS) != nil {
		p.refuse(syscall.EACCES, s, fmt.Sprintf("%s, and %s may not look it up, as criu has to", what, me()), "start the program with another file in its place, such as </dev/null")
		return false
	}
	var how []string
	for _, m := range []access{{"read", unix.R_OK}, {"write", unix.W_OK}, {"enter", unix.X_OK}} {
		if again.mode&m.mode != 0 {
			how = append(how, m.name)
		}
	}
	p.refuse(syscall.EACCES, s, fmt.Sprintf("%s, and %s may not open it again to %s, as criu has to", what, me(), strings.Join(how, " and ")),
		"change its permissions, have root save and restart the job, or have the program close it")
	return false
}

// socket looks at a socket, which is open in this process as well.
func (p *preflight) socket(s *subject, fd, ours int) {
	var addr [128]byte
	size := uint32(len(addr))
	if _, _, errno := unix.RawSyscall(unix.SYS_GETSOCKNAME, uintptr(ours), uintptr(unsafe.Pointer(&addr)), uintptr(unsafe.Pointer(&size))); errno != 0 {
		return
	}
	option := func(name int) int {
		value, _ := unix.GetsockoptInt(ours, unix.SOL_SOCKET, name)
		return value
	}
	family, kind := binary.NativeEndian.Uint16(addr[:]), option(unix.SO_TYPE)
	has := hints.Socket{Mark: uint32(option(unix.SO_MARK)), Priority: uint32(option(unix.SO_PRIORITY))}
	switch {
	case family == unix.AF_PACKET:
		has.Raw = true
	case family == unix.AF_INET || family == unix.AF_INET6:
		has.Raw, has.Port = kind == unix.SOCK_RAW, binary.BigEndian.Uint16(addr[2:])
	case family == unix.AF_UNIX && (kind == unix.SOCK_DGRAM || option(unix.SO_ACCEPTCONN) != 0):
		name, _, _ := bytes.Cut(addr[2:max(size, 2)], []byte{0})
		has.Name = string(name)
		if dir := proc.SocketDir(s.Pid, has.Name); dir != "" {
			has.Name = dir + "/" + has.Name
		}
	}
	if errno, what := has.Lacks(); errno != 0 {
		p.refuse(errno, s, fmt.Sprintf("has a socket open as descriptor %d %s", fd, what), asRoot)
	}
}
