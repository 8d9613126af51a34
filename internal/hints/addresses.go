package hints

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// Bind tries to give a new socket an address, for a moment, as CRIU does, and returns
// EADDRNOTAVAIL where the machine does not have the address, EADDRINUSE where another socket
// has the port, and 0 otherwise. The IP has 4 or 16 bytes; with port 0 no port is tried.
func Bind(ip string, port uint16, kind int) syscall.Errno {
	family, address := unix.AF_INET, unix.Sockaddr(nil)
	switch len(ip) {
	case 4:
		address = &unix.SockaddrInet4{Port: int(port), Addr: [4]byte([]byte(ip))}
	case 16:
		family, address = unix.AF_INET6, &unix.SockaddrInet6{Port: int(port), Addr: [16]byte([]byte(ip))}
	default:
		return 0
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0
	}
	defer unix.Close(fd)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	if family == unix.AF_INET6 { // for which CRIU needs no address of the machine
		_ = unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_FREEBIND, 1)
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
	}
	if err := unix.Bind(fd, address); err == unix.EADDRNOTAVAIL || err == unix.EADDRINUSE {
		return err.(syscall.Errno)
	}
	return 0
}
