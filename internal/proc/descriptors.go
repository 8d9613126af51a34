package proc

import (
	"bytes"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Deleted is what the kernel shows behind the name of a file that was removed under that name.
const Deleted = " (deleted)"

// Descriptor is an open descriptor of a process.
type Descriptor struct {
	FD int

	// Link is what /proc says that it leads to: a path, with Deleted behind
	// it for a file that has lost its name, or as "socket:[123]"; "" for a path that is
	// longer than PATH_MAX.
	Link string

	Readable, Writable bool // how it was opened
}

// Master reports whether it seems to be the master of a pseudo terminal: /dev/ptmx, or ptmx in a
// file system of pseudo terminals, wherever that is mounted.
func (d Descriptor) Master() bool { return strings.HasSuffix(d.Link, "/ptmx") }

// LeadsTo reports whether a name leads this process to what a descriptor of another leads
// to: the same file, or a device file for the same device.
func LeadsTo(name string, pid, fd int) bool {
	var there, open unix.Stat_t
	if unix.Stat(name, &there) != nil || unix.Stat(Open(pid, fd), &open) != nil {
		return false
	}
	if kind := open.Mode & unix.S_IFMT; kind == unix.S_IFCHR {
		return there.Mode&unix.S_IFMT == kind && there.Rdev == open.Rdev
	}
	return there.Dev == open.Dev && there.Ino == open.Ino
}

// CopyDescriptor opens what a process has open as fd in this process as well; see
// pidfd_getfd(2), which Linux has from 5.6 on. The caller owns the new descriptor.
func CopyDescriptor(pid, fd int) (int, error) {
	process, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(process)
	return unix.PidfdGetfd(process, fd, 0)
}

// Descriptors yields what a process has open, in order. A descriptor that is closed
// meanwhile is left out. An error is that of opendir(3), EACCES where the caller
// may not trace the process, and the last that it yields.
//
// It reads while it yields: a process may have a million descriptors with long
// paths.
func Descriptors(pid int) iter.Seq2[Descriptor, error] { return descriptors(pid, "") }

// Pipes yields only the pipes of these, in less time.
func Pipes(pid int) iter.Seq2[Descriptor, error] { return descriptors(pid, "pipe:[") }

// descriptors yields those whose link begins with kind.
func descriptors(pid int, kind string) iter.Seq2[Descriptor, error] {
	return func(yield func(Descriptor, error) bool) {
		dir, err := unix.Open(fmt.Sprintf("/proc/%d/fd", pid), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			yield(Descriptor{}, err)
			return
		}
		defer unix.Close(dir)
		fds, err := numbersIn(dir)
		if err != nil {
			yield(Descriptor{}, err)
			return
		}
		slices.Sort(fds)
		link := make([]byte, 4<<10) // PATH_MAX
		for _, fd := range fds {
			name := strconv.Itoa(fd)
			n, err := unix.Readlinkat(dir, name, link)
			if err == unix.ENAMETOOLONG {
				n = 0
			} else if err != nil {
				continue
			}
			if !bytes.HasPrefix(link[:n], []byte(kind)) {
				continue
			}
			// The link's permissions say how the file is open.
			var st unix.Stat_t
			if unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
				continue
			}
			if !yield(Descriptor{fd, string(link[:n]), st.Mode&0o400 != 0, st.Mode&0o200 != 0}, nil) {
				return
			}
		}
	}
}

// Open is the path by which a descriptor of a process can be looked at, whatever
// has become of the file's name.
func Open(pid, fd int) string { return fmt.Sprintf("/proc/%d/fd/%d", pid, fd) }

// Inotify and Fanotify are what Descriptor.Link is for descriptors of inotify(7) and
// fanotify(7).
const (
	Inotify  = "anon_inode:inotify"
	Fanotify = "anon_inode:[fanotify]"
)

// Watch is a file that an inotify or fanotify descriptor watches.
type Watch struct {
	Dev, Ino uint64          // st_dev and st_ino of stat(2) on most file systems
	Mask     uint32          // the events
	Handle   unix.FileHandle // for open_by_handle_at(2); of size 0 where the file system has none
}

// WatchOpener opens what is watched. It opens the root of a file system once: there may be
// thousands of watches in one. Close gives these back.
type WatchOpener struct {
	roots map[uint64]fileSystem // by st_dev
}

// fileSystem is a mount of one, and its root directory, -1 if that cannot be opened.
type fileSystem struct {
	kind string
	root int
}

// Open opens a file by its handle, with O_PATH, and returns the kind of its file system as well,
// as "ext4". The caller owns the descriptor. The error is that of open_by_handle_at(2): EPERM
// without CAP_DAC_READ_SEARCH.
func (o *WatchOpener) Open(w Watch) (fd int, kind string, err error) {
	fs, known := o.roots[w.Dev]
	if !known {
		var point string
		point, fs.kind = Mount(w.Dev)
		if fs.root, err = unix.Open(point, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
			fs.root = -1
		}
		if o.roots == nil {
			o.roots = make(map[uint64]fileSystem)
		}
		o.roots[w.Dev] = fs
	}
	fd, err = unix.OpenByHandleAt(fs.root, w.Handle, unix.O_PATH|unix.O_CLOEXEC)
	return fd, fs.kind, err
}

// Close gives back what Open has kept.
func (o *WatchOpener) Close() {
	for _, fs := range o.roots {
		if fs.root >= 0 {
			unix.Close(fs.root)
		}
	}
}

// Watched returns the files that an inotify or fanotify descriptor watches.
func Watched(pid, fd int) (files []Watch) {
	text, err := read(fmt.Sprintf("/proc/%d/fdinfo/%d", pid, fd))
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(text)) {
		// "inotify wd:1 ino:2b3 sdev:800013 mask:800afce ignored_mask:0 fhandle-bytes:8
		// fhandle-type:1 f_handle:b30200008a1e0d4a", or "fanotify ino:2b3 sdev:…": the
		// kernel's dev_t, with 20 bits for the minor number.
		if !strings.HasPrefix(line, "inotify wd:") && !strings.HasPrefix(line, "fanotify ino:") {
			continue
		}
		values := make(map[string]string)
		for _, word := range strings.Fields(line) {
			name, value, _ := strings.Cut(word, ":")
			values[name] = value
		}
		number := func(name string) uint64 {
			n, _ := strconv.ParseUint(values[name], 16, 64)
			return n
		}
		dev := number("sdev")
		var handle []byte
		_, _ = fmt.Sscanf(values["f_handle"], "%x", &handle)
		files = append(files, Watch{unix.Mkdev(uint32(dev>>20), uint32(dev&0xfffff)), number("ino"), uint32(number("mask")), unix.NewFileHandle(int32(number("fhandle-type")), handle)})
	}
	return files
}

// Polled returns the descriptors under which the files were open that a descriptor of
// epoll_create(2) watches.
func Polled(pid, epoll int) (fds []int) {
	text, _ := read(fmt.Sprintf("/proc/%d/fdinfo/%d", pid, epoll))
	for line := range strings.Lines(string(text)) {
		if words := strings.Fields(line); len(words) > 1 && words[0] == "tfd:" {
			if n, err := strconv.Atoi(words[1]); err == nil {
				fds = append(fds, n)
			}
		}
	}
	return fds
}

// SameFile reports whether descriptors of two processes lead to the same open file. It is false
// where the caller may not see that.
func SameFile(one, fd, other, otherFD int) bool {
	const file = 0 // KCMP_FILE
	r, _, errno := unix.Syscall6(unix.SYS_KCMP, uintptr(one), uintptr(other), file, uintptr(fd), uintptr(otherFD), 0)
	return errno == 0 && r == 0
}

// Polls reports whether a descriptor of a process leads to what its epoll descriptor watches:
// of the files that were open under the number was, that at the index. It is true where the
// caller may not see that.
func Polls(pid, fd, epoll, was, index int) bool {
	const target = 7 // KCMP_EPOLL_TFD
	slot := struct{ epoll, was, index uint32 }{uint32(epoll), uint32(was), uint32(index)}
	r, _, errno := unix.Syscall6(unix.SYS_KCMP, uintptr(pid), uintptr(pid), target, uintptr(fd), uintptr(unsafe.Pointer(&slot)), 0)
	return errno != 0 && errno != unix.EBADF || errno == 0 && r == 0
}

// TimerFD is what Descriptor.Link is for a descriptor of timerfd_create(2).
const TimerFD = "anon_inode:[timerfd]"

// Timer is the state of such a timer.
type Timer struct {
	Expired  uint64        // how often, since it was read
	Value    unix.Timespec // time left, 0 if it is not set
	Interval unix.Timespec // 0 if it expires once
}

// TimerOf returns the state of the timer that is a descriptor of a process. A timer that
// expires at that moment may look like one that is not set and has not expired.
func TimerOf(pid, fd int) (Timer, error) {
	text, err := read(fmt.Sprintf("/proc/%d/fdinfo/%d", pid, fd))
	if err != nil {
		return Timer{}, err
	}
	return parseTimer(string(text))
}

// parseTimer reads a file of /proc/PID/fdinfo; see proc_pid_fdinfo(5).
func parseTimer(text string) (t Timer, err error) {
	found := 0
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		switch name {
		case "ticks":
			_, err = fmt.Sscan(value, &t.Expired)
		case "it_value":
			_, err = fmt.Sscanf(value, "(%d, %d)", &t.Value.Sec, &t.Value.Nsec)
		case "it_interval":
			_, err = fmt.Sscanf(value, "(%d, %d)", &t.Interval.Sec, &t.Interval.Nsec)
		default:
			continue
		}
		if err != nil {
			return Timer{}, unix.EINVAL
		}
		found++
	}
	if found != 3 {
		return Timer{}, unix.EINVAL
	}
	return t, nil
}

// EventFD is what Descriptor.Link is for a descriptor of eventfd(2).
const EventFD = "anon_inode:[eventfd]"

// EventCount returns the counter of such a descriptor of a process.
func EventCount(pid, fd int) (uint64, error) {
	text, err := FDInfo(pid, fd, "eventfd-count")
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(text, 16, 64)
}

// FDInfo returns a value of /proc/PID/fdinfo, by its name; ENOENT where there is none.
func FDInfo(pid, fd int, name string) (string, error) {
	text, err := read(fmt.Sprintf("/proc/%d/fdinfo/%d", pid, fd))
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value), nil
		}
	}
	return "", unix.ENOENT
}

// mount is a line of /proc/PID/mountinfo.
type mount struct {
	number int
	device uint64 // of its file system
	root   string // what of that is mounted
	kind   string // its type
}

func mountinfo(pid int) (string, error) {
	text, err := readAll(fmt.Sprintf("/proc/%d/mountinfo", pid), mostMounts)
	return string(text), err
}

func parseMounts(mountinfo string) iter.Seq[mount] {
	return func(yield func(mount) bool) {
		for line := range strings.Lines(mountinfo) {
			// "36 35 98:0 /mnt1 /mnt2 rw,noatime - ext3 /dev/root rw"
			var m mount
			var parent int
			var major, minor uint32
			if n, _ := fmt.Sscanf(line, "%d %d %d:%d %s", &m.number, &parent, &major, &minor, &m.root); n != 5 {
				continue
			}
			_, kind, _ := strings.Cut(line, " - ")
			m.kind, _, _ = strings.Cut(kind, " ")
			m.device = unix.Mkdev(major, minor)
			if !yield(m) {
				return
			}
		}
	}
}

// Mounts returns the numbers of the mounts that a process sees, with the device numbers of
// their file systems. On some, as Btrfs, stat(2) says another one.
func Mounts(pid int) (map[int]uint64, error) {
	text, err := mountinfo(pid)
	if err != nil {
		return nil, err
	}
	mounts := make(map[int]uint64)
	for m := range parseMounts(text) {
		mounts[m.number] = m.device
	}
	return mounts, nil
}

// MountOf returns the number of the mount that a descriptor's file was opened on.
func MountOf(pid, fd int) (int, error) {
	text, err := FDInfo(pid, fd, "mnt_id")
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(text)
}

// MountAt returns the number of the mount that a path leads to; 0 if the kernel does not say,
// as before Linux 5.8.
func MountAt(path string) (int, error) {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, unix.AT_STATX_DONT_SYNC, unix.STATX_MNT_ID, &st)
	if err != nil || st.Mask&unix.STATX_MNT_ID == 0 {
		return 0, err
	}
	return int(st.Mnt_id), nil
}

// OpenFlags returns the flags of open(2) that a descriptor has; 0 if they cannot be seen.
func OpenFlags(pid, fd int) int {
	text, err := FDInfo(pid, fd, "flags")
	if err != nil {
		return 0
	}
	flags, _ := strconv.ParseInt(text, 8, 0)
	return int(flags)
}

// Devices returns the device numbers, as of st_dev of stat(2) on most file systems, of the
// file systems that are mounted where a process sees them, and which mount namespaces are
// kept by a mount there, as 'mount --bind /proc/PID/ns/mnt FILE' does, by their inodes.
func Devices(pid int) (devices, kept map[uint64]bool, err error) {
	text, err := mountinfo(pid)
	if err != nil {
		return nil, nil, err
	}
	devices, kept = make(map[uint64]bool), make(map[uint64]bool)
	for m := range parseMounts(text) {
		devices[m.device] = true
		var inode uint64
		if n, _ := fmt.Sscanf(m.root, "mnt:[%d]", &inode); n == 1 {
			kept[inode] = true
		}
	}
	return devices, kept, nil
}

// Served returns the device numbers of the file systems that a process sees and a program
// serves (FUSE).
func Served(pid int) map[uint64]bool {
	text, err := mountinfo(pid)
	if err != nil || !strings.Contains(text, " - fuse") { // as nearly always
		return nil
	}
	served := make(map[uint64]bool)
	for m := range parseMounts(text) {
		if m.kind == "fuse" || m.kind == "fuseblk" || strings.HasPrefix(m.kind, "fuse.") { // not fusectl
			served[m.device] = true
		}
	}
	return served
}

// Place is the path of a link of a process, "cwd", "root" or "exe", and what it leads to,
// as Descriptor.Link; "" if that cannot be seen.
func Place(pid int, which string) (path, link string) {
	path = fmt.Sprintf("/proc/%d/%s", pid, which)
	b := make([]byte, 4<<10) // PATH_MAX
	n, _ := unix.Readlink(path, b)
	return path, string(b[:max(n, 0)])
}

// LongestPath is the size of the longest path that CRIU reads of what a process has open or
// is in: the kernel shows one byte more.
const LongestPath = 4094

// TooDeep reports whether the path of a process's working or root directory is longer than
// that.
func TooDeep(pid int) bool {
	for _, which := range []string{"cwd", "root"} {
		n, err := unix.Readlink(fmt.Sprintf("/proc/%d/%s", pid, which), make([]byte, 4<<10))
		if err == unix.ENAMETOOLONG || n > LongestPath {
			return true
		}
	}
	return false
}

// Named returns the process or thread that a name in /proc is of; 0 for other names.
func Named(name string) int {
	rest, _ := strings.CutPrefix(name, "/proc/")
	number, _, _ := strings.Cut(rest, "/")
	id, _ := strconv.ParseInt(number, 10, 32)
	return int(id)
}

// Shown returns which process or thread a name in /proc is of, 0 for other names, which of its
// threads it is of, or the same again, and what of that it is, such as "fdinfo/3".
func Shown(name string) (id, tid int, what string) {
	id = Named(name)
	if id == 0 {
		return 0, 0, ""
	}
	_, what, _ = strings.Cut(name[len("/proc/"):], "/")
	if of, isThread := strings.CutPrefix(what, "task/"); isThread {
		of, what, _ = strings.Cut(of, "/")
		tid, _ = strconv.Atoi(of)
		return id, tid, what
	}
	return id, id, what
}

// SocketDir returns the directory below which CRIU finds the relative name of a UNIX socket
// for an ordinary user: the process's working or its root directory. It is "" for none, and
// for names that are not relative.
func SocketDir(pid int, name string) string {
	if name == "" || name[0] == '/' {
		return ""
	}
	for _, which := range []string{"cwd", "root"} {
		var st unix.Stat_t
		if _, dir := Place(pid, which); unix.Stat(dir+"/"+name, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFSOCK {
			return dir
		}
	}
	return ""
}

// Under is the path by which a process finds a name, seen from here.
func Under(pid int, name string) string { return fmt.Sprintf("/proc/%d/root%s", pid, name) }
