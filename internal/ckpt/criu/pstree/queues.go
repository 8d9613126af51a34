package pstree

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/proc"
)

// What waits in the queue of a descriptor until the program reads it, and CRIU loses.

// unread refuses a process with something in a queue.
func (p *preflight) unread(s *subject, format string, args ...any) {
	p.refuseNow(unreadLimit, s.Pid, "has "+fmt.Sprintf(format, args...), "try again, when the program has read it")
}

// events refuses a descriptor of inotify(7) or fanotify(7) with events. When the tree is frozen,
// CRIU has opened and read files itself: events of that are none of the program's.
func (p *preflight) events(s *subject, d proc.Descriptor) {
	const reads = unix.IN_ACCESS | unix.IN_OPEN | unix.IN_CLOSE_NOWRITE // and those of fanotify(7)
	what := map[string]string{proc.Inotify: "inotify", proc.Fanotify: "fanotify"}[d.Link]
	if what == "" {
		return
	}
	if p.frozen {
		for _, watch := range proc.Watched(s.Pid, d.FD) {
			if watch.Mask&reads != 0 {
				return
			}
		}
	}
	ours, err := proc.CopyDescriptor(s.Pid, d.FD)
	if err != nil {
		return
	}
	defer unix.Close(ours)
	if n, err := unix.IoctlGetInt(ours, unix.TIOCINQ); err == nil && n > 0 {
		p.unread(s, "events of %s(7) in descriptor %d that it has not read, and criu loses them", what, d.FD)
	}
}

// datagram is a message of UDP that was not read.
type datagram struct {
	openSocket
	from netip.AddrPort
}

// datagrams looks at a UDP socket, which is open here as ours: what its address is, and from
// where the first message in its queue is, which is not taken out.
func (p *preflight) datagrams(s *subject, fd, ours int) {
	option := func(name int) int {
		value, _ := unix.GetsockoptInt(ours, unix.SOL_SOCKET, name)
		return value
	}
	if domain := option(unix.SO_DOMAIN); domain != unix.AF_INET && domain != unix.AF_INET6 || option(unix.SO_PROTOCOL) != unix.IPPROTO_UDP {
		return
	}
	if own, err := unix.Getsockname(ours); err == nil {
		p.udp = append(p.udp, addrPortOf(own))
	}
	// With an error, that would be taken.
	poll := []unix.PollFd{{Fd: int32(ours), Events: unix.POLLIN}}
	if _, err := unix.Poll(poll, 0); err != nil || poll[0].Revents != unix.POLLIN {
		return
	}
	if _, from, err := unix.Recvfrom(ours, nil, unix.MSG_PEEK|unix.MSG_DONTWAIT|unix.MSG_TRUNC); err == nil {
		p.unreceived = append(p.unreceived, datagram{openSocket{s, fd}, addrPortOf(from)})
	}
}

func addrPortOf(address unix.Sockaddr) netip.AddrPort {
	switch a := address.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr).Unmap(), uint16(a.Port))
	}
	return netip.AddrPort{}
}

// ownDatagrams refuses messages that one socket of the tree has sent to another. One from
// outside is as one that the network loses, and as those that come before the restart.
func (p *preflight) ownDatagrams() {
	for _, d := range p.unreceived {
		for _, own := range p.udp {
			if d.from.IsValid() && own.Port() == d.from.Port() && (own.Addr().IsUnspecified() || own.Addr() == d.from.Addr()) {
				p.unread(d.subject, "a message in the queue of a UDP socket open as descriptor %d that the job itself has sent, and criu loses it", d.fd)
				break
			}
		}
	}
}

// output refuses a master of a pseudo terminal whose other end was closed, with output that the
// program has not read. It is open here as ours.
func (p *preflight) output(s *subject, fd, ours int) {
	poll := []unix.PollFd{{Fd: int32(ours), Events: unix.POLLIN}}
	if _, err := unix.Poll(poll, 0); err == nil && poll[0].Revents&(unix.POLLIN|unix.POLLHUP) == unix.POLLIN|unix.POLLHUP {
		p.unread(s, "output of a pseudo terminal (descriptor %d), whose other end was closed, that it has not read, and criu loses it", fd)
	}
}

// urgent refuses a TCP socket with an urgent byte (MSG_OOB). It is open here as ours.
func (p *preflight) urgent(s *subject, fd, ours int) {
	poll := []unix.PollFd{{Fd: int32(ours), Events: unix.POLLPRI}}
	protocol, _ := unix.GetsockoptInt(ours, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	if _, err := unix.Poll(poll, 0); err == nil && protocol == unix.IPPROTO_TCP && poll[0].Revents&unix.POLLPRI != 0 {
		p.unread(s, "an urgent byte (MSG_OOB) in a TCP socket open as descriptor %d that it has not read, and criu loses it", fd)
	}
}
