package explain

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/hints"
	"blcr-cli/internal/proc"
)

// Foresee returns errors that a dump of these processes by that criu would end with, as Dump
// would explain them: what /proc shows to be of a kind that CRIU refuses. Others there are
// only CRIU can tell.
func Foresee(tree []int, criu string) []error {
	var errs []error
	var mounts map[int]uint64
	if len(tree) > 0 {
		mounts, _ = proc.Mounts(tree[0])
		if sameMounts(tree[0]) {
			// One in another root directory sees fewer.
			all, _ := proc.Mounts(os.Getpid())
			maps.Copy(all, mounts)
			mounts = all
		}
	}
	terminals := currentTerminals(tree)
	found := make([][]*ckpt.Error, len(tree))
	var looking sync.WaitGroup
	workers := runtime.NumCPU()
	for first := range workers {
		looking.Go(func() {
			for i := first; i < len(tree); i += workers {
				s := newSituation(Failure{Tree: []int{tree[i]}})
				lines := s.foresee(tree, mounts, criu)
				if line := terminals[tree[i]]; line != "" {
					lines = append(lines, line)
				}
				for _, line := range lines {
					s.Log = []string{line}
					found[i] = append(found[i], s.explain("dump", dumpRules))
				}
			}
		})
	}
	looking.Wait()
	for _, e := range slices.Concat(found...) {
		// CRIU has not said it.
		e.Detail = slices.DeleteFunc(e.Detail, func(detail string) bool { return strings.HasPrefix(detail, fromCriu) })
		// Of several sockets, it would say the same.
		if !slices.ContainsFunc(errs, func(other error) bool { return slices.Equal(other.(*ckpt.Error).Detail, e.Detail) }) {
			errs = append(errs, e)
		}
	}
	return errs
}

// foresee returns the lines that CRIU would write. The mounts are those that the root of
// the tree sees; nil if they are not known.
func (s *situation) foresee(tree []int, mounts map[int]uint64, criu string) (lines []string) {
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	f := s.facts(s.pid)
	users := os.Geteuid() != 0 && !mayHave(criu, unix.CAP_NET_ADMIN)
	if proc.OutsideSession(s.pid) {
		add("A session leader of %d(%d) is outside of its pid namespace", s.pid, s.pid)
	}
	if proc.TooDeep(s.pid) {
		add("Can't read link of fd 0: %s", ckpt.Strerror(unix.ENAMETOOLONG))
	}
	if f.state == 'T' {
		if sig := stopSignal(s.pid); sig == unix.SIGTTIN || sig == unix.SIGTTOU {
			add("SEIZE %d: unsupported stop signal %d", s.pid, int(sig))
		}
	}
	for _, tid := range proc.Threads(s.pid) {
		if proc.Pending(tid)&(1<<(unix.SIGTRAP-1)) != 0 {
			add("Can't dump the %d thread with a pending SIGTRAP.", tid)
			break
		}
	}
	seen := seenMounts{numbers: mounts, ours: sameMounts(s.pid)}
	for _, which := range []string{"cwd", "exe"} {
		path, link := proc.Place(s.pid, which)
		if line := seen.lost(-3, path, link); line != "" {
			lines = append(lines, line)
			break // of one mount, it would say the same
		}
	}
	for d, err := range f.descriptors {
		if err != nil {
			break
		}
		name, isAnonymous := strings.CutPrefix(d.Link, "anon_inode:")
		switch {
		case name == "[eventpoll]":
			if s.closedPolled(tree) != "" {
				add("Dump eventpoll (pid: %d) failed with -1", s.pid)
			}
			continue
		case isAnonymous && anonymous[name] != "" && !restorable[name], name == "bpf-map" && s.otherMap(d.FD, criu):
			add("Can't dump file %d of that type [600] (anon %s)", d.FD, d.Link)
			continue
		case name == "[pidfd]", strings.HasPrefix(d.Link, "pidfd:["):
			// 0 is a process that has no number here, and -1 one that has ended.
			if proc.OpenFlags(s.pid, d.FD)&unix.O_EXCL != 0 {
				add("pidfd: PIDFD_THREAD flag is currently not supported")
			} else if pid, _ := strconv.Atoi(s.info(d.FD, "Pid")); pid > 0 && !slices.Contains(tree, pid) && !madeSince(tree[0], pid) {
				add("pidfd: pidfd pid %d is not a part of process tree", pid)
			}
			continue
		case d.Link == proc.Inotify, d.Link == proc.Fanotify:
			if s.unnamed(d.FD, criu) {
				add("fsnotify: Can't dump that handle")
			}
			continue
		case d.Link == "", len(d.Link) > proc.LongestPath:
			add("Can't read link of fd %d: %s", d.FD, ckpt.Strerror(unix.ENAMETOOLONG))
			continue
		case d.Link == proc.TimerFD:
			if clock := s.info(d.FD, "clockid"); clock == "8" || clock == "9" {
				add("Unknown clock type %s for 0", clock)
			}
			continue
		case strings.HasPrefix(d.Link, "socket:["):
			s.foreseeSocket(d, users, add)
		case strings.HasPrefix(d.Link, "pipe:["):
			if proc.OpenFlags(s.pid, d.FD)&unix.O_DIRECT != 0 {
				add("The packetized mode for pipes is not supported yet")
			}
			continue
		}
		if users && strings.HasPrefix(d.Link, "socket:[") && s.lostName(d.FD) {
			add("unix: Can't resolve name for socket %d", d.FD)
		}
		if !strings.HasPrefix(d.Link, "/") {
			continue
		}
		var st unix.Stat_t
		if unix.Stat(proc.Open(s.pid, d.FD), &st) != nil {
			continue
		}
		name, removed := cutDeleted(d.Link, &st)
		if removed && inside(proc.Open(s.pid, d.FD), name) {
			add("Can't lookup mount=0 for fd=%d path=%s", d.FD, d.Link)
			continue
		}
		if mounts != nil && !removed && !strings.HasPrefix(d.Link, "/dev/pts/") {
			mount, err := proc.MountOf(s.pid, d.FD)
			if _, here := mounts[mount]; err == nil && !here && !proc.LeadsTo(d.Link, s.pid, d.FD) {
				add("Can't lookup mount=%d for fd=%d path=%s", mount, d.FD, d.Link)
				continue
			}
		}
		if line := seen.lost(d.FD, proc.Open(s.pid, d.FD), d.Link); line != "" && st.Mode&unix.S_IFMT == unix.S_IFREG && !strings.HasPrefix(name, "/memfd:") && (removed || strings.HasPrefix(line, "Open")) {
			lines = append(lines, line)
			continue
		}
		switch kind := st.Mode & unix.S_IFMT; {
		case !d.Readable && !d.Writable && kind == unix.S_IFSOCK:
			add("sockets: Can't get 1:39 opt: %s", ckpt.Strerror(unix.EBADF))
		case !d.Readable && !d.Writable && kind == unix.S_IFIFO:
			add("Can't obtain piped data size")
		case kind == unix.S_IFCHR && st.Rdev == tunDevice:
			if ours, err := proc.Namespace(unix.Getpid(), "net"); err == nil {
				if theirs, err := proc.Namespace(tree[0], "net"); err == nil && ours == theirs {
					add("tun: Net namespace is required to dump tun link")
				}
			}
		case kind == unix.S_IFCHR && unknownDevice(st.Rdev):
			add("Can't dump file %d of that type [%o] (chr %d:%d)", d.FD, st.Mode, unix.Major(st.Rdev), unix.Minor(st.Rdev))
		case kind == unix.S_IFBLK:
			add("Can't dump file %d of that type [%o] (unknown %s)", d.FD, st.Mode, d.Link)
		case kind == unix.S_IFREG && removed && st.Nlink > 0 && !strings.HasPrefix(name, "/memfd:") && OtherName(name, st.Dev, st.Ino) == "":
			add("Can't create link remap for %s. Use link-remap option", name)
		}
	}
	ours, err := proc.Namespace(unix.Getpid(), "ipc")
	theirs, err2 := proc.Namespace(s.pid, "ipc")
	machine := err == nil && err2 == nil && ours == theirs
	lost := len(lines) > 0
	last := "" // the path of the mapping before, mostly another part of the same file
	for m, err := range f.mappings {
		if err != nil {
			break
		}
		if !lost && m.Path != last && strings.HasPrefix(m.Path, "/") && !strings.HasSuffix(m.Path, proc.Deleted) {
			if line := seen.lost(-1, m.Link(s.pid), m.Path); line != "" {
				lines, lost = append(lines, line), true
			}
		}
		last = m.Path
		switch {
		case len(m.Path) > longestMapped:
			if !slices.Contains(lines, tooLongMapped) {
				add(tooLongMapped)
			}
		case strings.HasPrefix(m.Path, "/SYSV"):
			if machine {
				add("Task %d with SysVIPC shmem map @%x doesn't live in IPC ns", s.pid, m.Start)
				machine = false // one is enough
			}
		case strings.HasSuffix(m.Path, proc.Deleted):
			var st unix.Stat_t
			if unix.Stat(m.Link(s.pid), &st) != nil || st.Nlink == 0 {
				break
			}
			// The rings of io_setup(2) are files that never had a name.
			if name, removed := cutDeleted(m.Path, &st); removed && !strings.HasPrefix(name, "/memfd:") && name != "/[aio]" && OtherName(name, st.Dev, st.Ino) == "" {
				if line := fmt.Sprintf("Can't create link remap for %s. Use link-remap option", name); !slices.Contains(lines, line) {
					add("%s", line)
				}
			}
		}
	}
	if s.outOfDescriptors(nil) != "" {
		add("Can't create memfd in victim: %s", ckpt.Strerror(unix.EMFILE))
	}
	const code = 64 << 10 // CRIU's own that it has to put there, at the least
	if size := proc.AddressSpace(s.pid); f.memory.soft != unlimited && size+code > f.memory.soft {
		add("remote mmap() failed: %s", ckpt.Strerror(unix.ENOMEM))
	}
	return lines
}

// sameMounts reports whether a process has this one's mount namespace.
func sameMounts(pid int) bool {
	ours, err := proc.Namespace(os.Getpid(), "mnt")
	theirs, err2 := proc.Namespace(pid, "mnt")
	return err == nil && err2 == nil && ours == theirs
}

// seenMounts is the mounts that the root of the tree sees, and whether a process has this
// one's mount namespace.
type seenMounts struct {
	numbers map[int]uint64
	ours    bool
}

// lost returns what CRIU says of a file of the process, which a path in /proc leads to and link
// names, if its mount is not among these, as after 'umount --lazy', or if something was mounted
// over it; "" otherwise, and before Linux 5.8.
func (s seenMounts) lost(fd int, path, link string) string {
	if len(s.numbers) == 0 || !strings.HasPrefix(link, "/") {
		return ""
	}
	mount, _ := proc.MountAt(path)
	if mount == 0 {
		return ""
	}
	if _, here := s.numbers[mount]; !here {
		return fmt.Sprintf("Can't lookup mount=%d for fd=%d path=%s", mount, fd, link)
	}
	if s.ours && hidden(strings.TrimSuffix(link, proc.Deleted), mount) {
		return fmt.Sprintf("Open files on overmounted mounts are not supported yet; mount=%d fd=%d path=%s", mount, fd, link)
	}
	return ""
}

// hidden reports whether a name leads to another mount; of one that was removed, or whose
// directory was, what is left of its path.
func hidden(name string, mount int) bool {
	for {
		now, err := proc.MountAt(name)
		if err == unix.ENOENT || err == unix.ENOTDIR {
			name = filepath.Dir(name)
			continue
		}
		return err == nil && now != 0 && now != mount
	}
}

// inside reports whether a file without a name is on a file system of the kernel's own, which
// CRIU does not find: a message queue, or a memfd of huge pages.
func inside(path, name string) bool {
	const hugetlbfs = 0x958458f6
	var fs unix.Statfs_t
	return unix.Statfs(path, &fs) == nil && (fs.Type == mqueueMagic || uint32(fs.Type) == hugetlbfs && strings.HasPrefix(name, "/memfd:"))
}

// foreseeSocket looks at a socket, which is open here, too, for a moment.
func (s *situation) foreseeSocket(d proc.Descriptor, users bool, add func(format string, args ...any)) {
	ours, err := proc.CopyDescriptor(s.pid, d.FD)
	if err != nil {
		return
	}
	defer unix.Close(ours)
	option := func(level, name int) int {
		value, _ := unix.GetsockoptInt(ours, level, name)
		return value
	}
	const (
		corked   = 1  // UDP_CORK
		peerName = 28 // SO_PEERNAME
		mptcp    = 262
	)
	inode, _ := strconv.ParseUint(strings.Trim(d.Link, "socket:[]"), 10, 64)
	family, protocol := option(unix.SOL_SOCKET, unix.SO_DOMAIN), option(unix.SOL_SOCKET, unix.SO_PROTOCOL)
	if option(unix.SOL_SOCKET, unix.SO_TYPE) == unix.SOCK_RAW {
		protocol = unix.IPPROTO_RAW // CRIU saves these, whatever is in their packets
	}
	switch family {
	case unix.AF_PACKET:
	case unix.AF_UNIX:
		// To receive them, even to look (MSG_PEEK), would open files that are passed on.
		unread, _ := unix.IoctlGetInt(ours, unix.TIOCINQ)
		if unread > 0 && (option(unix.SOL_SOCKET, unix.SO_PASSCRED) != 0 || option(unix.SOL_SOCKET, unix.SO_TYPE) != unix.SOCK_STREAM && option(unix.SOL_SOCKET, unix.SO_TIMESTAMP)|option(unix.SOL_SOCKET, unix.SO_TIMESTAMPNS) != 0) {
			add("skqueue: Control messages in queue, not supported")
		}
	case unix.AF_INET, unix.AF_INET6:
		switch protocol {
		case mptcp, unix.IPPROTO_SCTP:
			add("inet: Unsupported proto %d for socket %x", protocol, inode)
		case unix.IPPROTO_TCP:
			// What is not closed and does not listen, and what was closed by the other end: it
			// still has the port of that end, after the family in struct sockaddr.
			if info, err := unix.GetsockoptTCPInfo(ours, unix.IPPROTO_TCP, unix.TCP_INFO); users && err == nil && info.State != unix.BPF_TCP_LISTEN &&
				(info.State != unix.BPF_TCP_CLOSE || option(unix.SOL_SOCKET, peerName)>>16 != 0) {
				add("Can't turn TCP repair mode ON: Operation not permitted")
			}
		case unix.IPPROTO_UDP, unix.IPPROTO_UDPLITE:
			if option(unix.IPPROTO_UDP, corked) != 0 {
				add("inet: Can't dump corked dgram socket %x", inode)
			}
		}
	case unix.AF_NETLINK:
		// To look into the queue would take an error from the program.
		poll := []unix.PollFd{{Fd: int32(ours), Events: unix.POLLIN}}
		if _, err := unix.Poll(poll, 0); err == nil && poll[0].Revents&unix.POLLIN != 0 {
			add("netlink: The socket has data to read")
		}
		// A bit for each group. CRIU reads 64 of them, and saves the first 32.
		var groups [2]uint32
		length := uint32(unsafe.Sizeof(groups))
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(ours), unix.SOL_NETLINK, unix.NETLINK_LIST_MEMBERSHIPS, uintptr(unsafe.Pointer(&groups)), uintptr(unsafe.Pointer(&length)), 0)
		if errno == 0 && (length > uint32(unsafe.Sizeof(groups)) || groups[1] != 0) {
			add("netlink: The netlink socket 0x%x has more than 32 groups", inode)
		} else if name, _ := unix.Getsockname(ours); groups[0] != 0 && name != nil && name.(*unix.SockaddrNetlink).Pid == 0 {
			add("netlink: The netlink socket 0x%x is bound to groups but not to portid", inode)
		}
	default:
		add("sockets: BUG! Unknown socket collected (family %d)", family)
	}
}

// info returns what the kernel says of a descriptor; "" where it does not.
func (s *situation) info(fd int, name string) string {
	value, _ := proc.FDInfo(s.pid, fd, name)
	return value
}

// longestMapped is the size of the longest path of a mapped file that CRIU reads, a page with
// what is before it in /proc/PID/smaps.
const longestMapped = 4096 - 74

const tooLongMapped = "bfd: The bfd buffer is too small"

// otherMap reports whether a BPF map is of a type that a criu does not save. Those built with
// libbpf save BPF_MAP_TYPE_HASH and BPF_MAP_TYPE_ARRAY, others none. Nothing is known of one
// that a script starts.
func (s *situation) otherMap(fd int, criu string) bool {
	if kind := s.info(fd, "map_type"); kind != "1" && kind != "2" {
		return kind != ""
	}
	program, err := os.ReadFile(criu)
	return err == nil && hints.IsProgram(criu) && !bytes.Contains(program, []byte("libbpf"))
}

// stopSignal returns the signal that has stopped a process; 0 where that cannot be seen. The
// kernel tells it only who traces the process, which stays stopped.
func stopSignal(pid int) unix.Signal {
	if _, frozen := proc.Frozen(pid); frozen {
		return 0 // it would have to run for a moment
	}
	runtime.LockOSThread() // which is the one that traces
	defer runtime.UnlockOSThread()
	var status unix.WaitStatus
	if unix.PtraceSeize(pid) != nil {
		return 0
	}
	defer func() { _ = unix.PtraceDetach(pid) }()
	if got, err := unix.Wait4(pid, &status, unix.WNOHANG|unix.WALL, nil); err != nil || got != pid || !status.Stopped() {
		return 0
	}
	return status.StopSignal()
}

// tunDevice is /dev/net/tun; see linux/miscdevice.h.
var tunDevice = unix.Mkdev(10, 200)

// unknownDevice reports whether a character device is of a kind that no CRIU knows, and
// that none of its plugins is for: of terminals that which stands for the one in the
// foreground, and serial ports; the memory of virtual consoles; and devices with one major
// number in common, such as /dev/fuse, except for tun and autofs.
func unknownDevice(device uint64) bool {
	switch minor := unix.Minor(device); unix.Major(device) {
	case 4:
		return minor == 0 || minor >= 64
	case 7:
		return true
	case 10:
		return minor != 200 && minor != 235
	}
	return false
}

// cutDeleted returns the name of a file of which /proc shows a link, and whether it was
// removed under that name. A name may end as the mark that /proc puts behind it.
func cutDeleted(link string, file *unix.Stat_t) (name string, removed bool) {
	var st unix.Stat_t
	name, removed = strings.CutSuffix(link, proc.Deleted)
	if removed && unix.Stat(link, &st) == nil && st.Dev == file.Dev && st.Ino == file.Ino {
		return link, false
	}
	return name, removed
}

// restorable is what of anonymous CRIU can restore, at least of some kinds.
var restorable = map[string]bool{"bpf-map": true, "[fanotify]": true}

// fromCriu begins a line that CRIU has written.
const fromCriu = "criu: "

// madeSince tells whether a process that was not in the tree when that was listed descends
// from its root, or has ended meanwhile.
func madeSince(root, pid int) bool { return proc.Ended(pid) || proc.Descends(pid, root) }
