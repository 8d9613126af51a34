package pstree

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// Sockets of this network namespace, as ss(8) lists them: sock_diag(7).

// unixSocket is a UNIX socket.
type unixSocket struct {
	kind, state uint8  // SOCK_STREAM …, established …
	inode, peer uint64 // 0 for one that has not been accepted, or is closed
	unread      bool   // it has sent what has not been read
	pending     []byte // the peers of those that it has not accepted: 32 bits for each inode, as above
}

// States of TCP in the kernel. UNIX sockets are in the first or the last, too.
const (
	established = 1
	finWait1    = 4
	timeWait    = 6
	closed      = 7
	closeWait   = 8
	lastAck     = 9
	listening   = 10
	closing     = 11
)

// unixSockets lists the UNIX sockets.
func unixSockets() (all []unixSocket, err error) {
	const (
		show    = 4 | 8 | 16 // UDIAG_SHOW_PEER, _ICONS, _RQLEN
		peer    = 2          // UNIX_DIAG_PEER
		pending = 3          // UNIX_DIAG_ICONS
		queues  = 4          // UNIX_DIAG_RQLEN
		body    = 16         // of struct unix_diag_msg
	)
	m := []byte{unix.AF_UNIX, 0, 0, 0}                  // struct unix_diag_req
	m = binary.NativeEndian.AppendUint32(m, ^uint32(0)) // all states
	m = binary.NativeEndian.AppendUint32(m, 0)          // of no inode in particular
	m = binary.NativeEndian.AppendUint32(m, show)
	m = append(m, make([]byte, 8)...) // cookie
	err = diagnose(m, body, func(data []byte) {
		s := unixSocket{kind: data[1], state: data[2], inode: uint64(binary.NativeEndian.Uint32(data[4:]))}
		for attrs := data[body:]; len(attrs) >= unix.SizeofRtAttr; {
			size := int(binary.NativeEndian.Uint16(attrs))
			if size < unix.SizeofRtAttr || size > len(attrs) {
				break
			}
			value := attrs[unix.SizeofRtAttr:size]
			switch kind := binary.NativeEndian.Uint16(attrs[2:]); {
			case kind == peer && len(value) >= 4:
				s.peer = uint64(binary.NativeEndian.Uint32(value))
			case kind == pending:
				s.pending = slices.Clone(value)
			case kind == queues && len(value) >= 8: // of a socket that listens: how many may wait
				s.unread = s.state == established && binary.NativeEndian.Uint32(value[4:]) != 0
			}
			attrs = attrs[min((size+3)&^3, len(attrs)):]
		}
		all = append(all, s)
	})
	return all, err
}

// endpoint is an address of TCP and a port, both in the order of the network. One of
// IPv4 is as IPv6 has it (::ffff:0:0/96).
type endpoint struct {
	ip   [16]byte
	port [2]byte
}

func (e endpoint) String() string {
	port := binary.BigEndian.Uint16(e.port[:])
	if e.isIPv4() {
		return fmt.Sprintf("%d.%d.%d.%d:%d", e.ip[12], e.ip[13], e.ip[14], e.ip[15], port)
	}
	text := ""
	for i := 0; i < len(e.ip); i += 2 {
		text += fmt.Sprintf(":%x", binary.BigEndian.Uint16(e.ip[i:]))
	}
	return fmt.Sprintf("[%s]:%d", text[1:], port)
}

func (e endpoint) addrPort() netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom16(e.ip).Unmap(), binary.BigEndian.Uint16(e.port[:]))
}

func (e endpoint) isIPv4() bool { return [12]byte(e.ip[:]) == [12]byte{10: 0xff, 11: 0xff} }

// isLoopback reports whether the address is this machine, whatever its own ones are.
func (e endpoint) isLoopback() bool { return e.isIPv4() && e.ip[12] == 127 || e.ip == [16]byte{15: 1} }

// connection is a TCP socket.
type connection struct {
	local, peer endpoint
	state       uint8
	family      uint8  // AF_INET or AF_INET6
	id          []byte // struct inet_diag_sockid
	inode       uint64 // 0 for one that has not been accepted, or that no process has open any more
	waiting     bool   // what listens has not accepted all
}

// tcpSockets lists the TCP sockets.
func tcpSockets() (all []connection, err error) {
	const body = 72 // of struct inet_diag_msg
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		m := []byte{family, unix.IPPROTO_TCP, 0, 0} // struct inet_diag_req_v2
		m = binary.NativeEndian.AppendUint32(m, ^uint32(0))
		m = append(m, make([]byte, 48)...) // of no address in particular
		err = diagnose(m, body, func(data []byte) {
			end := func(ip, port int) endpoint {
				e := endpoint{port: [2]byte(data[port:])}
				if data[0] == unix.AF_INET {
					e.ip = [16]byte{10: 0xff, 11: 0xff}
					copy(e.ip[12:], data[ip:ip+4])
				} else {
					copy(e.ip[:], data[ip:])
				}
				return e
			}
			all = append(all, connection{
				local: end(8, 4), peer: end(24, 6), state: data[1], family: data[0], id: slices.Clone(data[4:52]), inode: uint64(binary.NativeEndian.Uint32(data[68:])),
				waiting: data[1] == listening && binary.NativeEndian.Uint32(data[56:]) != 0, // idiag_rqueue
			})
		})
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// TCPPeers returns the inodes of the other ends of TCP sockets of this network namespace,
// by inode; of those whose other end is here, too, and not closed.
func TCPPeers() (map[uint64]uint64, error) {
	sockets, err := tcpSockets()
	if err != nil {
		return nil, err
	}
	otherEnd := otherEnds(sockets)
	peers := make(map[uint64]uint64)
	for _, c := range sockets {
		if other, _ := otherEnd(c); c.inode != 0 && other.inode != 0 {
			peers[c.inode] = other.inode
		}
	}
	return peers, nil
}

// otherEnds returns a function that finds the other end of a TCP connection.
func otherEnds(sockets []connection) func(connection) (other connection, known bool) {
	type ends struct{ local, peer endpoint }
	others := make(map[ends]connection)
	for _, c := range sockets {
		others[ends{c.peer, c.local}] = c
	}
	return func(c connection) (connection, bool) {
		other, known := others[ends{c.local, c.peer}]
		return other, known
	}
}

// OnlyEnded reports whether a local port is only that of TCP connections that have ended
// (TIME-WAIT).
func OnlyEnded(port uint16) bool {
	sockets, err := tcpSockets()
	sockets = slices.DeleteFunc(sockets, func(c connection) bool { return c.local.addrPort().Port() != port })
	return err == nil && len(sockets) > 0 && !slices.ContainsFunc(sockets, func(c connection) bool { return c.state != timeWait })
}

// Forget has the kernel forget what it remembers of connections that have ended
// (TIME-WAIT), and only of those that a function names by their ends. It does nothing where
// that takes more rights, or a newer kernel.
func Forget(ended func(local, peer netip.AddrPort) bool) {
	sockets, err := tcpSockets()
	if err != nil {
		return
	}
	for _, c := range sockets {
		if c.state == timeWait && ended(c.local.addrPort(), c.peer.addrPort()) {
			// The id has the kernel's cookie of this very socket.
			m := append([]byte{c.family, unix.IPPROTO_TCP, 0, 0}, binary.NativeEndian.AppendUint32(nil, 1<<timeWait)...)
			_ = ask(destroyByFamily, unix.NLM_F_ACK, append(m, c.id...), 0, nil)
		}
	}
}

// diagnose asks the kernel for sockets, and calls found with each answer, which has at
// least size bytes.
func diagnose(request []byte, size int, found func(data []byte)) error {
	return ask(byFamily, unix.NLM_F_DUMP, request, size, found)
}

// Requests: SOCK_DIAG_BY_FAMILY and SOCK_DESTROY.
const (
	byFamily        = 20
	destroyByFamily = 21
)

// ask makes a request. An answer that is not one is EPROTO.
func ask(kind, flags uint16, request []byte, size int, found func(data []byte)) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_INET_DIAG)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	m := binary.NativeEndian.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(request)))
	m = binary.NativeEndian.AppendUint16(m, kind)
	m = binary.NativeEndian.AppendUint16(m, unix.NLM_F_REQUEST|flags)
	m = append(m, make([]byte, 8)...) // sequence, port
	if err := unix.Sendto(fd, append(m, request...), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	buf := make([]byte, 64<<10)
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		messages, err := syscall.ParseNetlinkMessage(buf[:n])
		if err != nil {
			return err
		}
		for _, m := range messages {
			switch {
			case m.Header.Type == unix.NLMSG_DONE:
				return nil
			case m.Header.Type == unix.NLMSG_ERROR && flags == unix.NLM_F_ACK:
				return nil // done, or not: nothing depends on it
			case m.Header.Type != kind || len(m.Data) < size:
				return syscall.EPROTO
			}
			found(m.Data)
		}
	}
}
