package attributes

import (
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestGroups: the groups that a socket is in are noted, and a new one joins them.
func TestGroups(t *testing.T) {
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		t.Skip(err)
	}
	socket := func() int {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		return fd
	}
	fd := socket()
	for last, source := range map[byte]byte{1: 0, 2: 9} {
		err := unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP, &unix.IPMreqn{Multiaddr: [4]byte{239, 77, 2, last}, Ifindex: int32(lo.Index)})
		if source != 0 && err == nil { // IP_BLOCK_SOURCE with struct ip_mreq_source
			err = unix.SetsockoptString(fd, unix.IPPROTO_IP, unix.IP_BLOCK_SOURCE, string([]byte{239, 77, 2, last, 127, 0, 0, 1, 127, 0, 0, source}))
		}
		if err != nil {
			t.Skip(err)
		}
	}
	noted := make(memberships).of(os.Getpid(), fd, fd)
	want := []string{"/6c6f/239.77.2.1/0", "/6c6f/239.77.2.2/0/127.0.0.9"}
	for i := range noted {
		_, noted[i], _ = strings.Cut(noted[i], "/")
		noted[i] = "/" + noted[i]
	}
	if slices.Sort(noted); !slices.Equal(noted, want) {
		t.Fatalf("noted %q, want %q", noted, want)
	}
	other := socket()
	var list []string
	for _, text := range append([]string{"/6e6f6e65/239.77.2.3/0"}, want...) { // of no interface here
		list = append(list, strconv.Itoa(other)+text)
	}
	join(os.Getpid(), strings.Join(list, ";")+";x")
	again := make(memberships).of(os.Getpid(), other, other)
	for i := range again {
		again[i] = strings.TrimPrefix(again[i], strconv.Itoa(other))
	}
	if slices.Sort(again); !slices.Equal(again, want) {
		t.Errorf("joined %q, want %q", again, want)
	}
	if noted := make(memberships).of(os.Getpid(), 1, socket()); noted != nil {
		t.Errorf("a socket in no group: %q", noted)
	}
}
