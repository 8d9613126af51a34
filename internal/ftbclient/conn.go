package ftbclient

import (
	"errors"
	"io"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ftbclient/wire"
)

// Identity is the identity of a client.
type Identity struct {
	Space string // the event space, "region.category.component"; at most 63 bytes
	Name  string // client_name; at most wire.MaxClient bytes, may be empty
	JobID string // client_jobid; at most wire.MaxJobID bytes, may be empty
}

// Event is an event to be published.
type Event struct {
	Name     string         // at most wire.MaxName ASCII letters, digits and underscores
	Severity string         // FATAL, ERROR, WARNING or INFO, in any case; sent as spelled
	Type     wire.EventType // wire.Normal or wire.Response
	Payload  []byte         // at most wire.PayloadSize bytes; zeros are added. A Response's starts with a wire.Handle
}

// Conn is a connection to an agent that has answered the handshake. It must not be used
// by several goroutines at the same time.
type Conn struct {
	socket
	open  bool
	err   *Error // the failure that closed it
	at    endpoint
	src   wire.ID
	agent wire.Location
	jobID string
	seq   uint16 // sequence number of the last event

	masks    []wire.Event // subscriptions
	received []byte       // of the next message
}

// Dial connects to the local agent and registers the client (sections 2, 4 and 8). If
// the local agent cannot be reached and a bootstrap server is configured, it connects
// to an agent that the server names, and tries others until the deadline. Calls on the
// Conn have the same deadline until SetDeadline; the zero time means none.
//
// id is checked before anything is sent. The error is an *Error of any kind except
// ErrLost. If there is none, the caller has to close the Conn.
func Dial(cfg Config, id Identity, deadline time.Time) (*Conn, error) {
	d := dialer{cfg: cfg, deadline: deadline, location: newLocation}
	return d.dial(id)
}

// dialer has the parameters of a Dial.
type dialer struct {
	cfg      Config
	deadline time.Time
	location func() wire.Location // of the new connection
}

func (d *dialer) dial(id Identity) (*Conn, error) {
	client, err := id.check()
	if err != nil {
		return nil, err
	}
	s, at, err := d.connect()
	if err != nil {
		return nil, err
	}
	c := &Conn{socket: s, open: true, at: at, src: wire.ID{Location: d.location(), Client: client}, jobID: id.JobID}
	if err := c.handshake(); err != nil {
		return nil, err
	}
	return c, nil
}

func (d *dialer) connect() (socket, endpoint, error) {
	at, deadline := d.cfg.local(), d.deadline
	if d.cfg.BootstrapServer != "" {
		deadline = earlier(deadline, connectTime)
	}
	s, err := connectTCP(at, deadline)
	switch {
	case err == nil:
		s.deadline = d.deadline
		return s, at, nil
	case d.cfg.BootstrapServer == "" || expired(d.deadline):
		return s, at, failure("connect", at.String(), ErrNoAgent, err)
	}
	return d.lookup()
}

// handshake registers the process with the agent, and then the client.
func (c *Conn) handshake() error {
	hello := wire.NewHello(c.src.Location)
	b, err := hello.Encode(nil)
	if err == nil {
		err = c.send(b)
	}
	answer := make([]byte, wire.LocationSize)
	if err == nil {
		err = c.receiveFull(answer)
	}
	if err == nil {
		err = c.agent.Decode(answer)
	}
	if err == nil {
		err = c.sendMessages(wire.Message{Type: wire.ClientReg, Src: c.src})
	}
	if err != nil {
		return c.fail("handshake", ErrProtocol, err)
	}
	return nil
}

// SetDeadline sets the time at which calls give up from now on. The zero time means
// never.
func (c *Conn) SetDeadline(deadline time.Time) { c.deadline = deadline }

// Agent returns the address of the agent, such as "127.0.0.1:10809".
func (c *Conn) Agent() string { return c.at.String() }

// Publish sends an event. Success means that the kernel has accepted it: agents do not
// acknowledge events. It returns the event's Handle, for the payload of a later
// Response.
//
// The error is an *Error: ErrInvalid if FTB does not accept ev or if the Conn is
// closed, else ErrTimeout or ErrLost. After these two every call fails with the same
// error.
func (c *Conn) Publish(ev Event) (wire.Handle, error) {
	switch {
	case c.err != nil:
		return wire.Handle{}, c.err
	case !c.open:
		return wire.Handle{}, c.closed()
	}
	if err := ev.Check(); err != nil {
		return wire.Handle{}, err
	}

	c.seq++ // from 65535 to 0, as in C
	id := &c.src.Client
	m := wire.Message{
		Type: wire.Notify, Src: c.src,
		Event: wire.Event{
			Region: id.Region, CompCat: id.CompCat, Comp: id.Comp,
			Name: ev.Name, Severity: ev.Severity, JobID: c.jobID, ClientName: id.Name,
			Hostname: c.src.Location.Hostname, Seq: c.seq, Type: ev.Type,
		},
	}
	copy(m.Event.Payload[:], ev.Payload)
	err := errDeadline
	if !expired(c.deadline) {
		// If the agent has died, the first write would still succeed.
		if err = c.alive(); err == nil {
			err = c.sendMessages(m)
		}
	}
	if err != nil {
		return wire.Handle{}, c.fail("publish", ErrLost, err)
	}
	return m.Handle(), nil
}

// Subscribe asks the agent for the events that the mask matches. Success means that the
// kernel has accepted the message: agents do not acknowledge it. Events that are
// published before the agent has processed it are not received.
//
// The error is an *Error, as of Publish. It is ErrInvalid if a string of the mask is too
// long.
func (c *Conn) Subscribe(mask wire.Event) error {
	switch {
	case c.err != nil:
		return c.err
	case !c.open:
		return c.closed()
	}
	err := c.sendMessages(wire.Message{Type: wire.RegSubscription, Src: c.src, Event: mask})
	var field *wire.FieldError
	switch {
	case errors.As(err, &field):
		return invalid(field.Field, field.Value, "too long")
	case err != nil:
		return c.fail("subscribe", ErrLost, err)
	}
	c.masks = append(c.masks, mask)
	return nil
}

// Receive waits for an event of the subscriptions and returns the NOTIFY that it came
// in. Its Src is the publisher. An error is an *Error. The Conn can still be used after
// ErrTimeout, and after ErrProtocol, which is a message that cannot be decoded; it is
// lost. After ErrLost every call fails with the same error.
func (c *Conn) Receive() (wire.Message, error) {
	for {
		switch {
		case c.err != nil:
			return wire.Message{}, c.err
		case !c.open:
			return wire.Message{}, c.closed()
		case len(c.received) < wire.MessageSize:
			if err := c.receiveMore(); err != nil {
				return wire.Message{}, err
			}
			continue
		}
		var m wire.Message
		err := m.Decode(c.received)
		c.received = c.received[wire.MessageSize:]
		if err != nil {
			return wire.Message{}, failure("receive", c.Agent(), ErrProtocol, err)
		}
		if m.Type == wire.Notify { // nothing else is for a client
			return m, nil
		}
	}
}

func (c *Conn) receiveMore() error {
	b := make([]byte, 48*wire.MessageSize)
	n, err := c.receive(b)
	switch {
	case err == errDeadline:
		return failure("receive", c.Agent(), ErrTimeout, err)
	case err == io.EOF:
		return c.fail("receive", ErrLost, errors.New("the agent has closed it"))
	case err != nil:
		return c.fail("receive", ErrLost, err)
	}
	c.received = append(c.received, b[:n]...)
	return nil
}

func (c *Conn) closed() *Error { return invalid("connection to", c.Agent(), "closed") }

// Close cancels the subscriptions and deregisters from the agent, for which it waits no
// longer than the deadline, and always closes the socket. After an error of the
// connection, or an earlier Close, it does nothing and returns nil. An error is an
// *Error, ErrTimeout or ErrLost: the agent may not have read the last events.
func (c *Conn) Close() error {
	err := c.deregister()
	if c.open {
		c.open = false
		c.close()
	}
	return err
}

// The time for which Finish keeps a connection open, by another process or by itself.
const (
	keepTime = 50 * time.Millisecond
	waitTime = 20 * time.Millisecond
)

// Finish is Close for a publisher that ends. The agents of FTB have a bug: one that
// reads the end of a connection before it has processed what came on it drops that.
// This happens when many clients end at the same time. So the socket stays open until
// the agent closes it, but no longer than keepTime: an idle agent closes it only when
// it has something else to do.
//
// This process does not wait for that. keep has to start another process that keeps the
// descriptor open until it is readable, or for the limit at most. If it returns an
// error, or is nil, Finish waits itself, for waitTime at most.
func (c *Conn) Finish(keep func(fd int, limit time.Duration) error) error {
	err := c.deregister()
	if c.open && (keep == nil || keep(c.fd, keepTime) != nil) {
		s := c.socket
		s.deadline = earlier(c.deadline, waitTime)
		_ = s.wait(unix.POLLIN)
	}
	if c.open {
		c.open = false
		c.close()
	}
	return err
}

// deregister sends what an agent expects before the end of a connection. If that fails
// the Conn is closed.
func (c *Conn) deregister() error {
	if !c.open {
		return nil
	}
	// If there is unread data when the socket is closed, the kernel resets the
	// connection and discards what the agent has not read.
	err := c.alive()
	if err == nil {
		var last []wire.Message
		for _, mask := range c.masks {
			last = append(last, wire.Message{Type: wire.SubscriptionCancel, Src: c.src, Event: mask})
		}
		err = c.sendMessages(append(last,
			wire.Message{Type: wire.ClientDereg, Src: c.src},
			wire.Message{Type: wire.ClientDereg, Src: wire.Manager(c.src.Location)})...)
	}
	if err != nil {
		// A later Publish does not repeat this error: it reports a closed Conn.
		failed := c.fail("close", ErrLost, err)
		c.err = nil
		return failed
	}
	return nil
}

// sendMessages sends messages to the agent in one write: an agent that has a part of a
// message serves no other client until it has the rest.
func (c *Conn) sendMessages(messages ...wire.Message) error {
	var b []byte
	for _, m := range messages {
		m.Dst.Location = c.agent
		var err error
		if b, err = m.Encode(b); err != nil {
			return err
		}
	}
	return c.send(b)
}

// fail closes the connection and returns the error. kind is its kind unless the
// deadline has passed.
func (c *Conn) fail(op string, kind, err error) error {
	c.err = failure(op, c.Agent(), kind, err)
	c.open = false
	c.close()
	return c.err
}
