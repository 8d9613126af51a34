package pstree

import (
	"encoding/binary"
	"fmt"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/hints"
	"blcr-cli/internal/proc"
)

// TCP connections. One of which both ends are in the tree is saved, and restored with
// what is on the way. The other end of any other would not know of the restart, and
// reset the connection; what the job had not sent yet would fail the restart.

// openSocket is a descriptor of a process that leads to a socket.
type openSocket struct {
	*subject
	fd int
}

// unreadLimit is how long a program is waited for that has not read what waits for it.
const unreadLimit = time.Second

// connections refuses those TCP connections.
func (p *preflight) connections() {
	if len(p.sockets) == 0 {
		return
	}
	sockets, err := tcpSockets()
	if err != nil {
		return // CRIU asks as well
	}
	otherEnd := otherEnds(sockets)
	for _, c := range sockets {
		h, ours := p.sockets[c.inode]
		if ours && c.waiting && c.inode != 0 {
			p.unaccepted(h, "a listening socket with a connection that it has not accepted yet")
		}
		if c.inode == 0 || !ours || c.state == listening || c.state == closed {
			continue
		}
		of := fmt.Sprintf("has a TCP connection to %s open as descriptor %d", c.peer, h.fd)
		other, known := otherEnd(c)
		_, inside := p.sockets[other.inode]
		switch {
		case !known && c.state == closeWait && (c.peer.ip == c.local.ip || c.peer.isLoopback()):
			// The other end was here, and has gone.
		case known && other.inode == 0 && slices.Contains([]uint8{finWait1, lastAck, closing}, other.state):
			p.refuseNow(unreadLimit, h.Pid, of+", whose other end was closed after it had sent more than has been read", "try again, when the program has read it")
		case known && other.inode == 0 && (other.state != established || p.accepts(sockets, other.local)):
			// Nothing is on the way; or it is still to be accepted, which CRIU reports.
		case !known || !inside:
			in, pid := "", holder(other.inode)
			if pid != 0 {
				in = ", in " + hints.Process(pid) + ","
			}
			e := with(refusal(syscall.EOPNOTSUPP, "%s %s, whose other end%s is not among those to be saved: it would be broken after a restart", hints.Process(h.Pid), of, in),
				"save it when the connection is closed, or save both ends together")
			if here := c.peer.ip == c.local.ip || c.peer.isLoopback(); !p.frozen && here && (pid == 0 || proc.Descends(pid, p.Root)) {
				// It was made or closed while its processes were looked at, one after the other.
				p.found = append(p.found, &busyError{e, unreadLimit})
			} else {
				p.found = append(p.found, e)
			}
		}
	}
}

// unaccepted refuses a socket of a connection that CRIU cannot save before it is accepted. It
// is found by CRIU as well, and here before anything is stopped.
func (p *preflight) unaccepted(h openSocket, what string) {
	p.refuseNow(unreadLimit, h.Pid, fmt.Sprintf("has %s open as descriptor %d, which criu cannot save", what, h.fd), "try again, when the connection has been accepted")
}

// unixConnections refuses UNIX sockets of which CRIU cannot save a connection that is not
// accepted yet. It can if that has sent nothing.
func (p *preflight) unixConnections() {
	if p.frozen || len(p.sockets) == 0 {
		return
	}
	sockets, err := unixSockets()
	if err != nil {
		return // CRIU asks as well
	}
	unread := make(map[uint64]bool)
	for _, s := range sockets {
		if s.unread {
			unread[s.inode] = true
		}
	}
	for _, s := range sockets {
		h, ours := p.sockets[s.inode]
		for peers := s.pending; ours && s.inode != 0 && len(peers) >= 4; peers = peers[4:] {
			peer := uint64(binary.NativeEndian.Uint32(peers))
			if of, inside := p.sockets[peer]; peer == 0 {
				p.unaccepted(h, "a listening socket with a connection that was closed before it was accepted")
			} else if inside && unread[peer] {
				p.unaccepted(of, "a socket that has sent something by a connection that is not accepted yet")
			}
		}
	}
}

// netlinkConnections refuses, for users, netlink sockets that are connected, also to the kernel:
// CRIU connects them to a multicast group as well, which only root may.
func (p *preflight) netlinkConnections() {
	if !p.user || len(p.sockets) == 0 {
		return
	}
	const (
		all       = 255 // protocols: NDIAG_PROTO_ALL
		connected = 1   // NETLINK_CONNECTED
		body      = 28  // of struct netlink_diag_msg
	)
	m := append([]byte{unix.AF_NETLINK, all}, make([]byte, 18)...) // struct netlink_diag_req
	_ = diagnose(m, body, func(data []byte) {
		h, ours := p.sockets[uint64(binary.NativeEndian.Uint32(data[16:]))]
		if ours && data[3] == connected {
			p.refuse(syscall.EPERM, h.subject, fmt.Sprintf("has a netlink socket open as descriptor %d that is connected, and only root may restore that", h.fd),
				"have the program use it without connect(2), or have root save and restart the job")
		}
	})
}

// accepts reports whether a process of the tree listens at an address.
func (p *preflight) accepts(sockets []connection, at endpoint) bool {
	return slices.ContainsFunc(sockets, func(c connection) bool {
		_, ours := p.sockets[c.inode]
		return c.state == listening && c.inode != 0 && ours && c.local.port == at.port
	})
}

// holder is which process has a socket open; 0 if that is not known.
func holder(inode uint64) int {
	pids, err := proc.All()
	if inode == 0 || err != nil {
		return 0
	}
	for pid := range pids {
		for d, err := range proc.Descriptors(pid) {
			if n, ok := inodeOf(d, "socket"); err == nil && ok && n == inode {
				return pid
			}
		}
	}
	return 0
}
