package ftbsim

import (
	"bytes"
	"net"
	"testing"
	"time"

	"blcr-cli/internal/ftbclient/wire"
	"blcr-cli/test/harness"
)

func startBootstrap(t *testing.T, config BootstrapConfig) *Bootstrap {
	t.Helper()
	b, err := StartBootstrap(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// ask sends a datagram and returns the answer to it.
func ask(t *testing.T, b *Bootstrap, datagram []byte) []byte {
	t.Helper()
	return exchange(t, b, datagram, harness.Patience)
}

// askInVain is ask for a datagram that should have no answer, which would come soon.
func askInVain(t *testing.T, b *Bootstrap, datagram []byte) []byte {
	t.Helper()
	return exchange(t, b, datagram, 200*time.Millisecond)
}

// exchange is ask that returns nil if there is no answer after a while.
func exchange(t *testing.T, b *Bootstrap, datagram []byte, patience time.Duration) []byte {
	t.Helper()
	conn, err := net.DialUDP("udp4", nil, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: b.Port()})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write(datagram); err != nil {
		t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(patience))
	buf := make([]byte, 1000)
	n, err := conn.Read(buf)
	if err != nil {
		return nil
	}
	return buf[:n]
}

func request(t *testing.T, p wire.Packet) []byte {
	t.Helper()
	return encode(t, &p)
}

func answer(t *testing.T, b *Bootstrap, p wire.Packet) wire.Packet {
	t.Helper()
	var a wire.Packet
	if err := a.Decode(ask(t, b, request(t, p))); err != nil {
		t.Fatal(err)
	}
	return a
}

// The answers are those of FTB's own servers, to the byte.
func TestCapturedPackets(t *testing.T) {
	agent := wire.Addr{Name: "127.0.0.1", Port: 20201}
	for _, test := range []struct {
		config         BootstrapConfig
		request, reply string
	}{
		{BootstrapConfig{Agents: []wire.Addr{agent}}, "packet-addr-req-avoid.bin", "packet-addr-rep.bin"},
		// From just that agent.
		{BootstrapConfig{Agents: []wire.Addr{agent}}, "packet-addr-req.bin", "packet-addr-rep-none.bin"},
		{BootstrapConfig{}, "packet-addr-req.bin", "packet-addr-rep-none.bin"},
		{BootstrapConfig{Short: true}, "packet-short-addr-req.bin", "packet-short-addr-rep-none.bin"},
		{BootstrapConfig{Short: true, Agents: []wire.Addr{{Name: "127.0.0.1", Port: 20701}}}, "packet-short-addr-req.bin", "packet-short-addr-rep.bin"},
		// One of 0.6.1 does not understand a long one.
		{BootstrapConfig{Short: true, Agents: []wire.Addr{agent}}, "packet-addr-req.bin", "packet-short-addr-rep-none.bin"},
	} {
		b := startBootstrap(t, test.config)
		if got := ask(t, b, golden(t, test.request)); !bytes.Equal(got, golden(t, test.reply)) {
			t.Errorf("%+v, %s: % x", test.config, test.request, got)
		}
		if got := b.Requests(); len(got) != 1 || !bytes.Equal(got[0], golden(t, test.request)) {
			t.Errorf("noted %x", got)
		}
	}
}

func TestUnanswered(t *testing.T) {
	agents := []wire.Addr{{Name: "127.0.0.1", Port: 20201}}
	for _, test := range []struct {
		config  BootstrapConfig
		request string
	}{
		// One of 0.6.2 drops short ones.
		{BootstrapConfig{Agents: agents}, "packet-short-addr-req.bin"},
		{BootstrapConfig{Agents: agents}, "packet-conn-fail.bin"},
		{BootstrapConfig{Agents: agents, Lose: 1}, "packet-addr-req.bin"},
		{BootstrapConfig{Agents: agents, Lose: -1}, "packet-addr-req.bin"},
	} {
		b := startBootstrap(t, test.config)
		if got := askInVain(t, b, golden(t, test.request)); got != nil {
			t.Errorf("%+v, %s: % x", test.config, test.request, got)
		}
		harness.Poll(t, test.request+" to be noted", func() bool { return len(b.Requests()) == 1 })
	}
	b := startBootstrap(t, BootstrapConfig{Agents: agents, Lose: 1})
	askInVain(t, b, golden(t, "packet-addr-req.bin"))
	if ask(t, b, golden(t, "packet-addr-req.bin")) == nil {
		t.Error("the second one is lost too")
	}
}

// Agents come and go.
func TestRegistration(t *testing.T) {
	for _, short := range []bool{false, true} {
		b := startBootstrap(t, BootstrapConfig{Short: short})
		one, two := wire.Addr{Name: "localhost", Port: 1001}, wire.Addr{Name: "127.0.0.2", Port: 1002}
		kept := wire.Addr{Name: "127.0.0.1", Port: 1001}
		parent := func(self wire.Addr, level uint16) wire.Addr {
			p := answer(t, b, wire.Packet{Short: short, Type: wire.AddrReq, Addr: self, Level: level})
			return p.Agent()
		}
		register := func(addr wire.Addr, level uint16) wire.PacketType {
			return answer(t, b, wire.Packet{Short: short, Type: wire.RegReq, Addr: addr, Level: level}).Type
		}
		if got := register(one, 1); got != wire.RegRep {
			t.Errorf("the root: %v", got)
		}
		if got := register(two, 1); got != wire.RegInvalid {
			t.Errorf("a second root: %v", got)
		}
		if got := register(two, 2); got != wire.RegRep {
			t.Errorf("a second agent: %v", got)
		}
		// Any of the two, and each of them.
		proposed := map[wire.Addr]bool{}
		for range 200 {
			proposed[parent(wire.Addr{}, wire.LeafLevel)] = true
		}
		if len(proposed) != 2 || !proposed[kept] || !proposed[two] {
			t.Errorf("parents %v", proposed)
		}
		if got := parent(kept, wire.LeafLevel); got != two {
			t.Errorf("parent %v", got)
		}
		if got := parent(kept, 2); got != (wire.Addr{}) {
			t.Errorf("parent %v", got)
		}
		if got := answer(t, b, wire.Packet{Short: short, Type: wire.DeregReq, Addr: one}).Type; got != wire.DeregRep {
			t.Errorf("goodbye: %v", got)
		}
		if got := parent(wire.Addr{}, wire.LeafLevel); got != two {
			t.Errorf("parent %v", got)
		}
	}
}

func TestParseBootstrap(t *testing.T) {
	agent := wire.Addr{Name: "127.0.0.1", Port: 20201}
	for _, test := range []struct{ kind, request, reply string }{
		{"0.6.2", "packet-addr-req-avoid.bin", "packet-addr-rep.bin"},
		{"none", "packet-addr-req-avoid.bin", "packet-addr-rep-none.bin"},
		{"0.6.1", "packet-addr-req.bin", "packet-short-addr-rep-none.bin"},
	} {
		config, err := ParseBootstrap(test.kind, agent)
		if err != nil {
			t.Fatal(err)
		}
		if got := ask(t, startBootstrap(t, config), golden(t, test.request)); !bytes.Equal(got, golden(t, test.reply)) {
			t.Errorf("%s: % x", test.kind, got)
		}
	}
	for kind, want := range map[string]int{"silent": 0, "garbage": 10} {
		config, err := ParseBootstrap(kind, agent)
		if err != nil {
			t.Fatal(err)
		}
		ask := ask
		if want == 0 {
			ask = askInVain
		}
		if got := ask(t, startBootstrap(t, config), golden(t, "packet-addr-req.bin")); len(got) != want {
			t.Errorf("%s: % x", kind, got)
		}
	}
	if _, err := ParseBootstrap("0.7", agent); err == nil {
		t.Error("0.7 is no kind")
	}
}
