package ftbclient

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ftbclient/wire"
	"blcr-cli/test/harness"
)

// patience is the deadline of calls that have to time out.
const patience = 100 * time.Millisecond

var someEvent = Event{Name: "A", Severity: "info", Type: wire.Normal}

// reset ends a connection like an agent that is killed with unread data.
func reset(c *net.TCPConn) {
	c.SetLinger(0)
	c.Close()
}

// Invalid answers to the handshake.
func TestNotAnAgent(t *testing.T) {
	answer := capture(t, "09-oneconn.a2c.bin")
	noEnd := append([]byte{}, answer...)
	for i := range 64 {
		noEnd[i] = 'x'
	}
	for name, c := range map[string]struct {
		serve func(*net.TCPConn)
		cause error // nil: any
	}{
		"closes at once":  {func(c *net.TCPConn) {}, nil}, // a reset, because of unread data
		"resets at once":  {reset, nil},
		"reads, closes":   {func(c *net.TCPConn) { io.ReadFull(c, make([]byte, wire.HelloSize)) }, io.ErrUnexpectedEOF},
		"answers 1 byte":  {func(c *net.TCPConn) { io.ReadFull(c, make([]byte, wire.HelloSize)); c.Write(answer[:1]) }, io.ErrUnexpectedEOF},
		"answers 99":      {func(c *net.TCPConn) { io.ReadFull(c, make([]byte, wire.HelloSize)); c.Write(answer[:99]) }, io.ErrUnexpectedEOF},
		"answers, resets": {func(c *net.TCPConn) { c.Write(answer[:50]); reset(c) }, nil},
		"no end":          {func(c *net.TCPConn) { io.ReadFull(c, make([]byte, wire.HelloSize)); c.Write(noEnd) }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			within(t, 0, func() {
				_, err := Dial(fakeAgent(t, c.serve), blcr, soon())
				e := checkError(t, err, "handshake", ErrProtocol)
				if e.Err == nil || c.cause != nil && !errors.Is(err, c.cause) {
					t.Errorf("cause %v", e.Err)
				}
			})
		})
	}
}

// An answer may arrive byte by byte.
func TestSlowAnswer(t *testing.T) {
	got := make(chan []byte, 1)
	cfg := fakeAgent(t, func(c *net.TCPConn) {
		io.ReadFull(c, make([]byte, wire.HelloSize))
		for _, b := range capture(t, "09-oneconn.a2c.bin") {
			c.Write([]byte{b})
			time.Sleep(100 * time.Microsecond)
		}
		rest, _ := io.ReadAll(c)
		got <- rest
	})
	conn := mustDial(t, cfg, blcr)
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	if b := <-got; len(b) != 3*wire.MessageSize {
		t.Errorf("%d bytes", len(b))
	}
}

// Agents that stop answering: the deadline applies to all waits together.
func TestStalls(t *testing.T) {
	for name, answer := range map[string]int{"no answer": 0, "99 bytes": 99} {
		t.Run(name, func(t *testing.T) {
			over := make(chan struct{})
			cfg := fakeAgent(t, func(c *net.TCPConn) {
				c.Write(capture(t, "09-oneconn.a2c.bin")[:answer])
				<-over
			})
			within(t, patience, func() {
				_, err := Dial(cfg, blcr, time.Now().Add(patience))
				checkError(t, err, "handshake", ErrTimeout)
			})
			close(over)
		})
	}
}

// listenRaw returns a listening socket without a process that accepts: the kernel
// accepts backlog+1 connections.
func listenRaw(t *testing.T, backlog int) Config {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(fd, backlog)); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return Config{AgentPort: name.(*unix.SockaddrInet4).Port}
}

func TestStopped(t *testing.T) {
	cfg := listenRaw(t, 5)
	within(t, patience, func() {
		_, err := Dial(cfg, blcr, time.Now().Add(patience))
		checkError(t, err, "handshake", ErrTimeout)
	})
	// If the queue is full, the kernel does not answer, either. The bootstrap server is
	// not asked, since there is no time left.
	cfg = listenRaw(t, 0)
	cfg.BootstrapServer = "127.0.0.1"
	for range 10 {
		var err error
		within(t, patience, func() { _, err = Dial(cfg, blcr, time.Now().Add(patience)) })
		if e := new(Error); errors.As(err, &e) && e.Op == "connect" {
			checkError(t, err, "connect", ErrTimeout)
			return
		}
	}
	t.Error("the queue does not get full")
}

// A deadline that has passed.
func TestExpired(t *testing.T) {
	past := time.Now().Add(-time.Second)
	cfg, streams := record(t)
	within(t, 0, func() {
		_, err := Dial(cfg, blcr, past)
		checkError(t, err, "connect", ErrTimeout)
	})
	conn := mustDial(t, cfg, blcr)
	conn.SetDeadline(past)
	if err := conn.Close(); err != nil {
		t.Errorf("a Close that needs not wait: %v", err)
	}
	if n := len(<-streams); n != wire.HelloSize+3*wire.MessageSize {
		t.Errorf("%d bytes", n)
	}
	conn = mustDial(t, cfg, blcr)
	conn.SetDeadline(past)
	_, err := conn.Publish(someEvent)
	checkError(t, err, "publish", ErrTimeout)
	conn.SetDeadline(soon())
	_, again := conn.Publish(someEvent)
	if again != err {
		t.Errorf("then %v", again)
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	<-streams
}

func TestNoDeadline(t *testing.T) {
	cfg, streams := record(t)
	conn, err := Dial(cfg, blcr, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	mustPublish(t, conn, someEvent)
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	<-streams
}

// An agent that ends after the handshake: this is detected before an event is lost.
func TestAgentDies(t *testing.T) {
	for name, end := range map[string]func(*net.TCPConn){
		"closes": func(c *net.TCPConn) { io.ReadFull(c, make([]byte, wire.MessageSize)) },
		"resets": func(c *net.TCPConn) { io.ReadFull(c, make([]byte, wire.MessageSize)); reset(c) },
	} {
		for _, publish := range []bool{true, false} {
			t.Run(name, func(t *testing.T) {
				gone := make(chan struct{})
				conn := mustDial(t, fakeAgent(t, func(c *net.TCPConn) {
					greet(t, c)
					end(c)
					c.Close()
					close(gone)
				}), blcr)
				<-gone
				time.Sleep(10 * time.Millisecond)
				if publish {
					for range 2 {
						_, err := conn.Publish(someEvent)
						checkError(t, err, "publish", ErrLost)
					}
				} else {
					checkError(t, conn.Close(), "close", ErrLost)
					_, err := conn.Publish(someEvent)
					checkError(t, err, "check", ErrInvalid)
				}
				if err := conn.Close(); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// An agent that does not read: events can be sent until the kernel's buffers are full.
func TestAgentDoesNotRead(t *testing.T) {
	over := make(chan struct{})
	conn := mustDial(t, fakeAgent(t, func(c *net.TCPConn) {
		greet(t, c)
		<-over
	}), blcr)
	unix.SetsockoptInt(conn.fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 4096)
	var err error
	start := time.Now()
	for range 100000 {
		start = time.Now()
		conn.SetDeadline(start.Add(patience))
		if _, err = conn.Publish(someEvent); err != nil {
			break
		}
	}
	checkError(t, err, "publish", ErrTimeout)
	if took := time.Since(start); took < patience || took > patience+harness.Patience {
		t.Errorf("took %v", took)
	}
	close(over)
}

// Unexpected data from an agent does not cause a reset when the connection is closed.
func TestUnasked(t *testing.T) {
	got := make(chan int, 1)
	sent := make(chan struct{})
	conn := mustDial(t, fakeAgent(t, func(c *net.TCPConn) {
		greet(t, c)
		c.Write(make([]byte, 20000))
		close(sent)
		b, err := io.ReadAll(c)
		if err != nil {
			t.Error(err)
		}
		got <- len(b)
	}), blcr)
	<-sent
	mustPublish(t, conn, someEvent)
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	if n := <-got; n != 4*wire.MessageSize {
		t.Errorf("%d bytes", n)
	}
}

// An agent that sends endlessly.
func TestFlood(t *testing.T) {
	conn := mustDial(t, fakeAgent(t, func(c *net.TCPConn) {
		greet(t, c)
		b := make([]byte, 1<<20)
		for {
			if _, err := c.Write(b); err != nil {
				return
			}
		}
	}), blcr)
	conn.SetDeadline(time.Now().Add(patience))
	for {
		start := time.Now()
		_, err := conn.Publish(someEvent)
		if took := time.Since(start); took > patience+harness.Patience {
			t.Errorf("took %v", took)
		}
		if err != nil {
			checkError(t, err, "publish", ErrTimeout)
			return
		}
	}
}

// A socket that is connected to itself is not a connection to an agent.
func TestSelfConnected(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	at := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
	if err := unix.Bind(fd, at); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Connect(fd, name); err != nil {
		t.Fatal(err)
	}
	if s := (socket{fd: fd}); !s.selfConnected() {
		t.Error("not noticed")
	}
}
