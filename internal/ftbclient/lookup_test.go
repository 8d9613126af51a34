package ftbclient

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ftbclient/wire"
)

// fakeServer starts a bootstrap server. answer returns the answers to a packet, nil for
// none. got returns the packets that were received, after the test.
func fakeServer(t *testing.T, answer func(wire.Packet, []byte) [][]byte) (port int, got func() []wire.Packet) {
	t.Helper()
	l, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	var packets []wire.Packet
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 1000)
		for {
			n, from, err := l.ReadFromUDP(b)
			if err != nil {
				return
			}
			var p wire.Packet
			if err := p.Decode(b[:n]); err != nil {
				t.Error(err)
				continue
			}
			packets = append(packets, p)
			for _, a := range answer(p, b[:n]) {
				l.WriteToUDP(a, from)
			}
		}
	}()
	stop := func() { l.Close(); <-done }
	t.Cleanup(stop)
	return l.LocalAddr().(*net.UDPAddr).Port, func() []wire.Packet {
		// Wait until it has received everything: a CONN_FAIL is not answered.
		time.Sleep(20 * time.Millisecond)
		stop()
		return packets
	}
}

func packet(t *testing.T, p wire.Packet) [][]byte {
	t.Helper()
	b, err := p.Encode(nil)
	if err != nil {
		t.Error(err)
	}
	return [][]byte{b}
}

// proposal returns the answer of a server, of 0.6.2 or older, to a request.
func proposal(t *testing.T, short bool, name string, port int) [][]byte {
	t.Helper()
	a := wire.Addr{Name: name, Port: int32(port)}
	if short {
		return packet(t, wire.Packet{Short: true, Type: wire.AddrRep, Addr: a, Level: 1})
	}
	return packet(t, wire.Packet{Type: wire.AddrRep, Parent: a, Level: 1})
}

// lookupConfig returns the configuration of a machine without an agent and with a
// bootstrap server.
func lookupConfig(t *testing.T, server int) Config {
	return Config{AgentPort: nobody(t), BootstrapServer: "127.0.0.1", BootstrapPort: server}
}

// publishTo publishes an event, which has to arrive.
func publishTo(t *testing.T, cfg Config, agent Config, streams chan []byte) {
	t.Helper()
	conn := mustDial(t, cfg, blcr)
	if conn.Agent() != agent.local().String() {
		t.Errorf("agent at %s", conn.Agent())
	}
	mustPublish(t, conn, someEvent)
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	if n := len(<-streams); n != wire.HelloSize+4*wire.MessageSize {
		t.Errorf("%d bytes", n)
	}
}

// A server of 0.6.2, and the requests that it gets.
func TestLookup(t *testing.T) {
	agent, streams := record(t)
	port, got := fakeServer(t, func(wire.Packet, []byte) [][]byte { return proposal(t, false, "127.0.0.1", agent.AgentPort) })
	cfg := lookupConfig(t, port)
	publishTo(t, cfg, agent, streams)
	want := wire.NewAddrReq(false, wire.Addr{Name: hostAddress(), Port: int32(cfg.AgentPort)}, wire.Addr{})
	if p := got(); !slices.Equal(p, []wire.Packet{want}) {
		t.Errorf("asked %+v", p)
	}
}

// If this machine has an agent, the server is not asked.
func TestLocalFirst(t *testing.T) {
	agent, streams := record(t)
	port, got := fakeServer(t, func(wire.Packet, []byte) [][]byte { return nil })
	cfg := agent
	cfg.BootstrapServer, cfg.BootstrapPort = "127.0.0.1", port
	publishTo(t, cfg, agent, streams)
	// Nor if a process that is not an agent listens on its port: the error is a
	// different one.
	cfg.AgentPort = fakeAgent(t, reset).AgentPort
	_, err := Dial(cfg, blcr, soon())
	checkError(t, err, "handshake", ErrProtocol)
	// Nor if its name cannot be used.
	agent.BootstrapServer = "bootstrap.example.org"
	publishTo(t, agent, agent, streams)
	if p := got(); len(p) != 0 {
		t.Errorf("asked %+v", p)
	}
}

// A server of 0.6 or 0.6.1, which misinterprets the first request.
func TestLookupShort(t *testing.T) {
	agent, streams := record(t)
	port, got := fakeServer(t, func(p wire.Packet, b []byte) [][]byte {
		if len(b) != wire.ShortPacketSize {
			none, err := os.ReadFile(filepath.Join("wire", "testdata", "packet-short-addr-rep-none.bin"))
			if err != nil {
				t.Error(err)
			}
			return [][]byte{none}
		}
		return proposal(t, true, "127.0.0.1", agent.AgentPort)
	})
	cfg := lookupConfig(t, port)
	publishTo(t, cfg, agent, streams)
	p := got()
	if len(p) != 2 || p[0].Short || p[1] != wire.NewAddrReq(true, wire.Addr{}, wire.Addr{}) {
		t.Errorf("asked %+v", p)
	}
}

// Invalid datagrams before the answer, and a server that answers only the second
// request.
func TestLookupNoise(t *testing.T) {
	agent, streams := record(t)
	n := 0
	port, got := fakeServer(t, func(p wire.Packet, b []byte) [][]byte {
		if n++; n == 1 {
			return nil
		}
		req := wire.NewAddrReq(false, wire.Addr{}, wire.Addr{})
		noEnd := proposal(t, false, "", 1)[0]
		for i := 72; i < 136; i++ {
			noEnd[i] = 'x'
		}
		return slices.Concat([][]byte{{}, {2}, make([]byte, 77), make([]byte, 1000), noEnd}, packet(t, req),
			packet(t, wire.Packet{Type: wire.RegRep}), proposal(t, false, "127.0.0.1", agent.AgentPort))
	})
	publishTo(t, lookupConfig(t, port), agent, streams)
	if p := got(); len(p) != 2 {
		t.Errorf("asked %+v", p)
	}
}

// The server first proposes an agent that has died; with both sizes of packets.
func TestLookupDeadAgent(t *testing.T) {
	for _, short := range []bool{false, true} {
		agent, streams := record(t)
		dead := nobody(t)
		port, got := fakeServer(t, func(p wire.Packet, b []byte) [][]byte {
			avoid := p.Parent
			if short {
				avoid = p.Addr
			}
			switch {
			case p.Type != wire.AddrReq:
				return nil
			case short && !p.Short:
				return proposal(t, true, "", 0)
			case avoid == wire.Addr{}:
				return proposal(t, short, "127.0.0.1", dead)
			case avoid == wire.Addr{Name: "127.0.0.1", Port: 2}:
				return proposal(t, short, "127.0.0.1", agent.AgentPort)
			}
			t.Errorf("asked %+v", p)
			return nil
		})
		publishTo(t, lookupConfig(t, port), agent, streams)
		want := wire.Packet{Short: short, Type: wire.ConnFail, Addr: wire.Addr{Name: "127.0.0.1", Port: int32(dead)}}
		if p := got(); !slices.Contains(p, want) || p[len(p)-1].Short != short {
			t.Errorf("sent %+v", p)
		}
	}
}

// Lookups that find no agent end.
func TestLookupFails(t *testing.T) {
	dead := nobody(t)
	for name, c := range map[string]struct {
		answer [][]byte
		op     string
		kind   error
		most   int // packets
		cause  error
	}{
		"none":           {proposal(t, false, "", 0), "look up", ErrNoAgent, 1, nil},
		"none, short":    {proposal(t, true, "", 0), "look up", ErrNoAgent, 2, nil},
		"a name":         {proposal(t, false, "localhost", 1), "look up", ErrProtocol, 1, nil},
		"port too large": {proposal(t, false, "127.0.0.1", 65536), "look up", ErrProtocol, 1, nil},
		"port negative":  {proposal(t, false, "127.0.0.1", -1), "look up", ErrProtocol, 1, nil},
	} {
		t.Run(name, func(t *testing.T) {
			port, got := fakeServer(t, func(p wire.Packet, b []byte) [][]byte {
				if p.Type != wire.AddrReq {
					return nil
				}
				return c.answer
			})
			within(t, 0, func() {
				_, err := Dial(lookupConfig(t, port), blcr, soon())
				checkError(t, err, c.op, c.kind)
				if c.cause != nil && !errors.Is(err, c.cause) {
					t.Errorf("cause of %v", err)
				}
			})
			if p := got(); len(p) > c.most {
				t.Errorf("sent %+v", p)
			}
		})
	}

	t.Run("no server", func(t *testing.T) {
		// A port that no process uses, bound for TCP only.
		within(t, 0, func() {
			_, err := Dial(lookupConfig(t, dead), blcr, soon())
			if e := checkError(t, err, "look up", ErrNoAgent); e.Err != unix.ECONNREFUSED {
				t.Error(err)
			}
		})
	})
	t.Run("name", func(t *testing.T) {
		cfg := lookupConfig(t, 1)
		cfg.BootstrapServer = "bootstrap.example.org"
		_, err := Dial(cfg, blcr, soon())
		checkError(t, err, "look up", ErrNoAgent)
	})
	t.Run("the same dead one", func(t *testing.T) {
		port, got := fakeServer(t, func(p wire.Packet, b []byte) [][]byte {
			if p.Type != wire.AddrReq {
				return nil
			}
			return proposal(t, false, "127.0.0.1", dead)
		})
		const limit = 2 * time.Second
		within(t, limit, func() {
			_, err := Dial(lookupConfig(t, port), blcr, time.Now().Add(limit))
			if checkError(t, err, "connect", ErrNoAgent); !errors.Is(err, unix.ECONNREFUSED) {
				t.Errorf("cause of %v", err)
			}
		})
		// Each request goes with a report.
		if p := got(); len(p) > 2*(eager+1+int(limit/pause)) {
			t.Errorf("sent %d packets", len(p))
		}
	})
	t.Run("silent, deadline", func(t *testing.T) {
		port, _ := fakeServer(t, func(wire.Packet, []byte) [][]byte { return nil })
		within(t, patience, func() {
			_, err := Dial(lookupConfig(t, port), blcr, time.Now().Add(patience))
			checkError(t, err, "look up", ErrTimeout)
		})
	})
	t.Run("slow", func(t *testing.T) {
		// It answers long after it was asked for the first time.
		agent, streams := record(t)
		start := time.Now()
		port, _ := fakeServer(t, func(wire.Packet, []byte) [][]byte {
			if time.Since(start) < 800*time.Millisecond {
				return nil
			}
			return proposal(t, false, "127.0.0.1", agent.AgentPort)
		})
		publishTo(t, lookupConfig(t, port), agent, streams)
	})
	t.Run("late", func(t *testing.T) {
		// At first all agents have died.
		agent, streams := record(t)
		n := 0
		port, _ := fakeServer(t, func(wire.Packet, []byte) [][]byte {
			if n++; n < 3*eager {
				return proposal(t, false, "127.0.0.1", dead)
			}
			return proposal(t, false, "127.0.0.1", agent.AgentPort)
		})
		publishTo(t, lookupConfig(t, port), agent, streams)
	})
	t.Run("a machine that is down", func(t *testing.T) {
		// Its agent does not even refuse: the queue of this one is full.
		agent, streams := record(t)
		down := listenRaw(t, 0)
		for range 10 {
			if s, err := connectTCP(down.local(), time.Now().Add(patience)); err == nil {
				defer s.close()
			} else if err == errDeadline {
				break
			}
		}
		n := 0
		port, _ := fakeServer(t, func(wire.Packet, []byte) [][]byte {
			if n++; n < 5 {
				return proposal(t, false, "127.0.0.1", down.AgentPort)
			}
			return proposal(t, false, "127.0.0.1", agent.AgentPort)
		})
		within(t, connectTime, func() { publishTo(t, lookupConfig(t, port), agent, streams) })
	})
	t.Run("stopped agent", func(t *testing.T) {
		agent := listenRaw(t, 5)
		port, _ := fakeServer(t, func(wire.Packet, []byte) [][]byte { return proposal(t, false, "127.0.0.1", agent.AgentPort) })
		within(t, patience, func() {
			_, err := Dial(lookupConfig(t, port), blcr, time.Now().Add(patience))
			checkError(t, err, "handshake", ErrTimeout)
		})
	})
}
