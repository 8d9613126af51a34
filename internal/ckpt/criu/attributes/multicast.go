package attributes

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/proc"
)

// A socket is in multicast groups, which CRIU does not save. The kernel says in which groups
// anybody is, and of a socket whether it is in a given one. They are noted with the name of the
// interface in hexadecimal, the group, the mode of the filter, and the sources in that:
//
//	groups=3/6c6f/239.1.2.3/0;4/65746830/ff15::1234/1/fd00::1,fd00::2

// Options of IPPROTO_IP and IPPROTO_IPV6, and modes of filters (linux/in.h).
const (
	mcastJoinGroup = 42 // MCAST_JOIN_GROUP
	mcastFilter    = 48 // MCAST_MSFILTER
	mcastExclude   = 0
)

// mostSources is how many sources a filter may have: the limit of IPv6 that the kernel has set.
const mostSources = 64

// groupRequest and groupFilter are struct group_req and struct group_filter.
type groupRequest struct {
	index uint32
	group unix.SockaddrStorage
}

type groupFilter struct {
	groupRequest
	mode, count uint32
	sources     [mostSources]unix.SockaddrStorage
}

// size is that of a filter with its sources.
func (f *groupFilter) size() uintptr {
	return unsafe.Offsetof(f.sources) + uintptr(f.count)*unsafe.Sizeof(f.sources[0])
}

// setsockopt is setsockopt(2) for any value.
func setsockopt(fd, level, number int, value unsafe.Pointer, size uintptr) error {
	_, _, errno := unix.Syscall6(unix.SYS_SETSOCKOPT, uintptr(fd), uintptr(level), uintptr(number), uintptr(value), size, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

func storageOf(ip netip.Addr) (s unix.SockaddrStorage) {
	if s.Family = unix.AF_INET; ip.Is6() {
		s.Family = unix.AF_INET6
	}
	bytes := ip.AsSlice()
	data := unsafe.Slice((*byte)(unsafe.Pointer(&s)), unsafe.Sizeof(s))
	copy(data[addressAt(ip.Is6()):], bytes)
	return s
}

func addressOf(s *unix.SockaddrStorage) netip.Addr {
	data := unsafe.Slice((*byte)(unsafe.Pointer(s)), unsafe.Sizeof(*s))
	if at := addressAt(s.Family == unix.AF_INET6); s.Family == unix.AF_INET6 {
		return netip.AddrFrom16([16]byte(data[at:]))
	} else {
		return netip.AddrFrom4([4]byte(data[at:]))
	}
}

// addressAt is where struct sockaddr_in or sockaddr_in6 has the address.
func addressAt(six bool) uintptr {
	if six {
		return unsafe.Offsetof(unix.RawSockaddrInet6{}.Addr)
	}
	return unsafe.Offsetof(unix.RawSockaddrInet4{}.Addr)
}

func levelOf(ip netip.Addr) int {
	if ip.Is6() {
		return unix.IPPROTO_IPV6
	}
	return unix.IPPROTO_IP
}

// memberships has the groups of the network namespaces that were looked at, by their inodes.
type memberships map[uint64][]proc.Membership

// of returns in which of them a socket is that is fd here and number in a process.
func (m memberships) of(pid, number, fd int) (noted []string) {
	kind, err := kindOf(fd)
	if err != nil || kind.kind != unix.SOCK_DGRAM && kind.kind != unix.SOCK_RAW || kind.domain != unix.AF_INET && kind.domain != unix.AF_INET6 {
		return nil
	}
	namespace, err := proc.Namespace(pid, "net")
	if err != nil {
		return nil
	}
	all, known := m[namespace]
	if !known {
		all = proc.Memberships(pid)
		m[namespace] = all
	}
	for _, group := range all {
		if group.IP.Is6() && kind.domain == unix.AF_INET {
			continue
		}
		f := groupFilter{groupRequest: groupRequest{index: uint32(group.Index), group: storageOf(group.IP)}, count: mostSources}
		size := uint32(f.size())
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(levelOf(group.IP)), mcastFilter,
			uintptr(unsafe.Pointer(&f)), uintptr(unsafe.Pointer(&size)), 0)
		if errno != 0 || f.count > mostSources {
			continue // it is in another one
		}
		text := fmt.Sprintf("%d %s %s %d", number, hex.EncodeToString([]byte(group.Interface)), group.IP, f.mode)
		var sources []string
		for i := range f.sources[:f.count] {
			sources = append(sources, addressOf(&f.sources[i]).String())
		}
		if sources != nil {
			text += " " + strings.Join(sources, ",")
		}
		noted = append(noted, strings.ReplaceAll(text, " ", "/"))
	}
	return noted
}

// join puts sockets of a process into the groups in a list, which anyone may have made. It
// leaves out those of interfaces that are not here.
func join(pid int, list string) {
	for text := range strings.SplitSeq(list, ";") {
		words := strings.Split(text, "/")
		if len(words) < 4 {
			return
		}
		fd, err := strconv.Atoi(words[0])
		name, err2 := hex.DecodeString(words[1])
		group, err3 := netip.ParseAddr(words[2])
		mode, err4 := strconv.ParseUint(words[3], 10, 32)
		if err != nil || err2 != nil || err3 != nil || err4 != nil || len(name) >= unix.IFNAMSIZ {
			return
		}
		f := groupFilter{mode: uint32(mode)}
		if len(words) > 4 {
			for source := range strings.SplitSeq(words[4], ",") {
				if ip, err := netip.ParseAddr(source); err == nil && f.count < mostSources {
					f.sources[f.count] = storageOf(ip)
					f.count++
				}
			}
		}
		change(pid, fd, func(socket int) { f.join(socket, string(name), group) })
	}
}

func (f *groupFilter) join(socket int, name string, group netip.Addr) {
	// The socket may be in another network namespace than this process.
	request, err := unix.NewIfreq(name)
	if err != nil || unix.IoctlIfreq(socket, unix.SIOCGIFINDEX, request) != nil {
		return
	}
	f.groupRequest = groupRequest{index: request.Uint32(), group: storageOf(group)}
	level := levelOf(group)
	if err := setsockopt(socket, level, mcastJoinGroup, unsafe.Pointer(&f.groupRequest), unsafe.Sizeof(f.groupRequest)); err == nil && (f.count > 0 || f.mode != mcastExclude) {
		_ = setsockopt(socket, level, mcastFilter, unsafe.Pointer(f), f.size())
	}
}
