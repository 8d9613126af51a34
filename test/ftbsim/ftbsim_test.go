package ftbsim

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ftbclient/wire"
	"blcr-cli/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

func start(t *testing.T, config Config) *Agent {
	t.Helper()
	a, err := Start(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return a
}

func fault(t *testing.T, name string) Fault {
	t.Helper()
	f, err := ParseFault(name)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// golden is a capture of FTB's own library or agent.
func golden(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../../internal/ftbclient/wire/testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// peer is a client that does what a test wants it to do.
type peer struct {
	t *testing.T
	net.Conn
	id wire.ID
}

func dial(t *testing.T, a *Agent) *peer {
	t.Helper()
	conn, err := net.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", a.Port()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(harness.Patience))
	return &peer{t: t, Conn: conn}
}

// connect makes a client that is registered, with a location of its own.
func connect(t *testing.T, a *Agent, pid int32) *peer {
	t.Helper()
	p := dial(t, a)
	p.id = wire.ID{
		Location: wire.Location{Hostname: "192.0.2.1", StartTime: "now", PID: pid},
		Client:   wire.ClientID{Region: "FTB", CompCat: "test", Comp: "peer", Name: "me"},
	}
	hello := wire.NewHello(p.id.Location)
	p.write(encode(t, &hello))
	var location wire.Location
	if err := location.Decode(p.read(wire.LocationSize)); err != nil || location != a.Location() {
		t.Fatalf("answered by %v, %v", location, err)
	}
	p.send(wire.Message{Type: wire.ClientReg})
	return p
}

func encode(t *testing.T, v interface{ Encode([]byte) ([]byte, error) }) []byte {
	t.Helper()
	b, err := v.Encode(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (p *peer) write(b []byte) {
	p.t.Helper()
	if _, err := p.Write(b); err != nil {
		p.t.Fatal(err)
	}
}

func (p *peer) read(n int) []byte {
	p.t.Helper()
	b := make([]byte, n)
	if _, err := io.ReadFull(p, b); err != nil {
		p.t.Fatal(err)
	}
	return b
}

// send sends a message of this client's.
func (p *peer) send(m wire.Message) {
	p.t.Helper()
	if m.Src == (wire.ID{}) {
		m.Src = p.id
	}
	p.write(encode(p.t, &m))
}

// event is one that fits all that it is changed for.
func event(change func(*wire.Event)) wire.Message {
	m := wire.Message{Type: wire.Notify, Event: wire.Event{
		Region: "FTB", CompCat: "test", Comp: "peer", Name: "E", Severity: "INFO",
		ClientName: "me", Hostname: "192.0.2.1", Seq: 1, Type: wire.Normal,
	}}
	if change != nil {
		change(&m.Event)
	}
	return m
}

func (p *peer) subscribe(change func(mask *wire.Event)) {
	m := wire.Message{Type: wire.RegSubscription, Event: wire.NewMask()}
	if change != nil {
		change(&m.Event)
	}
	p.send(m)
}

func settle(t *testing.T, a *Agent) {
	t.Helper()
	if err := a.Settle(harness.Patience); err != nil {
		t.Fatal(err)
	}
}

func wantProblems(t *testing.T, a *Agent, want ...string) {
	t.Helper()
	got := a.Problems()
	if len(got) != len(want) {
		t.Fatalf("problems %q, want %q", got, want)
	}
	for i := range got {
		if !strings.Contains(got[i], want[i]) {
			t.Errorf("problem %q, want %q", got[i], want[i])
		}
	}
}

// What FTB's own library sends is taken without a problem, and answered as its
// own agent does.
func TestCaptures(t *testing.T) {
	var location wire.Location
	if err := location.Decode(golden(t, "09-oneconn.a2c.bin")); err != nil {
		t.Fatal(err)
	}
	a := start(t, Config{Location: location})
	play := func(name string) {
		p := dial(t, a)
		// The handshake first: it waits for the answer.
		capture := golden(t, name)
		p.write(capture[:wire.HelloSize])
		if got := p.read(wire.LocationSize); !bytes.Equal(got, golden(t, "09-oneconn.a2c.bin")) {
			t.Errorf("%s: answer % x", name, got)
		}
		p.write(capture[wire.HelloSize:])
		p.Close()
		settle(t, a)
	}
	for _, name := range []string{"01-chkpt-begin", "02-chkpt-end", "04-chkpt-error", "05-rstrt-begin", "06-rstrt-end", "08-rstrt-error", "09-oneconn"} {
		play(name + ".c2a.bin")
	}
	wantProblems(t, a)
	want := `1 CHKPT_BEGIN INFO FTB.checkpoint_sw.blcr connection=1 seq=1 type=1
2 CHKPT_END INFO FTB.checkpoint_sw.blcr connection=2 seq=1 type=2 answers=1
3 CHKPT_ERROR ERROR FTB.checkpoint_sw.blcr connection=3 seq=1 type=2 answers=1 errno=2
4 RSTRT_BEGIN INFO FTB.checkpoint_sw.blcr connection=4 seq=1 type=1
5 RSTRT_END INFO FTB.checkpoint_sw.blcr connection=5 seq=1 type=2 answers=4
6 RSTRT_ERROR ERROR FTB.checkpoint_sw.blcr connection=6 seq=1 type=2 answers=4 errno=2
7 CHKPT_BEGIN INFO FTB.checkpoint_sw.blcr connection=7 seq=1 type=1 client="blcr_client" job="job42"
8 CHKPT_END INFO FTB.checkpoint_sw.blcr connection=7 seq=2 type=2 client="blcr_client" job="job42" answers=7
9 CHKPT_ERROR ERROR FTB.checkpoint_sw.blcr connection=7 seq=3 type=2 client="blcr_client" job="job42" answers=7 errno=2
`
	if got := a.EventText(); got != want {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
	events := a.Events()
	for name, number := range map[string]int{"CHKPT_BEGIN": 1, "RSTRT_BEGIN": 4, "oneconn": 7} {
		h := events[number-1].Handle()
		if !bytes.Equal(encode(t, &h), golden(t, name+".handle.bin")) {
			t.Errorf("%s: handle of event %d differs", name, number)
		}
	}
	c := a.Connections()[0]
	if !c.Answered || c.Hello == nil || c.Err != nil || !bytes.Equal(c.Bytes, golden(t, "01-chkpt-begin.c2a.bin")) || len(c.Messages) != 4 {
		t.Errorf("connection 1: %+v", c)
	}

	if err := events[0].SameAs(golden(t, "01-chkpt-begin.c2a.bin")); err != nil {
		t.Error(err)
	}
	if err := events[1].SameAs(golden(t, "09-oneconn.c2a.bin")); err == nil {
		t.Error("taken for an event with another name and job")
	}
	if err := events[3].SameAs(golden(t, "01-chkpt-begin.c2a.bin")); err == nil {
		t.Error("taken for another event")
	}
}

// A subscriber gets what FTB's own agent gave to its own subscriber, to the byte.
func TestCapturedSubscriber(t *testing.T) {
	given := golden(t, "10-subscriber.a2c.bin")
	var location wire.Location
	if err := location.Decode(given); err != nil {
		t.Fatal(err)
	}
	a := start(t, Config{Location: location})
	subscriber := dial(t, a)
	capture := golden(t, "10-subscriber.c2a.bin")
	subscriber.write(capture[:wire.HelloSize])
	subscriber.read(wire.LocationSize)
	// Up to the subscription.
	subscriber.write(capture[wire.HelloSize : wire.HelloSize+2*wire.MessageSize])
	waitFor(t, a, func() bool { return len(a.connections) == 1 && len(a.connections[0].subscriptions) == 1 })

	for at := wire.LocationSize; at < len(given); at += wire.MessageSize {
		raw := slices.Clone(given[at : at+wire.MessageSize])
		var m wire.Message
		if err := m.Decode(raw); err != nil {
			t.Fatal(err)
		}
		copy(raw[dstOffset:], make([]byte, wire.IDSize))
		publisher := dial(t, a)
		hello := wire.NewHello(m.Src.Location)
		publisher.write(encode(t, &hello))
		publisher.read(wire.LocationSize)
		publisher.write(raw)
		publisher.Close()
		settle(t, a)
		if got := subscriber.read(wire.MessageSize); !bytes.Equal(got, given[at:at+wire.MessageSize]) {
			t.Errorf("the message at %d differs", at)
		}
	}
	// The rest: the end of the subscription, and of the client.
	subscriber.write(capture[wire.HelloSize+2*wire.MessageSize:])
	subscriber.Close()
	settle(t, a)
	wantProblems(t, a)
}

// waitFor waits for something that the lock guards.
func waitFor(t *testing.T, a *Agent, what func() bool) {
	t.Helper()
	for deadline := time.Now().Add(harness.Patience); ; time.Sleep(time.Millisecond) {
		a.mu.Lock()
		done := what()
		a.mu.Unlock()
		if done {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("does not come")
		}
	}
}

// A mask with a name is compared by that, and by who publishes, and by nothing
// else; without case.
func TestMatching(t *testing.T) {
	for _, test := range []struct {
		name  string
		mask  func(*wire.Event)
		event func(*wire.Event)
		want  bool
	}{
		{"everything", nil, nil, true},
		{"space", func(m *wire.Event) { m.Region, m.CompCat, m.Comp = "ftb", "TEST", "Peer" }, nil, true},
		{"another region", func(m *wire.Event) { m.Region = "X" }, nil, false},
		{"another category", func(m *wire.Event) { m.CompCat = "X" }, nil, false},
		{"another component", func(m *wire.Event) { m.Comp = "X" }, nil, false},
		{"severity", func(m *wire.Event) { m.Severity = "info" }, nil, true},
		{"another severity", func(m *wire.Event) { m.Severity = "FATAL" }, nil, false},
		{"job", func(m *wire.Event) { m.JobID = "J1" }, func(e *wire.Event) { e.JobID = "j1" }, true},
		{"another job", func(m *wire.Event) { m.JobID = "J1" }, nil, false},
		{"client", func(m *wire.Event) { m.ClientName = "ME" }, nil, true},
		{"another client", func(m *wire.Event) { m.ClientName = "" }, nil, false},
		{"host", func(m *wire.Event) { m.Hostname = "192.0.2.1" }, nil, true},
		{"another host", func(m *wire.Event) { m.Hostname = "192.0.2.2" }, nil, false},
		{"event", func(m *wire.Event) { m.Name = "e" }, nil, true},
		{"another event", func(m *wire.Event) { m.Name = "F" }, nil, false},
		{"event, all else wrong", func(m *wire.Event) { m.Name, m.Severity, m.CompCat, m.Comp = "E", "FATAL", "X", "X" }, nil, true},
		{"event, another region", func(m *wire.Event) { m.Name, m.Region = "E", "X" }, nil, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := start(t, Config{})
			subscriber, publisher := connect(t, a, 1), connect(t, a, 2)
			subscriber.subscribe(test.mask)
			waitFor(t, a, func() bool { return len(a.connections[0].subscriptions) == 1 })
			publisher.send(event(test.event))
			publisher.Close()
			settle(t, a)
			a.Close()
			got, err := io.ReadAll(subscriber)
			if err != nil {
				t.Fatal(err)
			}
			want := 0
			if test.want {
				want = wire.MessageSize
			}
			if len(got) != want {
				t.Errorf("got %d bytes, want %d", len(got), want)
			}
		})
	}
}

// A client gets an event once however many of its masks match, two clients on
// one connection one each, and after the cancellation there is no more.
func TestSubscriptions(t *testing.T) {
	a := start(t, Config{})
	subscriber, publisher := connect(t, a, 1), connect(t, a, 2)
	count := func(n int) {
		t.Helper()
		waitFor(t, a, func() bool { return len(a.connections[0].subscriptions) == n })
	}
	subscriber.subscribe(nil)
	subscriber.subscribe(func(m *wire.Event) { m.Name = "E" })
	count(2)
	seq := uint16(0)
	publish := func(want int) {
		t.Helper()
		seq++
		publisher.send(event(func(e *wire.Event) { e.Seq = seq }))
		waitFor(t, a, func() bool { return len(a.events) == int(seq) })
		for range want {
			var m wire.Message
			if err := m.Decode(subscriber.read(wire.MessageSize)); err != nil {
				t.Fatal(err)
			}
			if m.Event.Seq != seq || !m.Dst.Location.Equal(&subscriber.id.Location) {
				t.Errorf("got %+v", m)
			}
		}
	}
	publish(1)

	second := subscriber.id
	second.Client.Name = "another"
	subscriber.send(wire.Message{Type: wire.ClientReg, Src: second})
	subscriber.send(wire.Message{Type: wire.RegSubscription, Src: second, Event: wire.NewMask()})
	count(3)
	publish(2)

	subscriber.send(wire.Message{Type: wire.SubscriptionCancel, Event: wire.NewMask()})
	count(2)
	publish(2)
	subscriber.send(wire.Message{Type: wire.ClientDereg})
	count(1)
	publish(1)
	subscriber.send(wire.Message{Type: wire.ClientDereg, Src: wire.Manager(subscriber.id.Location)})
	count(0)
	publish(0)
	wantProblems(t, a)
}

func TestProblems(t *testing.T) {
	for _, test := range []struct {
		name string
		do   func(t *testing.T, a *Agent)
		want string
	}{
		{"unit in pieces", func(t *testing.T, a *Agent) {
			p := connect(t, a, 1)
			m := event(nil)
			m.Src = p.id
			b := encode(t, &m)
			p.write(b[:500])
			waitFor(t, a, func() bool { return len(a.problems) > 0 })
			p.write(b[500:])
		}, "in pieces"},
		{"half a unit", func(t *testing.T, a *Agent) { connect(t, a, 1).write(make([]byte, 10)) }, "in pieces"},
		{"same location", func(t *testing.T, a *Agent) {
			p := connect(t, a, 1)
			q := dial(t, a)
			hello := wire.NewHello(p.id.Location)
			q.write(encode(t, &hello))
			if _, err := q.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
				t.Errorf("not reset but %v", err)
			}
		}, "connection 2: same location as connection 1"},
		{"numbers", func(t *testing.T, a *Agent) {
			p := connect(t, a, 1)
			p.send(event(nil))
			p.send(event(func(e *wire.Event) { e.Seq = 3 }))
		}, "event number 3 after 1"},
		{"first number", func(t *testing.T, a *Agent) {
			connect(t, a, 1).send(event(func(e *wire.Event) { e.Seq = 0 }))
		}, "the first event has number 0"},
		{"unknown type", func(t *testing.T, a *Agent) { connect(t, a, 1).send(wire.Message{Type: 0x21}) }, "0x21"},
		{"another's location", func(t *testing.T, a *Agent) {
			connect(t, a, 1).send(wire.Message{Type: wire.ClientReg, Src: wire.Manager(wire.Location{PID: 7})})
		}, "CLIENT_REG from another location"},
		{"system id", func(t *testing.T, a *Agent) {
			p := dial(t, a)
			p.write(make([]byte, wire.HelloSize))
			if _, err := p.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
				t.Errorf("not reset but %v", err)
			}
		}, "system id 00 00 00 00"},
		{"no end of a string", func(t *testing.T, a *Agent) {
			p := connect(t, a, 1)
			p.write(bytes.Repeat([]byte{0xff}, wire.MessageSize))
		}, "connection 1: "},
		{"answer not read", func(t *testing.T, a *Agent) {
			p := dial(t, a)
			hello := wire.NewHello(wire.Location{PID: 1})
			p.write(encode(t, &hello))
			waitFor(t, a, func() bool { return len(a.connections) == 1 && a.connections[0].Answered })
			p.Close()
		}, "connection reset by peer"},
		{"manager", func(t *testing.T, a *Agent) {
			p := dial(t, a)
			hello := wire.NewHello(wire.Location{PID: 1})
			hello.Message.Src.Client.Ext = 0
			p.write(encode(t, &hello))
			p.read(wire.LocationSize)
		}, "not from the process's manager"},
		{"no registration", func(t *testing.T, a *Agent) {
			p := dial(t, a)
			hello := wire.NewHello(wire.Location{PID: 1})
			hello.Message.Type = wire.Notify
			p.write(encode(t, &hello))
			p.read(wire.LocationSize)
		}, "the handshake has a NOTIFY"},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := start(t, Config{})
			t.Cleanup(func() {
				settle(t, a)
				if got := a.Problems(); len(got) == 0 || !strings.Contains(got[0], test.want) {
					t.Errorf("problems %q, want %q", got, test.want)
				}
			})
			t.Run("", func(t *testing.T) { test.do(t, a) }) // its connections are closed after it
		})
	}
}

// Once a client has said goodbye its location is free, before it has closed.
func TestLocationAgain(t *testing.T) {
	a := start(t, Config{})
	p := connect(t, a, 1)
	p.send(wire.Message{Type: wire.ClientDereg, Src: wire.Manager(p.id.Location)})
	waitFor(t, a, func() bool { return !a.connections[0].registered })
	connect(t, a, 1)
	wantProblems(t, a)
}

// An agent is there for so long as it lives, and its port is free then.
func TestClose(t *testing.T) {
	a := start(t, Config{})
	p := connect(t, a, 1)
	// What is unread would make the end a reset.
	waitFor(t, a, func() bool { return len(a.connections[0].Messages) == 1 })
	port := a.Port()
	a.Close()
	a.Close()
	if _, err := p.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("read: %v", err)
	}
	if start(t, Config{Port: port}).Port() != port {
		t.Error("another port")
	}
}

func TestSettle(t *testing.T) {
	a := start(t, Config{})
	settle(t, a)
	connect(t, a, 1)
	if err := a.Settle(20 * time.Millisecond); err == nil {
		t.Error("a client is connected")
	}
	wantProblems(t, a)
	if n := len(a.Connections()); n != 1 {
		t.Errorf("%d connections", n)
	}
	// It has died meanwhile.
	a.Close()
	settle(t, a)
}

func TestOnEvent(t *testing.T) {
	var seen []string
	a := start(t, Config{OnEvent: func(e *Event) { seen = append(seen, e.String()) }})
	p := connect(t, a, 1)
	p.send(event(nil))
	p.Close()
	settle(t, a)
	if len(seen) != 1 || seen[0] != `1 E INFO FTB.test.peer connection=1 seq=1 type=1 client="me"` {
		t.Errorf("got %q", seen)
	}
}

// What a client sees of each fault, after it has sent its handshake.
func TestFaults(t *testing.T) {
	for _, test := range []struct {
		fault string
		bytes int
		want  error // after them
	}{
		{"", 100, os.ErrDeadlineExceeded},
		{"starting", 0, os.ErrDeadlineExceeded},
		{"stall", 0, os.ErrDeadlineExceeded},
		{"close", 0, io.EOF},
		{"reset", 0, unix.ECONNRESET},
		{"short", 50, io.EOF},
		{"part", 50, os.ErrDeadlineExceeded},
		{"garbage", 100, os.ErrDeadlineExceeded},
		{"slow=100ms", 100, os.ErrDeadlineExceeded},
		{"slow=1h", 0, os.ErrDeadlineExceeded},
		{"deaf", 100, os.ErrDeadlineExceeded},
		{"drop=0", 100, io.EOF},
		{"drop=1", 100, os.ErrDeadlineExceeded},
		{"die=0", 100, io.EOF},
		{"die=1", 100, os.ErrDeadlineExceeded},
	} {
		t.Run(test.fault, func(t *testing.T) {
			t.Parallel()
			a := start(t, Config{Fault: fault(t, test.fault)})
			p := dial(t, a)
			hello := wire.NewHello(wire.Location{PID: 1})
			p.write(encode(t, &hello))
			answer := p.read(test.bytes)
			patience := 100 * time.Millisecond
			if test.want == io.EOF {
				patience = harness.Patience
			}
			p.SetDeadline(time.Now().Add(patience))
			if n, err := p.Read(make([]byte, 1)); n != 0 || !errors.Is(err, test.want) {
				t.Errorf("behind the answer: %d bytes, %v", n, err)
			}
			var location wire.Location
			if ok := location.Decode(answer) == nil; ok != (test.bytes == 100 && test.fault != "garbage") {
				t.Errorf("the answer is right: %t", ok)
			}
			p.Close()
			settle(t, a)
			wantProblems(t, a)
		})
	}
}

func TestRefuse(t *testing.T) {
	a := start(t, Config{Fault: Fault{Kind: Refuse}})
	if _, err := net.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", a.Port())); !errors.Is(err, unix.ECONNREFUSED) {
		t.Error(err)
	}
	settle(t, a)
}

func TestDrop(t *testing.T) {
	a := start(t, Config{Fault: fault(t, "drop=1")})
	for pid := range int32(2) {
		p := connect(t, a, pid)
		p.send(event(nil))
		if _, err := p.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("read: %v", err)
		}
		p.Close()
	}
	settle(t, a)
	if n := len(a.Events()); n != 2 {
		t.Errorf("%d events", n)
	}
}

func TestDie(t *testing.T) {
	a := start(t, Config{Fault: fault(t, "die=2")})
	bystander := connect(t, a, 1)
	waitFor(t, a, func() bool { return len(a.connections[0].Messages) == 1 })
	p := connect(t, a, 2)
	p.send(event(nil))
	waitFor(t, a, func() bool { return len(a.events) == 1 })
	p.send(event(func(e *wire.Event) { e.Seq = 2 }))
	for _, q := range []*peer{p, bystander} {
		if _, err := q.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("read: %v", err)
		}
	}
	if _, err := net.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", a.Port())); !errors.Is(err, unix.ECONNREFUSED) {
		t.Error(err)
	}
	settle(t, a)
	if n := len(a.Events()); n != 2 {
		t.Errorf("%d events", n)
	}
	// Its port remains its own.
	for range 3 {
		if start(t, Config{}).Port() == a.Port() {
			t.Error("another agent was given the port")
		}
	}
}

// Two agents cannot listen on one port.
func TestBusy(t *testing.T) {
	a := start(t, Config{})
	if b, err := Start(Config{Port: a.Port()}); err == nil {
		b.Close()
		t.Error("the port was free")
	}
}

func TestParseFault(t *testing.T) {
	for s, want := range map[string]Fault{
		"":           {},
		"stall":      {Kind: Stall},
		"die=0":      {Kind: Die},
		"drop=3":     {Kind: Drop, Events: 3},
		"slow=1.5s":  {Kind: Slow, Delay: 1500 * time.Millisecond},
		"refuse":     {Kind: Refuse},
		"starting":   {Kind: Starting},
		"deaf":       {Kind: Deaf},
		"garbage":    {Kind: Garbage},
		"part":       {Kind: Part},
		"slow=100us": {Kind: Slow, Delay: 100 * time.Microsecond},
	} {
		if got, err := ParseFault(s); err != nil || got != want {
			t.Errorf("%q: %v %v", s, got, err)
		}
	}
	for _, s := range []string{"nosuch", "die", "drop", "slow", "die=", "die=x", "die=-1", "slow=-1s", "slow=3", "stall=1", "=1"} {
		if got, err := ParseFault(s); err == nil {
			t.Errorf("%q: %v", s, got)
		}
	}
	// All are in the text.
	for _, kind := range kinds {
		if !regexp.MustCompile(`\b` + string(kind) + `\b`).MatchString(Faults) {
			t.Errorf("%s: not in the text", kind)
		}
	}
}

// With a lag, what the agent has not come to is lost with its connection, and nothing is
// lost of one that stays open until the agent closes it.
func TestLag(t *testing.T) {
	a := start(t, Config{Lag: 50 * time.Millisecond})
	hasty := connect(t, a, 1)
	for seq := range 5 {
		hasty.send(event(func(e *wire.Event) { e.Seq = uint16(seq + 1) }))
	}
	waitFor(t, a, func() bool { return len(a.events) > 0 })
	hasty.Close()
	waitFor(t, a, func() bool { return !a.connections[0].open })
	got, dropped := len(a.Events()), a.Dropped()
	if dropped == 0 || got+dropped != 5 {
		t.Errorf("%d events have arrived, %d were dropped", got, dropped)
	}

	patient := connect(t, a, 2)
	patient.send(event(nil))
	patient.send(wire.Message{Type: wire.ClientDereg, Src: wire.Manager(patient.id.Location)})
	waitFor(t, a, func() bool { return a.connections[1].leaving })
	// Another client wakes it.
	dial(t, a).Close()
	if n, err := patient.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("%d, %v", n, err)
	}
	if len(a.Events()) != got+1 || a.Dropped() != dropped {
		t.Errorf("%d events, %d dropped", len(a.Events()), a.Dropped())
	}
}
