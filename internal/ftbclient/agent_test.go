package ftbclient

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ftbclient/wire"
	"blcr-cli/test/harness"
)

var blcr = Identity{Space: "FTB.checkpoint_sw.blcr"}

// limit is a generous deadline for calls that have to succeed.
const limit = harness.Patience

func soon() time.Time { return time.Now().Add(limit) }

func capture(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("wire", "testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// fakeAgent starts an agent that calls serve for each connection, one after the other.
// It ends with the test.
func fakeAgent(t testing.TB, serve func(*net.TCPConn)) Config {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.SetDeadline(soon())
			serve(c.(*net.TCPConn))
			c.Close()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	return Config{AgentPort: l.Addr().(*net.TCPAddr).Port}
}

// greet performs the agent's part of the handshake.
func greet(t testing.TB, c *net.TCPConn) []byte {
	t.Helper()
	hello := make([]byte, wire.HelloSize)
	if _, err := io.ReadFull(c, hello); err != nil {
		t.Error(err)
	}
	if _, err := c.Write(capture(t, "09-oneconn.a2c.bin")); err != nil {
		t.Error(err)
	}
	return hello
}

// record starts an agent that sends the whole stream of each connection to the channel.
func record(t testing.TB) (Config, chan []byte) {
	t.Helper()
	streams := make(chan []byte, 200)
	return fakeAgent(t, func(c *net.TCPConn) {
		hello := greet(t, c)
		rest, err := io.ReadAll(c)
		if err != nil {
			t.Error(err)
		}
		streams <- append(hello, rest...)
	}), streams
}

// nobody returns a port on which no process listens until the end of the test.
func nobody(t testing.TB) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return name.(*unix.SockaddrInet4).Port
}

func mustDial(t testing.TB, cfg Config, id Identity) *Conn {
	t.Helper()
	c, err := Dial(cfg, id, soon())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func mustPublish(t testing.TB, c *Conn, ev Event) wire.Handle {
	t.Helper()
	h, err := c.Publish(ev)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// checkError checks that err is an *Error of that kind and that op.
func checkError(t testing.TB, err error, op string, kind error) *Error {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("error is %v", err)
	}
	if e.Op != op || e.Kind != kind || e.Object == "" {
		t.Errorf("%s: op %q kind %q", err, e.Op, e.Kind)
	}
	for _, k := range []error{ErrInvalid, ErrNoAgent, ErrTimeout, ErrProtocol, ErrLost} {
		if errors.Is(err, k) != (k == kind) {
			t.Errorf("%s: is %q: %v", err, k, errors.Is(err, k))
		}
	}
	if !strings.Contains(err.Error(), e.Op) || !strings.Contains(err.Error(), e.Object) || !strings.Contains(err.Error(), kind.Error()) {
		t.Errorf("text %q", err)
	}
	return e
}

// within runs f, which has to take at least d, and not much longer.
func within(t testing.TB, d time.Duration, f func()) {
	t.Helper()
	start := time.Now()
	f()
	if took := time.Since(start); took < d || took > d+harness.Patience {
		t.Errorf("took %v instead of %v", took, d)
	}
}
