package wire

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

// me is the identity that the captures were made with.
var me = Location{"192.0.2.2", "Fri_Feb_13_044_23:31:30", 4242}

func capture(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// agent is the agent with which the captures were made.
func agent(t testing.TB) Location {
	t.Helper()
	var at Location
	decode(t, &at, capture(t, "09-oneconn.a2c.bin"))
	return at
}

func decode(t testing.TB, v interface{ Decode([]byte) error }, b []byte) {
	t.Helper()
	if err := v.Decode(b); err != nil {
		t.Fatal(err)
	}
}

func encode(t testing.TB, v interface{ Encode([]byte) ([]byte, error) }, b []byte) []byte {
	t.Helper()
	b, err := v.Encode(b)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// sameBytes reports the offset and the message at which got is wrong.
func sameBytes(t *testing.T, got, want []byte) {
	t.Helper()
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			t.Fatalf("byte %d (+%d of a message) is %#x, want %#x", i, (i+MessageSize-104)%MessageSize, got[i], want[i])
		}
	}
	if len(got) != len(want) {
		t.Fatalf("%d bytes, want %d", len(got), len(want))
	}
}

// blcr is a client like BLCR's, with the events that it publishes.
type blcr struct {
	id    ID
	agent Location
	jobID string
}

func (c *blcr) message(kind MessageType) Message {
	return Message{Type: kind, Src: c.id, Dst: ID{Location: c.agent}}
}

func (c *blcr) notify(name, severity string, seq uint16, payload []byte) Message {
	m := c.message(Notify)
	m.Event = Event{
		Region: c.id.Client.Region, CompCat: c.id.Client.CompCat, Comp: c.id.Client.Comp,
		Name: name, Severity: severity, JobID: c.jobID, ClientName: c.id.Client.Name,
		Hostname: c.id.Location.Hostname, Seq: seq, Type: Normal,
	}
	if payload != nil {
		m.Event.Type = Response
	}
	copy(m.Event.Payload[:], payload)
	return m
}

// stream is a whole connection.
func (c *blcr) stream(t *testing.T, messages ...Message) []byte {
	t.Helper()
	hello := NewHello(c.id.Location)
	b := encode(t, &hello, nil)
	all := append([]Message{c.message(ClientReg)}, messages...)
	all = append(all, c.message(ClientDereg), Message{Type: ClientDereg, Src: Manager(c.id.Location), Dst: ID{Location: c.agent}})
	for _, m := range all {
		b = encode(t, &m, b)
	}
	return b
}

func newBLCR(t *testing.T) *blcr {
	return &blcr{id: ID{me, ClientID{Region: "FTB", CompCat: "checkpoint_sw", Comp: "blcr"}}, agent: agent(t)}
}

// Every stream that C clients sent.
func TestGoldenStreams(t *testing.T) {
	for _, operation := range []string{"CHKPT", "RSTRT"} {
		c := newBLCR(t)
		begin := c.notify(operation+"_BEGIN", "INFO", 1, nil)
		h := begin.Handle()
		handle := encode(t, &h, nil)
		t.Run(operation+"-handle", func(t *testing.T) {
			sameBytes(t, handle, capture(t, operation+"_BEGIN.handle.bin"))
		})
		names := map[string][3]string{
			"CHKPT": {"01-chkpt-begin", "02-chkpt-end", "04-chkpt-error"},
			"RSTRT": {"05-rstrt-begin", "06-rstrt-end", "08-rstrt-error"},
		}[operation]
		for i, m := range []Message{
			begin,
			c.notify(operation+"_END", "INFO", 1, handle),
			c.notify(operation+"_ERROR", "ERROR", 1, binary.LittleEndian.AppendUint32(bytes.Clone(handle), 2)),
		} {
			t.Run(names[i], func(t *testing.T) {
				sameBytes(t, c.stream(t, m), capture(t, names[i]+".c2a.bin"))
			})
		}
	}
	t.Run("09-oneconn", func(t *testing.T) {
		c := newBLCR(t)
		c.id.Client.Name, c.jobID = "blcr_client", "job42"
		begin := c.notify("CHKPT_BEGIN", "INFO", 1, nil)
		h := begin.Handle()
		handle := encode(t, &h, nil)
		sameBytes(t, handle, capture(t, "oneconn.handle.bin"))
		sameBytes(t, c.stream(t, begin,
			c.notify("CHKPT_END", "INFO", 2, handle),
			c.notify("CHKPT_ERROR", "ERROR", 3, binary.LittleEndian.AppendUint32(bytes.Clone(handle), 2)),
		), capture(t, "09-oneconn.c2a.bin"))
	})
	t.Run("10-subscriber", func(t *testing.T) {
		c := subscriber(t)
		mask := NewMask()
		mask.Region, mask.CompCat, mask.Comp = "FTB", "checkpoint_sw", "blcr"
		reg, cancel := c.message(RegSubscription), c.message(SubscriptionCancel)
		reg.Event, cancel.Event = mask, mask
		sameBytes(t, c.stream(t, reg, cancel), capture(t, "10-subscriber.c2a.bin"))
	})
}

func subscriber(t *testing.T) *blcr {
	return &blcr{
		id: ID{
			Location{"192.0.2.2", "Sun_Nov_22_326_08:33:48", 9585},
			ClientID{Region: "FTB", CompCat: "TEST", Comp: "SUBSCRIBER", Name: "sub"},
		},
		agent: agent(t),
	}
}

// Messages of an agent contain stale memory after strings, and in the payload of the
// first event.
func TestGoldenReceived(t *testing.T) {
	b := capture(t, "10-subscriber.a2c.bin")
	var at Location
	decode(t, &at, b)
	if want := (Location{"192.0.2.2", "Sun_Nov_22_326_08:18:08", 15622}); at != want {
		t.Errorf("agent is %+v", at)
	}

	c := newBLCR(t)
	c.id.Location.PID = 4343
	begin := c.notify("CHKPT_BEGIN", "INFO", 1, nil)
	h := begin.Handle()
	failed := c.notify("CHKPT_ERROR", "ERROR", 1, binary.LittleEndian.AppendUint32(encode(t, &h, nil), 2))
	b = b[LocationSize:]
	for i, want := range []Message{begin, failed} {
		want.Dst = subscriber(t).id
		var got Message
		decode(t, &got, b[i*MessageSize:])
		if i == 0 {
			copy(want.Event.Payload[:], b[967:])
		}
		if got != want {
			t.Errorf("message %d:\n got %+v\nwant %+v", i, got, want)
		}
		if got.Handle() != want.Handle() {
			t.Errorf("handle %d: %+v", i, got.Handle())
		}
	}
	var about Handle
	decode(t, &about, b[MessageSize+967:])
	if !about.Equal(&h) {
		t.Errorf("the response is about %+v", about)
	}
}

// Every structure of every stream, decoded and encoded again.
func TestGoldenRoundTrip(t *testing.T) {
	streams, err := filepath.Glob("testdata/*.c2a.bin")
	if err != nil || len(streams) != 8 {
		t.Fatalf("%d streams, %v", len(streams), err)
	}
	for _, name := range streams {
		b := capture(t, filepath.Base(name))
		var hello Hello
		decode(t, &hello, b)
		if hello != NewHello(hello.Location) {
			t.Errorf("%s: %+v", name, hello)
		}
		got := encode(t, &hello, nil)
		for len(got) < len(b) {
			var m Message
			decode(t, &m, b[len(got):])
			got = encode(t, &m, got)
		}
		sameBytes(t, got, b)
	}
	for _, name := range []string{"CHKPT_BEGIN", "RSTRT_BEGIN", "oneconn"} {
		b := capture(t, name+".handle.bin")
		var h Handle
		decode(t, &h, b)
		sameBytes(t, encode(t, &h, nil), b)
	}
}

func TestGoldenPackets(t *testing.T) {
	for name, want := range map[string]Packet{
		"packet-addr-req":            NewAddrReq(false, Addr{"127.0.0.1", 20201}, Addr{}),
		"packet-addr-req-avoid":      NewAddrReq(false, Addr{"127.0.0.1", 20207}, Addr{"127.0.0.1", 2}),
		"packet-addr-rep":            {Type: AddrRep, Parent: Addr{"127.0.0.1", 20201}, Level: 1},
		"packet-addr-rep-none":       {Type: AddrRep},
		"packet-short-addr-req":      NewAddrReq(true, Addr{"127.0.0.1", 20201}, Addr{}),
		"packet-short-addr-rep":      {Short: true, Type: AddrRep, Addr: Addr{"127.0.0.1", 20701}, Level: 1},
		"packet-short-addr-rep-none": {Short: true, Type: AddrRep},
		"packet-short-reg-req":       {Short: true, Type: RegReq, Addr: Addr{"localhost", 20701}, Level: 1},
	} {
		t.Run(name, func(t *testing.T) {
			b := capture(t, name+".bin")
			var got Packet
			decode(t, &got, b)
			if got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
			sameBytes(t, encode(t, &want, nil), b)
			if want.Size() != len(b) {
				t.Errorf("size %d", want.Size())
			}
		})
	}
	// Everything except the type and Addr is stale memory.
	var got Packet
	decode(t, &got, capture(t, "packet-conn-fail.bin"))
	if got.Type != ConnFail || got.Addr != (Addr{"127.0.0.1", 20201}) {
		t.Errorf("%+v", got)
	}
	for name, want := range map[string]Addr{
		"packet-addr-rep":       {"127.0.0.1", 20201},
		"packet-short-addr-rep": {"127.0.0.1", 20701},
		"packet-addr-rep-none":  {},
	} {
		decode(t, &got, capture(t, name+".bin"))
		if got.Agent() != want {
			t.Errorf("%s proposes %v", name, got.Agent())
		}
	}
}

// The existing part of the slice is kept, and a failure appends nothing.
func TestAppend(t *testing.T) {
	at := me
	b := encode(t, &at, []byte("abc"))
	if !bytes.HasPrefix(b, []byte("abc")) || len(b) != 3+LocationSize {
		t.Errorf("%q", b)
	}
	at.StartTime = "abcdefghijklmnopqrstuvwxyz012345"
	if b, err := at.Encode([]byte("abc")); err == nil || string(b) != "abc" {
		t.Errorf("%q, %v", b, err)
	}
}

// The fields' offsets within structures, one by one (sections 3.1 to 3.7, 8).
func TestOffsets(t *testing.T) {
	at := Location{"h", "t", 0x04030201}
	client := ClientID{"r", "c", "p", "n", 7}
	id := ID{at, client}
	ev := Event{Region: "r", CompCat: "c", Comp: "p", Name: "e", Severity: "s", JobID: "j", ClientName: "n", Hostname: "h", Seq: 0x0201, Type: 9}
	ev.Payload[0], ev.Payload[PayloadSize-1] = 'P', 'Q'
	for name, c := range map[string]struct {
		v    interface{ Encode([]byte) ([]byte, error) }
		size int
		at   map[int]string
	}{
		"location": {&at, 100, map[int]string{0: "h", 64: "t", 96: "\x01\x02\x03\x04"}},
		"client":   {&client, 209, map[int]string{0: "r", 64: "c", 128: "p", 192: "n", 208: "\x07"}},
		"id":       {&id, 312, map[int]string{0: "h", 64: "t", 96: "\x01\x02\x03\x04", 100: "r", 164: "c", 228: "p", 292: "n", 308: "\x07"}},
		"event": {&ev, 708, map[int]string{0: "r", 64: "c", 128: "p", 192: "e", 224: "s", 240: "j", 256: "n", 272: "h",
			336: "\x01\x02", 338: "\x09", 339: "P", 706: "Q"}},
		"message": {&Message{0x22, id, ID{Location: Location{Hostname: "a"}, Client: ClientID{Ext: 8}}, ev}, 1336, map[int]string{
			0: "\x22", 4: "h", 68: "t", 100: "\x01\x02\x03\x04", 104: "r", 168: "c", 232: "p", 296: "n", 312: "\x07",
			316: "a", 624: "\x08", 628: "r", 692: "c", 756: "p", 820: "e", 852: "s", 868: "j", 884: "n", 900: "h",
			964: "\x01\x02", 966: "\x09", 967: "P", 1334: "Q"}},
		"handle": {&Handle{"e", "s", client, 0x0201, at}, 360, map[int]string{0: "e", 32: "s", 48: "r", 112: "c", 176: "p", 240: "n", 256: "\x07",
			258: "\x01\x02", 260: "h", 324: "t", 356: "\x01\x02\x03\x04"}},
		"packet": {&Packet{false, 7, Addr{"a", 0x04030201}, Addr{"b", 0x08070605}, 0x0a09}, 144, map[int]string{0: "\x07",
			4: "a", 68: "\x01\x02\x03\x04", 72: "b", 136: "\x05\x06\x07\x08", 140: "\x09\x0a"}},
		"short packet": {&Packet{true, 7, Addr{"a", 0x04030201}, Addr{}, 0x0a09}, 76, map[int]string{0: "\x07",
			4: "a", 68: "\x01\x02\x03\x04", 72: "\x09\x0a"}},
	} {
		want := make([]byte, c.size)
		for offset, s := range c.at {
			copy(want[offset:], s)
		}
		got := encode(t, c.v, nil)
		if !bytes.Equal(got, want) {
			t.Errorf("%s:\n got %q\nwant %q", name, got, want)
		}
		again := reflect.New(reflect.TypeOf(c.v).Elem())
		decode(t, again.Interface().(interface{ Decode([]byte) error }), got)
		if !reflect.DeepEqual(again.Interface(), c.v) {
			t.Errorf("%s: %+v decoded as %+v", name, c.v, again)
		}
	}
}
