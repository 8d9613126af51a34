package ftbclient

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ftbclient/wire"
)

// message encodes a message.
func message(t testing.TB, m wire.Message) []byte {
	t.Helper()
	b, err := m.Encode(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Messages arrive in pieces and several at a time; what is no event is skipped, and a
// message that cannot be decoded is one error.
func TestReceive(t *testing.T) {
	notify := func(name string) []byte {
		return message(t, wire.Message{Type: wire.Notify, Event: wire.Event{Name: name, Type: wire.Normal}})
	}
	garbled := notify("X")
	for i := 4; i < 68; i++ { // the host name
		garbled[i] = 'x'
	}
	stream := notify("ONE")
	stream = append(stream, message(t, wire.Message{Type: wire.ClientReg})...)
	stream = append(stream, message(t, wire.Message{Type: 0x13})...)
	stream = append(stream, garbled...)
	stream = append(stream, notify("TWO")...)
	stream = append(stream, notify("THREE")[:700]...)
	for _, piece := range []int{7, 1336, 1337, 100000} {
		conn := mustDial(t, fakeAgent(t, func(c *net.TCPConn) {
			greet(t, c)
			if _, err := io.ReadFull(c, make([]byte, 2*wire.MessageSize)); err != nil {
				t.Error(err)
			}
			for rest := stream; len(rest) > 0; {
				n := min(piece, len(rest))
				c.Write(rest[:n])
				rest = rest[n:]
			}
		}), blcr)
		if err := conn.Subscribe(wire.NewMask()); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"ONE", "", "TWO"} {
			m, err := conn.Receive()
			if want == "" {
				checkError(t, err, "receive", ErrProtocol)
			} else if err != nil || m.Event.Name != want {
				t.Errorf("%s: %+v, %v", want, m.Event, err)
			}
		}
		for range 2 {
			_, err := conn.Receive()
			checkError(t, err, "receive", ErrLost)
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		_, err := conn.Publish(someEvent)
		checkError(t, err, "receive", ErrLost)
	}
}

// A time limit leaves the connection as it is.
func TestReceiveTimeout(t *testing.T) {
	more := make(chan struct{})
	conn := mustDial(t, fakeAgent(t, func(c *net.TCPConn) {
		greet(t, c)
		b := message(t, wire.Message{Type: wire.Notify, Event: wire.Event{Name: "A", Type: wire.Normal}})
		c.Write(b[:500])
		<-more
		c.Write(b[500:])
		io.Copy(io.Discard, c)
	}), blcr)
	for range 2 {
		within(t, patience, func() {
			conn.SetDeadline(time.Now().Add(patience))
			_, err := conn.Receive()
			checkError(t, err, "receive", ErrTimeout)
		})
	}
	close(more)
	conn.SetDeadline(soon())
	if m, err := conn.Receive(); err != nil || m.Event.Name != "A" {
		t.Errorf("%+v, %v", m.Event, err)
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	_, err := conn.Receive()
	checkError(t, err, "check", ErrInvalid)
	checkError(t, conn.Subscribe(wire.NewMask()), "check", ErrInvalid)
}

// A mask that does not fit is refused, and the connection is still usable.
func TestSubscribeInvalid(t *testing.T) {
	cfg, streams := record(t)
	conn := mustDial(t, cfg, blcr)
	mask := wire.NewMask()
	mask.JobID = strings.Repeat("x", 16)
	checkError(t, conn.Subscribe(mask), "check", ErrInvalid)
	mask.JobID = "x"
	if err := conn.Subscribe(mask); err != nil {
		t.Error(err)
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	// REG, SUBSCRIPTION, CANCEL, two DEREGs.
	b := <-streams
	if len(b) != wire.HelloSize+5*wire.MessageSize {
		t.Fatalf("%d bytes", len(b))
	}
	for i, want := range []wire.MessageType{wire.ClientReg, wire.RegSubscription, wire.SubscriptionCancel, wire.ClientDereg, wire.ClientDereg} {
		var m wire.Message
		if err := m.Decode(b[wire.HelloSize+i*wire.MessageSize:]); err != nil || m.Type != want || (m.Event.JobID == "x") != (i == 1 || i == 2) {
			t.Errorf("message %d: %v, %v", i, m, err)
		}
	}
}

// Finish leaves the connection to another process, or waits itself for an agent that does
// not close it, but not for long; and not at all for one that does.
func TestFinish(t *testing.T) {
	for name, c := range map[string]struct {
		keep  func(int, time.Duration) error
		waits bool
	}{
		"none":  {nil, true},
		"fails": {func(int, time.Duration) error { return unix.EAGAIN }, true},
		"kept":  {func(int, time.Duration) error { return nil }, false},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, streams := record(t)
			conn := mustDial(t, cfg, blcr)
			mustPublish(t, conn, someEvent)
			least := time.Duration(0)
			if c.waits {
				least = waitTime
			}
			within(t, least, func() {
				if err := conn.Finish(c.keep); err != nil {
					t.Error(err)
				}
			})
			if n := len(<-streams); n != wire.HelloSize+4*wire.MessageSize {
				t.Errorf("%d bytes", n)
			}
			if err := conn.Finish(c.keep); err != nil {
				t.Errorf("a second time: %v", err)
			}
		})
	}
	t.Run("lost", func(t *testing.T) {
		gone := make(chan struct{})
		conn := mustDial(t, fakeAgent(t, func(c *net.TCPConn) {
			greet(t, c)
			io.ReadFull(c, make([]byte, wire.MessageSize))
			c.Close()
			close(gone)
		}), blcr)
		<-gone
		_ = conn.wait(unix.POLLIN)
		err := conn.Finish(func(int, time.Duration) error { t.Error("there is nothing to keep"); return nil })
		if checkError(t, err, "close", ErrLost); !errors.Is(err, io.EOF) {
			t.Error(err)
		}
	})
}

// The descriptor that is passed to keep is the connection, and still open.
func TestFinishDescriptor(t *testing.T) {
	cfg, streams := record(t)
	conn := mustDial(t, cfg, blcr)
	kept := -1
	err := conn.Finish(func(fd int, limit time.Duration) (err error) {
		kept, err = unix.Dup(fd)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-streams:
		t.Error("the connection has ended")
	case <-time.After(2 * waitTime):
	}
	unix.Close(kept)
	<-streams
}
