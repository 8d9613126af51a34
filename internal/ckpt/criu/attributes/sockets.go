package attributes

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/proc"
)

// A socket has options that CRIU neither saves nor refuses. They are noted where they are
// other than those of a new socket, and set again.
//
//	sockets=3:6.18=88130000,6.13=72656e6f;5:17.104=01000000
//
// That is descriptor 3 with TCP_USER_TIMEOUT of 5,000 ms and TCP_CONGESTION of reno, and
// descriptor 5 with UDP_GRO. Values are in hexadecimal, as getsockopt(2) returns them.

// option is an option of sockets: a level and a number, as of getsockopt(2).
type option struct{ level, number int }

// The options, by the level. Those that package unix does not name are from linux/in.h,
// linux/in6.h, linux/tcp.h and linux/netlink.h. CRIU sets what is missing here, as
// SO_SNDBUF and TCP_NODELAY.
var (
	socketOptions = numbers(unix.SOL_SOCKET, unix.SO_TIMESTAMP, unix.SO_TIMESTAMPNS, unix.SO_TIMESTAMPING, unix.SO_RXQ_OVFL,
		unix.SO_PEEK_OFF, unix.SO_SELECT_ERR_QUEUE, unix.SO_BUSY_POLL, unix.SO_MAX_PACING_RATE, unix.SO_ZEROCOPY,
		unix.SO_TIMESTAMP_NEW, unix.SO_TIMESTAMPNS_NEW, unix.SO_TIMESTAMPING_NEW, unix.SO_TXREHASH, unix.SO_RCVMARK, unix.SO_RCVPRIORITY, unix.SO_LOCK_FILTER, unix.SO_INCOMING_CPU)
	ipOptions = numbers(unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_RECVERR, unix.IP_RECVTTL, unix.IP_RECVTOS, unix.IP_TRANSPARENT,
		unix.IP_RECVORIGDSTADDR, unix.IP_MINTTL, unix.IP_NODEFRAG, unix.IP_BIND_ADDRESS_NO_PORT, unix.IP_RECVFRAGSIZE,
		unix.IP_MULTICAST_IF, unix.IP_MULTICAST_TTL, unix.IP_MULTICAST_LOOP, unix.IP_MULTICAST_ALL, unix.IP_UNICAST_IF,
		unix.IP_TOS, unix.IP_TTL, unix.IP_PKTINFO, // which CRIU sets for AF_INET only
		unix.IP_RECVOPTS, unix.IP_RETOPTS, unix.IP_PASSSEC, unix.IP_CHECKSUM, unix.IP_RECVERR_RFC4884, unix.IP_LOCAL_PORT_RANGE)
	ipv6Options = numbers(unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, unix.IPV6_MULTICAST_IF, unix.IPV6_MULTICAST_HOPS,
		unix.IPV6_MULTICAST_LOOP, unix.IPV6_MTU_DISCOVER, unix.IPV6_RECVERR, unix.IPV6_MULTICAST_ALL, unix.IPV6_RECVPKTINFO,
		unix.IPV6_RECVHOPLIMIT, unix.IPV6_RECVPATHMTU, unix.IPV6_DONTFRAG, unix.IPV6_RECVTCLASS, unix.IPV6_TCLASS,
		unix.IPV6_AUTOFLOWLABEL, unix.IPV6_MINHOPCOUNT, unix.IPV6_RECVORIGDSTADDR, unix.IPV6_TRANSPARENT, unix.IPV6_UNICAST_IF, unix.IPV6_FREEBIND,
		unix.IPV6_2292PKTINFO, unix.IPV6_2292HOPOPTS, unix.IPV6_2292DSTOPTS, unix.IPV6_2292RTHDR, unix.IPV6_2292HOPLIMIT,
		unix.IPV6_RECVHOPOPTS, unix.IPV6_RECVRTHDR, unix.IPV6_RECVDSTOPTS, unix.IPV6_RECVFRAGSIZE, unix.IPV6_RECVERR_RFC4884,
		unix.IPV6_ROUTER_ALERT_ISOLATE, ipv6Flowinfo, ipv6FlowinfoSend)
	tcpOptions = numbers(unix.IPPROTO_TCP, unix.TCP_SYNCNT, unix.TCP_LINGER2, unix.TCP_DEFER_ACCEPT, unix.TCP_CONGESTION,
		unix.TCP_THIN_LINEAR_TIMEOUTS, unix.TCP_USER_TIMEOUT, unix.TCP_FASTOPEN, unix.TCP_NOTSENT_LOWAT, unix.TCP_SAVE_SYN,
		unix.TCP_FASTOPEN_CONNECT, unix.TCP_INQ, unix.TCP_TX_DELAY)
	// CRIU sets it for every socket, and does not take it back for connections.
	reusePort = option{unix.SOL_SOCKET, unix.SO_REUSEPORT}
	// The kernel computes them for each connection.
	listenerOptions = numbers(unix.IPPROTO_TCP, unix.TCP_MAXSEG, unix.TCP_WINDOW_CLAMP)
	unixOptions     = numbers(unix.SOL_SOCKET, unix.SO_TIMESTAMP, unix.SO_TIMESTAMPNS, unix.SO_TIMESTAMPING, unix.SO_RXQ_OVFL,
		unix.SO_PEEK_OFF, unix.SO_SELECT_ERR_QUEUE, unix.SO_TIMESTAMP_NEW, unix.SO_TIMESTAMPNS_NEW, unix.SO_TIMESTAMPING_NEW,
		unix.SO_PASSPIDFD, unix.SO_PASSRIGHTS, unix.SO_LOCK_FILTER)
	udpOptions     = numbers(unix.IPPROTO_UDP, unix.UDP_NO_CHECK6_TX, unix.UDP_NO_CHECK6_RX, unix.UDP_SEGMENT, unix.UDP_GRO)
	rawOptions     = numbers(unix.SOL_RAW, icmpFilter)
	netlinkOptions = numbers(unix.SOL_NETLINK, netlinkPeer, unix.NETLINK_PKTINFO, unix.NETLINK_BROADCAST_ERROR, unix.NETLINK_NO_ENOBUFS,
		unix.NETLINK_LISTEN_ALL_NSID, unix.NETLINK_CAP_ACK, unix.NETLINK_EXT_ACK, unix.NETLINK_GET_STRICT_CHK)
)

const (
	icmpFilter       = 1  // ICMP_FILTER (linux/icmp.h)
	ipv6Flowinfo     = 11 // IPV6_FLOWINFO (linux/in6.h)
	ipv6FlowinfoSend = 33 // IPV6_FLOWINFO_SEND

	// netlinkPeer is not an option, but the groups that a netlink socket is connected to, as
	// of getpeername(2). CRIU connects one that has none to group 32.
	netlinkPeer = 0
)

// always reports whether an option is noted also if it is that of a new socket, because CRIU
// makes another of it.
func (o option) always() bool { return o == reusePort || o.isNetlinkPeer() }

func (o option) isNetlinkPeer() bool { return o == option{unix.SOL_NETLINK, netlinkPeer} }

func numbers(level int, list ...int) (options []option) {
	for _, number := range list {
		options = append(options, option{level, number})
	}
	return options
}

// socketKind is what socket(2) makes.
type socketKind struct{ domain, kind, protocol int }

// kindOf returns the kind of a socket.
func kindOf(fd int) (k socketKind, err error) {
	if k.domain, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN); err != nil {
		return k, err
	}
	if k.kind, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE); err != nil {
		return k, err
	}
	k.protocol, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	return k, err
}

// options returns the options that sockets of a kind may have.
func (k socketKind) options() (options []option) {
	switch k.domain {
	case unix.AF_NETLINK:
		return append(append(options, socketOptions...), netlinkOptions...)
	case unix.AF_INET6:
		options = append(options, ipv6Options...)
	case unix.AF_INET:
	case unix.AF_UNIX:
		return unixOptions
	default:
		return nil
	}
	options = append(append(options, socketOptions...), ipOptions...)
	options = append(options, option{unix.SOL_SOCKET, unix.SO_PRIORITY}) // after IP_TOS, which changes it
	switch {
	case k.kind == unix.SOCK_RAW:
		return append(options, rawOptions...)
	case k.protocol == unix.IPPROTO_TCP:
		return append(append(append(options, tcpOptions...), listenerOptions...), reusePort)
	case k.protocol == unix.IPPROTO_UDP:
		return append(options, udpOptions...)
	}
	return options
}

// read returns the value of an option; nil where a socket has none.
func (o option) read(fd int) []byte {
	var value [64]byte
	length := uint32(len(value))
	if o.isNetlinkPeer() {
		if peer, err := unix.Getpeername(fd); err == nil {
			if peer, ok := peer.(*unix.SockaddrNetlink); ok {
				return binary.NativeEndian.AppendUint32(nil, peer.Groups)
			}
		}
		return nil
	}
	if slices.Contains(listenerOptions, o) && isConnection(fd) {
		return nil
	}
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(o.level), uintptr(o.number),
		uintptr(unsafe.Pointer(&value[0])), uintptr(unsafe.Pointer(&length)), 0)
	if errno != 0 || length == 0 || length > uint32(len(value)) {
		return nil
	}
	return value[:length]
}

// isConnection reports whether a TCP socket is, or was, connected.
func isConnection(fd int) bool {
	const closed, listening = 7, 10 // TCP_CLOSE, TCP_LISTEN
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	return err != nil || info.State != closed && info.State != listening
}

// write sets an option. A netlink socket is taken out of a group, never put into one, which may
// take more power than the one has who has made the value.
func (o option) write(fd int, value []byte) {
	if o.isNetlinkPeer() {
		peer, err := unix.Getpeername(fd)
		if peer, ok := peer.(*unix.SockaddrNetlink); err == nil && ok && bytes.Equal(value, make([]byte, 4)) {
			_ = unix.Connect(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Pid: peer.Pid})
		}
		return
	}
	_ = unix.SetsockoptString(fd, o.level, o.number, string(value))
}

// setting is an option with its value; nil where a socket has none.
type setting struct {
	option
	value []byte
}

// socketSaver notes the options of sockets.
type socketSaver struct {
	seen map[string]bool // sockets that were noted, as /proc names them
	own  map[socketKind][]setting
}

func newSocketSaver() *socketSaver {
	return &socketSaver{seen: make(map[string]bool), own: make(map[socketKind][]setting)}
}

// of returns the options of a socket that is open in a process, as they are noted, and the
// groups that it is in; nothing if there is nothing to be noted, or another process has it open,
// too, and was asked before.
func (s *socketSaver) of(pid int, d proc.Descriptor, m memberships) (options string, joined []string) {
	if s.seen[d.Link] {
		return "", nil
	}
	s.seen[d.Link] = true
	fd, err := proc.CopyDescriptor(pid, d.FD)
	if err != nil {
		return "", nil
	}
	defer unix.Close(fd)
	if noted := s.noted(fd); len(noted) > 0 {
		options = fmt.Sprintf("%d:%s", d.FD, strings.Join(noted, ","))
	}
	return options, m.of(pid, d.FD, fd)
}

// noted returns the options of a socket that are other than those of a new one.
func (s *socketSaver) noted(fd int) (list []string) {
	kind, err := kindOf(fd)
	if err != nil {
		return nil
	}
	for _, o := range s.initial(kind) {
		if value := o.read(fd); value != nil && !bytes.Equal(value, o.value) {
			list = append(list, fmt.Sprintf("%d.%d=%s", o.level, o.number, hex.EncodeToString(value)))
		}
	}
	return list
}

// initial returns the options of a new socket of a kind. Without one, as where only root may
// make it, they have no values.
func (s *socketSaver) initial(kind socketKind) []setting {
	if settings, known := s.own[kind]; known {
		return settings
	}
	fd, err := unix.Socket(kind.domain, kind.kind|unix.SOCK_CLOEXEC, kind.protocol)
	if err == nil {
		defer unix.Close(fd)
	}
	var settings []setting
	for _, o := range kind.options() {
		value := o.read(fd)
		if o.always() {
			value = nil
		}
		settings = append(settings, setting{o, value})
	}
	s.own[kind] = settings
	return settings
}

// setSockets sets the options in a list, which anyone may have made, for sockets of a
// process, unless they are the standard descriptors of this process.
func setSockets(pid int, list string) {
	for text := range strings.SplitSeq(list, ";") {
		number, noted, _ := strings.Cut(text, ":")
		fd, err := strconv.Atoi(number)
		if err != nil {
			return
		}
		socket, err := proc.CopyDescriptor(pid, fd)
		if err != nil {
			continue
		}
		own := 0
		if kind, err := kindOf(socket); err == nil && kind.domain == unix.AF_UNIX {
			own = fd
		}
		if !isInherited(socket, own) {
			setOptions(socket, noted)
		}
		unix.Close(socket)
	}
}

// setOptions sets those options of a socket that are other than in a list.
func setOptions(fd int, list string) {
	kind, err := kindOf(fd)
	if err != nil {
		return
	}
	values := make(map[string]string)
	for text := range strings.SplitSeq(list, ",") {
		name, value, _ := strings.Cut(text, "=")
		values[name] = value
	}
	for _, o := range kind.options() {
		value, err := hex.DecodeString(values[fmt.Sprintf("%d.%d", o.level, o.number)])
		if err == nil && len(value) > 0 && !bytes.Equal(value, o.read(fd)) {
			o.write(fd, value)
		}
	}
}

// change calls f with a copy of a descriptor of a process, to set what was noted of it, unless
// that is one of the standard descriptors of this process.
func change(pid, number int, f func(fd int)) {
	fd, err := proc.CopyDescriptor(pid, number)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	if !isStandard(fd) {
		f(fd)
	}
}

// isStandard reports whether a file is one of the standard descriptors of this process.
func isStandard(fd int) bool { return isInherited(fd, 0) }

// isInherited reports whether a file, which a process has open under a number, is one of the
// standard descriptors of this process, or what this one has open under that number: a restart
// may have put it in the place of another.
func isInherited(fd, number int) bool {
	var file, own unix.Stat_t
	if unix.Fstat(fd, &file) != nil {
		return true
	}
	for _, n := range []int{0, 1, 2, number} {
		if unix.Fstat(n, &own) == nil && own.Dev == file.Dev && own.Ino == file.Ino {
			return true
		}
	}
	return false
}
