package hints

import (
	"net"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestBind: what a socket cannot be bound to is found, and a port that can be shared, or that a
// connection has, is not.
func TestBind(t *testing.T) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	port := uint16(listener.Addr().(*net.TCPAddr).Port)
	for _, test := range []struct {
		ip   string
		port uint16
		kind int
		want syscall.Errno
	}{
		{"\x7f\x00\x00\x01", port, unix.SOCK_STREAM, unix.EADDRINUSE},
		{"\x00\x00\x00\x00", port, unix.SOCK_STREAM, unix.EADDRINUSE},
		{"\x7f\x00\x00\x01", 0, unix.SOCK_STREAM, 0},
		{"\xc0\x00\x02\x01", 0, unix.SOCK_DGRAM, unix.EADDRNOTAVAIL}, // 192.0.2.1, of nobody (RFC 5737)
		{"\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01", 0, unix.SOCK_DGRAM, 0},
		{"", 0, unix.SOCK_DGRAM, 0},
		{"odd", 0, unix.SOCK_DGRAM, 0},
	} {
		if errno := Bind(test.ip, test.port, test.kind); errno != test.want {
			t.Errorf("%x, %d: %v, want %v", test.ip, test.port, errno, test.want)
		}
	}
}
