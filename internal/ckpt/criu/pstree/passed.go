package pstree

import (
	"encoding/binary"
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
)

// What descriptors lead to, as far as /proc alone does not show it: sockets that are on
// their way to another socket, and to whom a file sends its signals.

// descriptors refuses what is open and CRIU cannot restore.
func (p *preflight) descriptors(s *subject) {
	pidfd := -1
	defer func() {
		if pidfd >= 0 {
			unix.Close(pidfd)
		}
	}()
	for d, err := range proc.Descriptors(s.Pid) {
		if err != nil {
			return
		}
		inode, socket := inodeOf(d, "socket")
		if socket {
			if n := proc.PassedOn(s.Pid, d.FD); n > 0 {
				p.passing = append(p.passing, passing{subject: s, fd: d.FD, inode: inode})
			}
		}
		// Others send no signals, or have an end that closing them would tell of.
		if !socket && !strings.HasPrefix(d.Link, "pipe:") && !strings.HasPrefix(d.Link, "/dev/pts/") {
			continue
		}
		if pidfd < 0 {
			if pidfd, err = unix.PidfdOpen(s.Pid, 0); err != nil {
				continue
			}
		}
		if kind, owner := ownerOf(pidfd, d.FD); owner != 0 && !p.owns(kind, owner) {
			p.refuse(syscall.EOPNOTSUPP, s, fmt.Sprintf("has a file open as descriptor %d that sends its signals to %s (F_SETOWN), which is not among those to be saved", d.FD, kind.name(owner)),
				"save them together, or have the program give the file another owner")
		}
	}
}

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

// ownerOf returns what gets the signals of a file that a process has open; 0 for
// nothing, for what has ended, and where it cannot be seen. The process is not touched:
// the file is opened here once more for a moment.
func ownerOf(pidfd, fd int) (ownerKind, int) {
	ours, err := unix.PidfdGetfd(pidfd, fd, 0)
	if err != nil {
		return 0, 0
	}
	defer unix.Close(ours)
	var owner struct{ kind, id int32 }
	if _, _, errno := unix.Syscall(unix.SYS_FCNTL, uintptr(ours), unix.F_GETOWN_EX, uintptr(unsafe.Pointer(&owner))); errno != 0 {
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
	if len(p.passing) == 0 || p.roots[kindNet] != p.ours[kindNet] {
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
		line := fmt.Sprintf("%s has a socket open as descriptor %d to which another socket, open nowhere else, is being passed (SCM_RIGHTS), which criu cannot restore", hints.Process(w.Pid), w.fd)
		p.found = append(p.found, &busyError{with(refusal(syscall.EBUSY, "%s", line), "try again, when the program has received it"), passedLimit})
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

// unixSocket is a UNIX socket of this network namespace.
type unixSocket struct {
	kind, state uint8  // SOCK_STREAM …, established …
	inode, peer uint64 // 0 for one that has not been accepted, or is closed
}

// established is TCP_ESTABLISHED of the kernel, which UNIX sockets have as well.
const established = 1

// unixSockets lists them, as ss(8) does: sock_diag(7).
func unixSockets() ([]unixSocket, error) {
	const (
		byFamily = 20 // SOCK_DIAG_BY_FAMILY
		showPeer = 4  // UDIAG_SHOW_PEER
		peer     = 2  // UNIX_DIAG_PEER
		request  = unix.SizeofNlMsghdr + 24
		body     = 16 // of struct unix_diag_msg
	)
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_INET_DIAG)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	m := binary.NativeEndian.AppendUint32(nil, request)
	m = binary.NativeEndian.AppendUint16(m, byFamily)
	m = binary.NativeEndian.AppendUint16(m, unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	m = append(m, make([]byte, 8)...)                   // sequence, port
	m = append(m, unix.AF_UNIX, 0, 0, 0)                // struct unix_diag_req
	m = binary.NativeEndian.AppendUint32(m, ^uint32(0)) // all states
	m = binary.NativeEndian.AppendUint32(m, 0)          // of no inode in particular
	m = binary.NativeEndian.AppendUint32(m, showPeer)
	m = append(m, make([]byte, 8)...) // cookie
	if err := unix.Sendto(fd, m, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, err
	}
	var all []unixSocket
	buf := make([]byte, 64<<10)
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		messages, err := syscall.ParseNetlinkMessage(buf[:n])
		if err != nil {
			return nil, err
		}
		for _, m := range messages {
			switch {
			case m.Header.Type == unix.NLMSG_DONE:
				return all, nil
			case m.Header.Type != byFamily || len(m.Data) < body:
				return nil, syscall.EPROTO
			}
			s := unixSocket{kind: m.Data[1], state: m.Data[2], inode: uint64(binary.NativeEndian.Uint32(m.Data[4:]))}
			for attrs := m.Data[body:]; len(attrs) >= unix.SizeofRtAttr; {
				size := int(binary.NativeEndian.Uint16(attrs))
				if size < unix.SizeofRtAttr || size > len(attrs) {
					break
				}
				if binary.NativeEndian.Uint16(attrs[2:]) == peer && size >= unix.SizeofRtAttr+4 {
					s.peer = uint64(binary.NativeEndian.Uint32(attrs[unix.SizeofRtAttr:]))
				}
				attrs = attrs[min((size+3)&^3, len(attrs)):]
			}
			all = append(all, s)
		}
	}
}
