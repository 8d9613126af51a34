package ftbclient

import (
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"
)

// endpoint is where somebody listens.
type endpoint = netip.AddrPort

func ipv4(b []byte) netip.Addr {
	return netip.AddrFrom4([4]byte(b))
}

// local is the agent on this machine.
func (c *Config) local() endpoint {
	return netip.AddrPortFrom(ipv4([]byte{127, 0, 0, 1}), uint16(c.AgentPort))
}

// bootstrap is the bootstrap server, if the configuration names it by an
// address. No name is ever resolved, as in C.
func (c *Config) bootstrap() (endpoint, bool) {
	// The line feed, where it is from a file. inet_aton too ignores white space.
	name := c.BootstrapServer
	if i := strings.IndexAny(name, " \t\n\v\f\r"); i >= 0 {
		name = name[:i] // as inet_aton has it
	}
	if name == "localhost" {
		name = "127.0.0.1"
	}
	addr, ok := parseIPv4(name)
	return netip.AddrPortFrom(addr, uint16(c.BootstrapPort)), ok
}

func parseIPv4(s string) (netip.Addr, bool) {
	addr, err := netip.ParseAddr(s)
	return addr, err == nil && addr.Is4()
}

func sockaddr(e endpoint) *unix.SockaddrInet4 {
	return &unix.SockaddrInet4{Port: int(e.Port()), Addr: e.Addr().As4()}
}
