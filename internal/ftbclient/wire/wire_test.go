package wire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

// coder is the interface of all structures.
type coder interface {
	Encode([]byte) ([]byte, error)
	Decode([]byte) error
}

// kinds are all structures, with a valid capture of each.
func kinds(t testing.TB) map[string]struct {
	new     func() coder
	capture []byte
} {
	stream, handle := capture(t, "09-oneconn.c2a.bin"), capture(t, "oneconn.handle.bin")
	const notify = HelloSize + MessageSize
	return map[string]struct {
		new     func() coder
		capture []byte
	}{
		"location": {func() coder { return new(Location) }, stream[4 : 4+LocationSize]},
		"client":   {func() coder { return new(ClientID) }, stream[notify+104 : notify+104+ClientIDSize]},
		"id":       {func() coder { return new(ID) }, stream[notify+4 : notify+4+IDSize]},
		"event":    {func() coder { return new(Event) }, stream[notify+628 : notify+628+EventSize]},
		"message":  {func() coder { return new(Message) }, stream[notify : notify+MessageSize]},
		"hello":    {func() coder { return new(Hello) }, stream[:HelloSize]},
		"handle":   {func() coder { return new(Handle) }, handle},
	}
}

func TestTruncated(t *testing.T) {
	for name, k := range kinds(t) {
		for n := range k.capture {
			v := k.new()
			if err := v.Decode(k.capture[:n]); err != io.ErrUnexpectedEOF {
				t.Fatalf("%s of %d bytes: %v", name, n, err)
			}
			if fmt.Sprint(v) != fmt.Sprint(k.new()) {
				t.Fatalf("%s of %d bytes: %v", name, n, v)
			}
		}
		// What follows is ignored.
		v := k.new()
		if err := v.Decode(append(bytes.Clone(k.capture), 0xff)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPacketSizes(t *testing.T) {
	b := append(capture(t, "packet-addr-rep.bin"), 0, 0)
	for n := range len(b) + 1 {
		var p Packet
		err := p.Decode(b[:n])
		if n == PacketSize || n == ShortPacketSize {
			if err != nil || p.Short != (n == ShortPacketSize) {
				t.Errorf("%d bytes: %+v, %v", n, p, err)
			}
		} else if !errors.Is(err, PacketSizeError(n)) || p != (Packet{}) {
			t.Errorf("%d bytes: %+v, %v", n, p, err)
		}
	}
}

// Each string once without its NUL, and once as long as possible.
func TestStringsOnTheWire(t *testing.T) {
	fields := map[string]map[int]int{ // offset: size
		"location": {0: 64, 64: 32},
		"client":   {0: 64, 64: 64, 128: 64, 192: 16},
		"id":       {0: 64, 64: 32, 100: 64, 164: 64, 228: 64, 292: 16},
		"event":    {0: 64, 64: 64, 128: 64, 192: 32, 224: 16, 240: 16, 256: 16, 272: 64},
		"message": {4: 64, 68: 32, 104: 64, 168: 64, 232: 64, 296: 16,
			628: 64, 692: 64, 756: 64, 820: 32, 852: 16, 868: 16, 884: 16, 900: 64},
		"hello":  {4: 64, 68: 32, 108: 64, 172: 32, 208: 64, 272: 64, 336: 64, 400: 16},
		"handle": {0: 32, 32: 16, 48: 64, 112: 64, 176: 64, 240: 16, 260: 64, 324: 32},
	}
	for name, k := range kinds(t) {
		if len(fields[name]) == 0 {
			t.Errorf("%s: no fields", name)
		}
		for offset, size := range fields[name] {
			b := bytes.Clone(k.capture)
			for i := range size {
				b[offset+i] = 'x'
			}
			var field *FieldError
			v := k.new()
			if err := v.Decode(b); !errors.As(err, &field) || field.Size != size || field.Value != strings.Repeat("x", size) {
				t.Errorf("%s+%d: %v", name, offset, err)
			}
			if fmt.Sprint(v) != fmt.Sprint(k.new()) {
				t.Errorf("%s+%d: changed to %v", name, offset, v)
			}
			b[offset+size-1] = 0
			if err := v.Decode(b); err != nil {
				t.Errorf("%s+%d: %v", name, offset, err)
			} else if got := encode(t, v, nil); !bytes.Equal(got, b) {
				t.Errorf("%s+%d: not the same again", name, offset)
			}
		}
	}
}

// Strings that do not fit.
func TestStringsThatDoNotFit(t *testing.T) {
	long := func(n int) string { return strings.Repeat("x", n) }
	for field, v := range map[string]coder{
		"hostname":         &Location{Hostname: long(64)},
		"pid_starttime":    &Location{StartTime: long(32)},
		"region":           &ClientID{Region: long(64)},
		"comp_cat":         &ClientID{CompCat: long(64)},
		"comp":             &Event{Comp: long(64)},
		"client_name":      &ID{Client: ClientID{Name: long(16)}},
		"event_name":       &Message{Event: Event{Name: long(32)}},
		"severity":         &Handle{Severity: long(16)},
		"client_jobid":     &Hello{Message: Message{Event: Event{JobID: long(16)}}},
		"addr.name":        &Packet{Addr: Addr{Name: long(64)}},
		"parent_addr.name": &Packet{Parent: Addr{Name: "a\x00b"}},
	} {
		var e *FieldError
		if b, err := v.Encode(nil); !errors.As(err, &e) || e.Field != field || b != nil {
			t.Errorf("%s: %v", field, err)
		}
	}
}

// Parts of messages that agents ignore may have any content.
func TestUnsetParts(t *testing.T) {
	b := capture(t, "09-oneconn.c2a.bin")[HelloSize : HelloSize+MessageSize]
	want := Message{Type: ClientReg}
	decode(t, &want.Src, b[4:])
	for i := 316; i < MessageSize; i++ {
		b[i] = 0xee
	}
	for i := 313; i < 316; i++ {
		b[i] = 0xee
	}
	var m Message
	if err := m.Decode(b); err != nil || m != want {
		t.Errorf("%+v, %v", m, err)
	}
	b[0] = 0x77 // an unknown type
	want.Type = 0x77
	if err := m.Decode(b); err != nil || m != want {
		t.Errorf("%+v, %v", m, err)
	}

	p := capture(t, "packet-conn-fail.bin")
	for i := 72; i < 136; i++ {
		p[i] = 0xee
	}
	var packet Packet
	if err := packet.Decode(p); err != nil || packet.Parent != (Addr{}) || packet.Addr.Port != 20201 {
		t.Errorf("%+v, %v", packet, err)
	}
	p[0] = byte(AddrRep)
	if err := packet.Decode(p); err == nil {
		t.Error("an answer without an end")
	}
}

func TestSystemID(t *testing.T) {
	b := capture(t, "09-oneconn.c2a.bin")
	b[1] = 1
	var h Hello
	if err := h.Decode(b); err != SystemIDError(0x101) {
		t.Error(err)
	}
}

func TestEqual(t *testing.T) {
	a, b := Location{"a", "b", 1}, Location{"A", "B", 1}
	if !a.Equal(&b) {
		t.Error("case counts")
	}
	for _, o := range []Location{{"x", "b", 1}, {"a", "x", 1}, {"a", "b", 2}, {"a", "bb", 1}} {
		if a.Equal(&o) {
			t.Errorf("%v is %v", a, o)
		}
	}
	id, same := ID{a, ClientID{"r", "c", "p", "n", 0}}, ID{b, ClientID{"other", "C", "P", "N", 0}}
	if !id.Equal(&same) {
		t.Error("case or the region count")
	}
	for _, o := range []ID{
		{b, ClientID{"r", "x", "p", "n", 0}}, {b, ClientID{"r", "c", "x", "n", 0}},
		{b, ClientID{"r", "c", "p", "x", 0}}, {b, ClientID{"r", "c", "p", "n", 1}}, {Location{}, id.Client},
	} {
		if id.Equal(&o) {
			t.Errorf("%v is %v", id, o)
		}
	}
	h := Handle{"e", "s", id.Client, 3, a}
	if o := (Handle{"E", "S", ClientID{"R", "C", "P", "N", 0}, 3, b}); !h.Equal(&o) {
		t.Error("case counts in handles")
	}
	for _, o := range []Handle{
		{"x", "s", id.Client, 3, a}, {"e", "x", id.Client, 3, a}, {"e", "s", same.Client, 3, a},
		{"e", "s", id.Client, 4, a}, {"e", "s", id.Client, 3, Location{}}, {"e", "s", ClientID{Region: "r"}, 3, a},
	} {
		if h.Equal(&o) {
			t.Errorf("%v is %v", h, o)
		}
	}
	// Letters that are equal in Unicode only; \u212a is the Kelvin sign.
	if EqualFold("\u212a", "k") || EqualFold("é", "É") || !EqualFold("[a_Z]", "[A_z]") || EqualFold("@", "`") {
		t.Error("EqualFold")
	}
}

func TestMatch(t *testing.T) {
	ev := Event{Region: "FTB", CompCat: "cs", Comp: "blcr", Name: "BEGIN", Severity: "INFO", JobID: "j", ClientName: "c", Hostname: "h"}
	for _, c := range []struct {
		what   string
		change func(*Event)
		want   bool
	}{
		{"all", func(m *Event) {}, true},
		{"ALL", func(m *Event) { m.Region, m.Name, m.Severity = "ALL", "All", "aLL" }, true},
		{"everything given", func(m *Event) { *m = ev }, true},
		{"other case", func(m *Event) { m.Region, m.Name, m.JobID = "ftb", "begin", "J" }, true},
		{"region", func(m *Event) { m.Region = "x" }, false},
		{"job", func(m *Event) { m.JobID = "x" }, false},
		{"no job", func(m *Event) { m.JobID = "" }, false},
		{"client", func(m *Event) { m.ClientName = "x" }, false},
		{"host", func(m *Event) { m.Hostname = "x" }, false},
		{"name", func(m *Event) { m.Name = "x" }, false},
		{"severity", func(m *Event) { m.Severity = "x" }, false},
		{"category", func(m *Event) { m.CompCat = "x" }, false},
		{"component", func(m *Event) { m.Comp = "x" }, false},
		{"name, and others that then do not count", func(m *Event) { m.Name, m.Severity, m.CompCat, m.Comp = "BEGIN", "x", "x", "x" }, true},
		{"name and region", func(m *Event) { m.Name, m.Region = "BEGIN", "x" }, false},
	} {
		mask := NewMask()
		c.change(&mask)
		if got := mask.Match(&ev); got != c.want {
			t.Errorf("%s: %v", c.what, got)
		}
	}
}

func TestMessageType(t *testing.T) {
	for kind, want := range map[MessageType]string{
		0x01: "NOTIFY", 0x11: "CLIENT_REG", 0x12: "CLIENT_DEREG", 0x22: "REG_SUBSCRIPTION", 0x24: "SUBSCRIPTION_CANCEL",
		0x13: "message type 0x13",
	} {
		if kind.String() != want {
			t.Errorf("%d is %s", kind, kind)
		}
	}
}
