package attributes

import (
	"encoding/binary"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestSockets: options of sockets that are other than those of a new one are noted, and set
// again, but those that are not known here are not.
func TestSockets(t *testing.T) {
	for _, x := range []struct {
		name         string
		domain, kind int
		options      []option
		value        uint32
	}{
		{"tcp", unix.AF_INET, unix.SOCK_STREAM, []option{{unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT}, {unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT}, {unix.IPPROTO_IP, unix.IP_MINTTL}}, 77},
		{"udp", unix.AF_INET, unix.SOCK_DGRAM, []option{{unix.IPPROTO_IP, unix.IP_RECVERR}, {unix.IPPROTO_IP, unix.IP_RECVTTL}, {unix.IPPROTO_UDP, unix.UDP_GRO}, {unix.SOL_SOCKET, unix.SO_RXQ_OVFL}}, 1},
		{"udp6", unix.AF_INET6, unix.SOCK_DGRAM, []option{{unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS}, {unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS}}, 9},
		{"traffic class of udp6", unix.AF_INET6, unix.SOCK_DGRAM, []option{{unix.IPPROTO_IP, unix.IP_TOS}, {unix.SOL_SOCKET, unix.SO_PRIORITY}}, 4},
		{"old options of udp6", unix.AF_INET6, unix.SOCK_DGRAM, []option{{unix.IPPROTO_IPV6, unix.IPV6_2292PKTINFO}, {unix.IPPROTO_IPV6, unix.IPV6_RECVRTHDR}, {unix.IPPROTO_IP, unix.IP_PKTINFO}}, 1},
		{"none", unix.AF_INET, unix.SOCK_DGRAM, nil, 0},
		{"tcp listener", unix.AF_INET, unix.SOCK_STREAM, []option{{unix.IPPROTO_TCP, unix.TCP_MAXSEG}, {unix.SOL_SOCKET, unix.SO_INCOMING_CPU}}, 1000},
		{"unix", unix.AF_UNIX, unix.SOCK_STREAM, []option{{unix.SOL_SOCKET, unix.SO_RXQ_OVFL}}, 1},
		{"netlink", unix.AF_NETLINK, unix.SOCK_RAW, []option{{unix.SOL_NETLINK, unix.NETLINK_EXT_ACK}}, 1},
	} {
		t.Run(x.name, func(t *testing.T) {
			fd, err := unix.Socket(x.domain, x.kind|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Skip(err) // no IPv6
			}
			defer func() { unix.Close(fd) }()
			value := binary.NativeEndian.AppendUint32(nil, x.value)
			for _, o := range x.options {
				o.write(fd, value)
				if string(o.read(fd)) != string(value) {
					t.Fatalf("%v cannot be set", o)
				}
			}
			noted := ""
			saved(os.Getpid(), func(name, value string) {
				if name == sockets {
					noted = value
				}
			})
			if strings.ContainsAny(noted, " \n") || (noted != "") != (x.options != nil) {
				t.Fatalf("noted %q", noted)
			}
			fresh, err := unix.Socket(x.domain, x.kind|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			if err := unix.Dup3(fresh, fd, unix.O_CLOEXEC); err != nil {
				t.Fatal(err)
			}
			unix.Close(fresh)
			// SO_BROADCAST is none of ours.
			more := noted + ",1.6=01000000"
			if setSockets(os.Getpid(), more+";99999:0.11=01000000"); x.domain == unix.AF_UNIX { // one of our own is left alone
				_, more, _ = strings.Cut(more, ":")
				setOptions(fd, more)
			}
			for _, o := range x.options {
				if got := o.read(fd); string(got) != string(value) {
					t.Errorf("%v is %x, want %x", o, got, value)
				}
			}
			if on, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BROADCAST); err != nil || on != 0 {
				t.Errorf("SO_BROADCAST is %d, %v", on, err)
			}
		})
	}
}

// TestNetlinkPeer: a netlink socket that was connected without a group is taken out of the one
// that CRIU connects it to, and one that was connected to a group, or to none, is left alone.
func TestNetlinkPeer(t *testing.T) {
	const criu = 1 << 31
	for _, groups := range []uint32{0, criu} {
		fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_USERSOCK)
		if err != nil {
			t.Skip(err)
		}
		defer unix.Close(fd)
		connect := func(groups uint32) {
			if err := unix.Connect(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
				t.Fatal(err)
			}
		}
		connect(groups)
		noted := newSocketSaver().noted(fd)
		connect(criu)
		setOptions(fd, strings.Join(noted, ","))
		peer, err := unix.Getpeername(fd)
		if err != nil {
			t.Fatal(err)
		}
		if got := peer.(*unix.SockaddrNetlink).Groups; got != groups {
			t.Errorf("groups %x, want %x", got, groups)
		}
	}
}

// TestReusePort: SO_REUSEPORT, which CRIU leaves on, is off again for a TCP socket where it was.
func TestReusePort(t *testing.T) {
	for _, want := range []int{0, 1} {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, want)
		noted := newSocketSaver().noted(fd)
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
		setOptions(fd, strings.Join(noted, ","))
		if got, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT); err != nil || got != want {
			t.Errorf("SO_REUSEPORT is %d, %v, want %d", got, err, want)
		}
	}
}
