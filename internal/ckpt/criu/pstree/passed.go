package pstree

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/hints"
	"blcr-cli/internal/proc"
	"blcr-cli/internal/show"
)

// What descriptors lead to, as far as /proc alone does not show it: sockets that are on
// their way to another socket, and to whom a file sends its signals.

// descriptors refuses what is open and CRIU cannot restore.
func (p *preflight) descriptors(s *subject) {
	pidfd, highest := -1, -1
	defer func() {
		if pidfd >= 0 {
			unix.Close(pidfd)
		}
		p.highDescriptor(s, highest)
	}()
	for d, err := range proc.Descriptors(s.Pid) {
		if err != nil {
			return
		}
		highest = max(highest, d.FD)
		p.removed(s, proc.Open(s.Pid, d.FD), d.Link)
		p.ofProc(s, d)
		p.marks(s, d)
		p.watched(s, d)
		p.pressure(s, d)
		p.events(s, d)
		inode, socket := inodeOf(d, "socket")
		first := false
		if socket {
			first = p.sockets[inode] == (openSocket{})
			if first {
				p.sockets[inode] = openSocket{s, d.FD}
			}
			if n := proc.PassedOn(s.Pid, d.FD); n > 0 {
				p.passing = append(p.passing, passing{subject: s, fd: d.FD, inode: inode})
			}
		}
		inode, pipe := inodeOf(d, "pipe")
		if pipe {
			p.pipes[inode] = p.pipes[inode].add(s.Pid, d)
		}
		// Devices may do something when they are closed here, a file system may write what is in
		// memory, and of others it only matters whether their owner is a later thread.
		sends := socket || pipe || d.Master() || strings.HasPrefix(d.Link, "/dev/pts/")
		if !sends && !p.threaded || !sends && !slices.Contains(harmless, d.Link) && (!strings.HasPrefix(d.Link, "/") || strings.HasPrefix(d.Link, "/dev/") && !strings.HasPrefix(d.Link, "/dev/shm/")) {
			continue
		}
		if pidfd < 0 {
			if pidfd, err = unix.PidfdOpen(s.Pid, 0); err != nil {
				continue
			}
		}
		// The process is not touched: the file is opened here once more for a moment.
		ours, err := unix.PidfdGetfd(pidfd, d.FD, 0)
		if err != nil {
			continue
		}
		if first {
			p.failed(s, d.FD, ours)
			p.unsent(s, d.FD, ours)
			p.notHere(s, d.FD, ours)
			p.datagrams(s, d.FD, ours)
			p.urgent(s, d.FD, ours)
		}
		if d.Master() {
			p.output(s, d.FD, ours)
		}
		if pipe && !p.readable[inode] {
			if flags, err := unix.FcntlInt(uintptr(ours), unix.F_GETFL, 0); err == nil && flags&unix.O_ACCMODE != unix.O_WRONLY {
				p.readable[inode] = true
			}
		}
		kind, owner := ownerOf(ours)
		unix.Close(ours)
		switch {
		case owner == 0:
		case sends && !p.owns(kind, owner):
			p.refuse(syscall.EOPNOTSUPP, s, fmt.Sprintf("has a file open as descriptor %d that sends its signals to %s (F_SETOWN), which is not among those to be saved", d.FD, kind.name(owner)),
				"save them together, or have the program give the file another owner")
		case kind == ownerThread && later(owner) && p.owns(kind, owner):
			p.refuse(syscall.EOPNOTSUPP, s, fmt.Sprintf("has a file open as descriptor %d that sends its signals to %s (F_OWNER_TID), and criu restores files before any but first threads", d.FD, kind.name(owner)),
				"have the program give the file to the process (F_OWNER_PID), or to its first thread")
		}
	}
}

// failed refuses a UNIX or netlink socket with an error that the program has not been told yet:
// criu would be told it, when it looks into the queue. The socket is open here as ours.
func (p *preflight) failed(s *subject, fd, ours int) {
	poll := []unix.PollFd{{Fd: int32(ours)}}
	domain, _ := unix.GetsockoptInt(ours, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if _, err := unix.Poll(poll, 0); err != nil || poll[0].Revents&unix.POLLERR == 0 || domain != unix.AF_UNIX && domain != unix.AF_NETLINK {
		return
	}
	p.refuseNow(passedLimit, s.Pid, fmt.Sprintf("has a socket open as descriptor %d with an error that it has not read, and that criu would take", fd),
		"try again, when the program has received it, or closed the socket")
}

// unsent refuses a UNIX socket with something in its queue that CRIU loses: an empty message,
// for which it takes the end of the queue, or an urgent byte. Of messages, only the first one
// can be seen without having the job notice. The socket is open here as ours.
func (p *preflight) unsent(s *subject, fd, ours int) {
	option := func(name int) int {
		value, _ := unix.GetsockoptInt(ours, unix.SOL_SOCKET, name)
		return value
	}
	if option(unix.SO_DOMAIN) != unix.AF_UNIX || option(unix.SO_PEEK_OFF) >= 0 {
		return // of another kind; or the program looks into its queue itself
	}
	const look = unix.MSG_PEEK | unix.MSG_DONTWAIT
	what := "an empty message"
	if option(unix.SO_TYPE) == unix.SOCK_STREAM {
		what = "an urgent byte (MSG_OOB)"
		if n, _, err := unix.Recvfrom(ours, make([]byte, 1), look|unix.MSG_OOB); err != nil || n != 1 {
			return
		}
	} else {
		// What was shut down reads as an empty message, too.
		poll := []unix.PollFd{{Fd: int32(ours), Events: unix.POLLIN | unix.POLLRDHUP}}
		if _, err := unix.Poll(poll, 0); err != nil || poll[0].Revents != unix.POLLIN {
			return
		}
		if n, _, err := unix.Recvfrom(ours, nil, look|unix.MSG_TRUNC); err != nil || n != 0 {
			return
		}
	}
	p.refuseNow(passedLimit, s.Pid, fmt.Sprintf("has %s in the queue of a UNIX socket open as descriptor %d, which criu loses", what, fd),
		"try again, when the program has received it")
}

// notHere refuses a socket with an IPv4 address that the machine does not have, or not any more,
// and that CRIU could not give it again (IP_FREEBIND, IP_TRANSPARENT). The socket is open here as
// ours.
func (p *preflight) notHere(s *subject, fd, ours int) {
	name, err := unix.Getsockname(ours)
	at, ok := name.(*unix.SockaddrInet4)
	if err != nil || !ok || at.Addr[0] == 127 || at.Addr == [4]byte{} || p.roots[kindNet] != p.ours[kindNet] || hints.Bind(string(at.Addr[:]), 0, unix.SOCK_DGRAM) != unix.EADDRNOTAVAIL {
		return
	}
	p.refuse(syscall.EOPNOTSUPP, s, fmt.Sprintf("has a socket open as descriptor %d with the address %d.%d.%d.%d, which this machine does not have, and which criu could not give it again", fd, at.Addr[0], at.Addr[1], at.Addr[2], at.Addr[3]),
		"have the program close it, or give the machine that address, see ip-address(8)")
}

// ofProc refuses a file in /proc that is not there when CRIU opens the files of the job. It
// makes threads after that, and has a process that does nothing in the place of one that has
// ended.
func (p *preflight) ofProc(s *subject, d proc.Descriptor) {
	id, tid, of := proc.Shown(d.Link)
	if id == 0 {
		return
	}
	leader, err := proc.Leader(id)
	ended := err != nil
	if !ended && !slices.Contains(p.PIDs, leader) {
		return // it does not depend on the job
	}
	what := ""
	switch {
	case tid != id, !ended && leader != id:
		what = "a thread"
	case of == "fd" && ended:
		what = "descriptors of a process that has ended"
	case strings.HasPrefix(of, "fdinfo/") && id != s.Pid:
		what = "a descriptor of another process"
	default:
		return
	}
	p.refuse(syscall.EOPNOTSUPP, s, fmt.Sprintf("has %s open as descriptor %d, of %s, which is not there when criu opens the files of the job", show.Name(d.Link), d.FD, what),
		"have the program close it")
}

// watched refuses what is watched by inotify(7) or fanotify(7), and what criu cannot watch again:
// a symbolic link, which it follows, and a UNIX socket, which it may make again only later. It
// takes CAP_DAC_READ_SEARCH to see that. There may be thousands, so it is not done again when
// the processes are frozen.
func (p *preflight) watched(s *subject, d proc.Descriptor) {
	if d.Link != proc.Inotify && d.Link != proc.Fanotify || p.frozen {
		return
	}
	var opener proc.WatchOpener
	defer opener.Close()
	for _, w := range proc.Watched(s.Pid, d.FD) {
		file, _, err := opener.Open(w)
		if err == unix.EPERM {
			return
		} else if err != nil {
			continue
		}
		var st unix.Stat_t
		err = unix.Fstat(file, &st)
		name, _ := os.Readlink(proc.Open(unix.Getpid(), file))
		unix.Close(file)
		what := map[uint32]string{unix.S_IFLNK: "the symbolic link", unix.S_IFSOCK: "the UNIX socket"}[st.Mode&unix.S_IFMT]
		if err == nil && what != "" {
			p.refuse(syscall.EOPNOTSUPP, s, fmt.Sprintf("watches %s %s (descriptor %d), which criu cannot do again", what, show.Name(name), d.FD),
				"have the program watch the directory that it is in, or its target")
			return
		}
	}
}

// marks refuses a group of fanotify(7) that watches what CRIU does not save.
func (p *preflight) marks(s *subject, d proc.Descriptor) {
	if d.Link != proc.Fanotify {
		return
	}
	for _, name := range []string{"fanotify sdev", "fanotify mnt_ns"} { // FAN_MARK_FILESYSTEM, FAN_MARK_MNTNS
		if _, err := proc.FDInfo(s.Pid, d.FD, name); err == nil {
			p.refuse(syscall.EOPNOTSUPP, s, fmt.Sprintf("watches a whole file system by fanotify (descriptor %d), or a mount namespace, which criu does not save", d.FD),
				"have the program watch mounts or files, or close it")
			return
		}
	}
}

// pressure refuses a file of the kernel's pressure stall information that was opened to set a
// trigger. A restart opens it without that, and to wait for it then fails at once (POLLERR).
func (p *preflight) pressure(s *subject, d proc.Descriptor) {
	if d.Writable && (strings.HasPrefix(d.Link, "/proc/pressure/") || strings.HasPrefix(d.Link, "/sys/fs/cgroup/") && strings.HasSuffix(d.Link, ".pressure")) {
		p.refuse(syscall.EOPNOTSUPP, s, fmt.Sprintf("watches the pressure on resources by %s (descriptor %d), which criu does not save", show.Name(d.Link), d.FD),
			"have the program close it; what systemd has started watches none with MemoryPressureWatch=off")
	}
}

// harmless is what may be opened and closed here besides files of a file system.
var harmless = []string{proc.Inotify, proc.Fanotify, proc.TimerFD, proc.EventFD, "anon_inode:[signalfd]", "anon_inode:[eventpoll]", "/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"}

// ownerKind says what the number of a file's owner is, as of F_SETOWN_EX.
type ownerKind int32

// The kinds, F_OWNER_TID and so on.
const (
	ownerThread ownerKind = iota
	ownerProcess
	ownerGroup
)

func (k ownerKind) name(id int) string {
	switch k {
	case ownerThread:
		return fmt.Sprintf("thread %d", id)
	case ownerGroup:
		return fmt.Sprintf("process group %d", id)
	}
	return fmt.Sprintf("process %d", id)
}

// ownerOf returns what gets the signals of an open file; 0 for nothing, for what has ended,
// and where it cannot be seen.
func ownerOf(fd int) (ownerKind, int) {
	var owner struct{ kind, id int32 }
	if _, _, errno := unix.Syscall(unix.SYS_FCNTL, uintptr(fd), unix.F_GETOWN_EX, uintptr(unsafe.Pointer(&owner))); errno != 0 {
		return 0, 0
	}
	return ownerKind(owner.kind), int(owner.id)
}

// owns reports whether an owner of a file is in the tree.
func (p *preflight) owns(kind ownerKind, id int) bool {
	if kind == ownerGroup {
		for _, pid := range p.PIDs {
			if member := p.table[pid]; member != nil && member.Pgid == id {
				return true
			}
		}
		return false
	}
	leader, err := proc.Leader(id)
	return err != nil || slices.Contains(p.PIDs, leader) // one that has just ended owns nothing
}

// later reports whether a thread is not the first of its process.
func later(tid int) bool {
	leader, err := proc.Leader(tid)
	return err == nil && leader != tid
}

// passing is a socket that has descriptors in its queue which nobody has received yet
// (SCM_RIGHTS).
type passing struct {
	*subject
	fd    int
	inode uint64
}

// passedLimit is how long a program is waited for that has not received what is passed to
// it. Sockets of programs that have ended may stay for a moment, too.
const passedLimit = time.Second

// passedSockets refuses sockets that are on their way to another one and open nowhere
// else, where CRIU cannot bring back the two in an order: those that are on their way to
// their own peer, or that have none. CRIU restores all other descriptors that are on
// their way.
//
// What is in a queue cannot be seen, only that there is something. A socket that no
// process has open is in some queue.
func (p *preflight) passedSockets() {
	if len(p.passing) == 0 {
		return
	}
	sockets, err := unixSockets()
	if err != nil {
		return
	}
	waits := make(map[uint64]bool)
	for _, w := range p.passing {
		waits[w.inode] = true
	}
	open, complete := p.openSockets()
	for _, socket := range sockets {
		if socket.inode == 0 || open[socket.inode] {
			continue
		}
		alone := complete && socket.peer == 0 && (socket.kind == unix.SOCK_DGRAM || socket.state == established)
		if !alone && !waits[socket.peer] {
			continue
		}
		w := p.passing[0]
		for _, other := range p.passing {
			if other.inode == socket.peer {
				w = other
			}
		}
		p.refuseNow(passedLimit, w.Pid, fmt.Sprintf("has a socket open as descriptor %d to which another socket, open nowhere else, is being passed (SCM_RIGHTS), which criu cannot restore", w.fd),
			"try again, when the program has received it")
		return
	}
}

// openSockets returns the inodes of the sockets that any process has open. Complete is
// false where there is no permission to look at all of them.
func (p *preflight) openSockets() (open map[uint64]bool, complete bool) {
	open, complete = make(map[uint64]bool), true
	pids, err := proc.All()
	if err != nil {
		return open, false
	}
	for pid := range pids {
		for d, err := range proc.Descriptors(pid) {
			if errors.Is(err, os.ErrPermission) {
				complete = false
			}
			if inode, ok := inodeOf(d, "socket"); err == nil && ok {
				open[inode] = true
			}
		}
	}
	return open, complete
}
