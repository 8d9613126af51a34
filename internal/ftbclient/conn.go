package ftbclient

import (
	"time"

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
}

// Dial connects to the local agent and registers the client (sections 2, 4 and 8). If
// the local agent cannot be reached and a bootstrap server is configured, it connects
// to the agent that the server names. Calls on the Conn have the same deadline until
// SetDeadline; the zero time means none.
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
	at := d.cfg.local()
	s, err := connectTCP(at, d.deadline)
	switch {
	case err == nil:
		return s, at, nil
	case err == errDeadline || d.cfg.BootstrapServer == "":
		return s, at, failure("connect", at.String(), ErrNoAgent, CodeNoRoute, err)
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
		return wire.Handle{}, invalid("connection to", c.Agent(), CodeHandle, "closed")
	}
	if err := ev.check(); err != nil {
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

// Close deregisters from the agent, for which it waits no longer than the deadline, and
// always closes the socket. After an error of the connection, or an earlier Close, it
// does nothing and returns nil. An error is an *Error, ErrTimeout or ErrLost: the agent
// may not have read the last events.
func (c *Conn) Close() error {
	if !c.open {
		return nil
	}
	// If there is unread data when the socket is closed, the kernel resets the
	// connection and discards what the agent has not read.
	err := c.alive()
	if err == nil {
		err = c.sendMessages(
			wire.Message{Type: wire.ClientDereg, Src: c.src},
			wire.Message{Type: wire.ClientDereg, Src: wire.Manager(c.src.Location)})
	}
	if err != nil {
		// A later Publish does not repeat this error: it reports a closed Conn.
		failed := c.fail("close", ErrLost, err)
		c.err = nil
		return failed
	}
	c.open = false
	c.close()
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
	c.err = failure(op, c.Agent(), kind, CodeNetworkGeneral, err)
	c.open = false
	c.close()
	return c.err
}
