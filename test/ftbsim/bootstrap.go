package ftbsim

import (
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"

	"blcr-cli/internal/ftbclient/wire"
)

// BootstrapConfig is how a [Bootstrap] is to be.
type BootstrapConfig struct {
	// Port is the UDP port to listen on, of 127.0.0.1; 0 is any that is free.
	Port int
	// Short makes it a server of FTB 0.6.1, with packets of 76 bytes. It takes
	// the start of longer ones for such. The other kind ignores short packets.
	Short bool
	// Agents are those that have registered before it all begins.
	Agents []wire.Addr
	// Lose is how many packets it ignores at first; a negative number is all.
	Lose int
	// Garbage makes its answers 10 bytes of nothing.
	Garbage bool
}

// Bootstraps are the kinds that [ParseBootstrap] understands, for messages.
const Bootstraps = "0.6.2, 0.6.1, silent, garbage, none"

// ParseBootstrap reads the name of a kind of server that knows of one agent:
// "0.6.2" or "0.6.1"; or of the newer one that is "silent" or answers "garbage",
// or that knows "none".
func ParseBootstrap(kind string, agent wire.Addr) (BootstrapConfig, error) {
	config := BootstrapConfig{Agents: []wire.Addr{agent}}
	switch kind {
	case "0.6.2":
	case "0.6.1":
		config.Short = true
	case "silent":
		config.Lose = -1
	case "garbage":
		config.Garbage = true
	case "none":
		config.Agents = nil
	default:
		return BootstrapConfig{}, fmt.Errorf("no such bootstrap server: %s; there are %s", kind, Bootstraps)
	}
	return config, nil
}

// Bootstrap is an FTB bootstrap server, running until [Bootstrap.Close] (section 8).
type Bootstrap struct {
	config  BootstrapConfig
	conn    *net.UDPConn
	running sync.WaitGroup

	mu       sync.Mutex
	agents   []agentEntry
	requests [][]byte
}

type agentEntry struct {
	addr  wire.Addr
	level uint16
}

// StartBootstrap starts a bootstrap server.
func StartBootstrap(config BootstrapConfig) (*Bootstrap, error) {
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: config.Port})
	if err != nil {
		return nil, err
	}
	b := &Bootstrap{config: config, conn: conn}
	for i, addr := range config.Agents {
		b.agents = append(b.agents, agentEntry{addr, uint16(i + 1)})
	}
	b.running.Go(b.serve)
	return b, nil
}

// Port is the UDP port on which the server listens, of 127.0.0.1.
func (b *Bootstrap) Port() int { return b.conn.LocalAddr().(*net.UDPAddr).Port }

// Close ends the server.
func (b *Bootstrap) Close() {
	b.conn.Close()
	b.running.Wait()
}

// Requests are the packets that came, the ignored ones included, in that order.
func (b *Bootstrap) Requests() [][]byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.requests)
}

func (b *Bootstrap) serve() {
	buf := make([]byte, 1<<16)
	for {
		n, from, err := b.conn.ReadFromUDP(buf)
		if err != nil {
			return
		}
		if answer := b.handle(slices.Clone(buf[:n])); answer != nil {
			// Whoever has asked may be gone.
			_, _ = b.conn.WriteToUDP(answer, from)
		}
	}
}

// handle returns what a packet is answered with, nil for nothing.
func (b *Bootstrap) handle(datagram []byte) []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.requests = append(b.requests, datagram)
	if b.config.Lose < 0 || len(b.requests) <= b.config.Lose {
		return nil
	}
	size := wire.PacketSize
	if b.config.Short {
		size = wire.ShortPacketSize
	}
	if len(datagram) < size {
		return nil
	}
	var request wire.Packet
	if request.Decode(datagram[:size]) != nil {
		return nil
	}
	answer := wire.Packet{Short: b.config.Short}
	switch request.Type {
	case wire.AddrReq:
		answer.Type = wire.AddrRep
		if e, ok := b.parent(&request); ok {
			answer.Level = e.level
			if b.config.Short {
				answer.Addr = e.addr
			} else {
				answer.Parent = e.addr
			}
		}
	case wire.RegReq:
		answer.Type = wire.RegRep
		b.register(&request, &answer)
	case wire.DeregReq:
		answer.Type = wire.DeregRep
		b.agents = slices.DeleteFunc(b.agents, func(e agentEntry) bool { return e.addr == local(request.Addr) })
	default:
		// CONN_FAIL has no answer, and here no effect, as in 0.6.2.
		return nil
	}
	if b.config.Garbage {
		return make([]byte, 10)
	}
	out, err := answer.Encode(nil)
	if err != nil {
		panic(fmt.Sprintf("ftbsim: %v", err)) // all of it was decoded, or configured
	}
	return out
}

// parent is the agent that is proposed: any of those that are nearer to the root than
// the one that asks, and are not that one. Those that have died are among them.
func (b *Bootstrap) parent(request *wire.Packet) (agentEntry, bool) {
	var fit []agentEntry
	for _, e := range b.agents {
		// In a short packet Addr is the one to be avoided; in a long one Parent is,
		// and is not looked at.
		if e.level < request.Level && e.addr != request.Addr {
			fit = append(fit, e)
		}
	}
	if len(fit) == 0 {
		return agentEntry{}, false
	}
	return fit[rand.IntN(len(fit))], true
}

func (b *Bootstrap) register(request, answer *wire.Packet) {
	const root = 1
	if request.Level == root && slices.ContainsFunc(b.agents, func(e agentEntry) bool { return e.level == root }) {
		answer.Type = wire.RegInvalid
		return
	}
	b.agents = append(b.agents, agentEntry{local(request.Addr), request.Level})
}

// local is the address that the server keeps of an agent.
func local(addr wire.Addr) wire.Addr {
	if addr.Name == "localhost" {
		addr.Name = "127.0.0.1"
	}
	return addr
}
