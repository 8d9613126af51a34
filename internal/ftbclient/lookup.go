package ftbclient

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ftbclient/wire"
)

// The times of a lookup. It ends with an agent or with the deadline; the C library
// continues for 68 s, or for ever.
const (
	// firstReply is the time that the bootstrap server has for its first answer. It is
	// doubled up to lastReply for each further one.
	firstReply = 300 * time.Millisecond
	lastReply  = 2 * time.Second

	// connectTime limits a connect when there may be another agent: a machine that is
	// down does not answer at all.
	connectTime = 700 * time.Millisecond

	// The server chooses among the agents that it knows at random, and does not forget
	// those that have died. So it is asked again at once, and after eager times with a
	// pause, so that it is not kept busy if all of them have died.
	eager = 25
	pause = 20 * time.Millisecond

	// An address at which nothing has answered is tried again after this time.
	silence = 5 * time.Second
)

// bootstrapServer is a dialogue with the bootstrap server (section 8).
type bootstrapServer struct {
	socket
	at    endpoint
	self  wire.Addr
	short bool // it speaks FTB 0.6 or 0.6.1
}

// lookup connects to an agent that the bootstrap server names. If an agent cannot be
// reached, it asks for another one, until the deadline.
func (d *dialer) lookup() (socket, endpoint, error) {
	at, ok := d.cfg.bootstrap()
	if !ok {
		return socket{}, at, &Error{"look up", fmt.Sprintf("FTB_BSTRAP_SERVER %q", d.cfg.BootstrapServer),
			ErrNoAgent, errors.New("not an IPv4 address")}
	}
	sock, err := connectUDP(at, d.deadline)
	if err != nil {
		return socket{}, at, failure("look up", at.String(), ErrNoAgent, err)
	}
	defer sock.close()
	server := &bootstrapServer{
		socket: sock, at: at,
		self: wire.Addr{Name: d.location().Hostname, Port: int32(d.cfg.AgentPort)},
	}

	var avoid wire.Addr
	var failed error
	silent := map[endpoint]time.Time{} // until when each is not tried
	for asked := 1; ; asked++ {
		agent, err := server.ask(avoid)
		if errors.Is(err, ErrTimeout) && failed != nil {
			return socket{}, at, failed
		}
		if err != nil {
			return socket{}, at, err
		}
		if time.Now().After(silent[agent]) {
			s, err := connectTCP(agent, earlier(d.deadline, connectTime))
			if err == nil {
				s.deadline = d.deadline
				return s, agent, nil
			}
			// What an earlier agent answered says more than that there was no time left
			// for this one.
			if failed == nil || err != errDeadline || !expired(d.deadline) {
				failed = failure("connect", agent.String(), ErrNoAgent, err)
			}
			switch err {
			case errDeadline:
				silent[agent] = time.Now().Add(silence)
			case unix.ECONNREFUSED:
				server.report(agent)
			}
			// The C library sends port 2. With the real port, a server of 0.6.2 would
			// remove the agent from its list, for all clients. A single client that
			// cannot reach the agent must not cause that.
			avoid = wire.Addr{Name: agent.Addr().String(), Port: 2}
		}
		if asked >= eager {
			rest(earlier(d.deadline, pause))
		}
		if expired(d.deadline) {
			return socket{}, at, failed
		}
	}
}

// ask asks for an agent until there is an answer. Datagrams may be lost, and the server
// may be slow.
func (b *bootstrapServer) ask(avoid wire.Addr) (endpoint, error) {
	for patience := firstReply; ; patience = min(2*patience, lastReply) {
		reply, err := b.exchange(avoid, patience)
		if err == nil && reply.Short && !b.short {
			// An old server reads a long packet as a request of level 0, and
			// answers that there is no agent.
			b.short = true
			reply, err = b.exchange(avoid, patience)
		}
		switch {
		case err == errDeadline && !expired(b.deadline):
		case err != nil:
			return endpoint{}, b.failure(ErrNoAgent, err)
		default:
			return b.agent(reply.Agent())
		}
	}
}

// agent checks the address that the server has proposed.
func (b *bootstrapServer) agent(a wire.Addr) (endpoint, error) {
	if a.Port == 0 {
		return endpoint{}, b.failure(ErrNoAgent, errors.New("knows no agent"))
	}
	addr, ok := parseIPv4(a.Name)
	if !ok || a.Port != int32(uint16(a.Port)) {
		return endpoint{}, b.failure(ErrProtocol, fmt.Errorf("agent at %q, port %d", a.Name, a.Port))
	}
	return netip.AddrPortFrom(addr, uint16(a.Port)), nil
}

// exchange sends an ADDR_REQ and waits that long for the answer.
func (b *bootstrapServer) exchange(avoid wire.Addr, patience time.Duration) (wire.Packet, error) {
	request := wire.NewAddrReq(b.short, b.self, avoid)
	if err := b.sendPacket(request); err != nil {
		return wire.Packet{}, err
	}
	s := b.socket
	s.deadline = earlier(b.deadline, patience)
	var buf [2 * wire.PacketSize]byte
	for {
		if expired(s.deadline) {
			return wire.Packet{}, errDeadline
		}
		n, err := s.receive(buf[:])
		if err == io.EOF {
			continue // a datagram may be empty
		}
		if err != nil {
			return wire.Packet{}, err
		}
		var reply wire.Packet
		// The answer to a short request is short; that to a long one may be either.
		if reply.Decode(buf[:n]) == nil && reply.Type == wire.AddrRep && (reply.Short || !b.short) {
			return reply, nil
		}
	}
}

// report tells the server that no process listens at an agent's address. Like the C
// library, it uses the field that servers of 0.6.2 ignore. There is no answer, and
// nothing depends on it.
func (b *bootstrapServer) report(agent endpoint) {
	_ = b.sendPacket(wire.Packet{
		Short: b.short, Type: wire.ConnFail,
		Addr: wire.Addr{Name: agent.Addr().String(), Port: int32(agent.Port())},
	})
}

func (b *bootstrapServer) sendPacket(p wire.Packet) error {
	datagram, err := p.Encode(nil)
	if err != nil {
		return err
	}
	return b.send(datagram)
}

func (b *bootstrapServer) failure(kind, err error) error {
	return failure("look up", b.at.String(), kind, err)
}
