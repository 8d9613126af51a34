package ftbclient

import (
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"
)

// endpoint is the address of an agent or a bootstrap server.
type endpoint = netip.AddrPort

func ipv4(b []byte) netip.Addr {
	return netip.AddrFrom4([4]byte(b))
}

// local returns the address of the agent on this machine.
func (c *Config) local() endpoint {
	return netip.AddrPortFrom(ipv4([]byte{127, 0, 0, 1}), uint16(c.AgentPort))
}

// bootstrap returns the address of the bootstrap server, if the configuration has a
// numeric one. Names are not resolved, as in C.
func (c *Config) bootstrap() (endpoint, bool) {
	// A value from a file ends with a line feed. inet_aton ignores white space, too.
	name := c.BootstrapServer
	if i := strings.IndexAny(name, " \t\n\v\f\r"); i >= 0 {
		name = name[:i] // as in inet_aton
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
