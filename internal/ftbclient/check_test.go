package ftbclient

import (
	"strings"
	"testing"
	"time"

	"blcr-cli/internal/ftbclient/wire"
)

// What the C library refuses, measured or from its source (section 6), and what makes
// it crash.
func TestIdentity(t *testing.T) {
	x := func(n int) string { return strings.Repeat("x", n) }
	for _, c := range []struct {
		id    Identity
		valid bool
	}{
		{blcr, true},
		{Identity{"a.b.c", x(15), x(15)}, true},
		{Identity{"a.b." + x(59), "", ""}, true},
		{Identity{"A_1.b.c", "any -.\xff", "1:2"}, true},
		{Identity{"a.b." + x(60), "", ""}, false},
		{Identity{"", "", ""}, false},
		{Identity{".a.b", "", ""}, false},
		{Identity{"FTB.a.", "", ""}, false},
		{Identity{"FTB..a", "", ""}, false},
		{Identity{"FTB.a.b.c", "", ""}, false},
		{Identity{"FTB.a.b.", "", ""}, false},
		{Identity{"FTB.a-b.c", "", ""}, false},
		{Identity{"FTB.a b.c", "", ""}, false},
		{Identity{"FTB.ä.c", "", ""}, false},
		{Identity{"FTB.a\x00.c", "", ""}, false},
		{Identity{"FTB", "", ""}, false},
		{Identity{"FTB.x", "", ""}, false},
		{Identity{"a.b.c", x(16), ""}, false},
		{Identity{"a.b.c", "", x(16)}, false},
		{Identity{"a.b.c", "\x00", ""}, false},
		{Identity{"a.b.c", "", "a\x00"}, false},
		{Identity{"", x(16), x(16)}, false},
	} {
		id, err := c.id.check()
		if c.valid {
			if err != nil || id.Region+"."+id.CompCat+"."+id.Comp != c.id.Space || id.Name != c.id.Name || id.Ext != 0 {
				t.Errorf("%q: %+v, %v", c.id, id, err)
			}
			continue
		}
		checkError(t, err, "check", ErrInvalid)
		// It is checked before anything is sent.
		_, err = Dial(Config{}, c.id, time.Now().Add(-time.Second))
		checkError(t, err, "check", ErrInvalid)
	}
}

func TestEvent(t *testing.T) {
	x := func(n int) string { return strings.Repeat("x", n) }
	for _, c := range []struct {
		ev    Event
		valid bool
	}{
		{Event{"CHKPT_BEGIN", "INFO", 1, nil}, true},
		{Event{x(31), "fatal", 2, make([]byte, 368)}, true},
		{Event{"ALL", "Warning", 1, nil}, true},
		{Event{"9", "eRRoR", 1, nil}, true},
		{Event{x(32), "INFO", 1, nil}, false},
		{Event{"C-3", "INFO", 1, nil}, false},
		{Event{"C\x00", "INFO", 1, nil}, false},
		{Event{"C", "notice", 1, nil}, false},
		{Event{"C", "all", 1, nil}, false},
		{Event{"C", "", 1, nil}, false},
		{Event{"C", "INFO ", 1, nil}, false},
		{Event{"", "INFO", 1, nil}, false},
		{Event{"", "INFO", 3, nil}, false},
		{Event{"", "x", 1, nil}, false},
		{Event{"C", "INFO", 0, nil}, false},
		{Event{"C", "INFO", 3, nil}, false},
		{Event{"C", "INFO", 1, make([]byte, 369)}, false},
	} {
		err := c.ev.Check()
		if !c.valid {
			checkError(t, err, "check", ErrInvalid)
		} else if err != nil {
			t.Error(err)
		}
	}
}

// Everything that passes the checks can be encoded.
func FuzzChecks(f *testing.F) {
	f.Add("FTB.checkpoint_sw.blcr", "n", "j", "CHKPT_BEGIN", "INFO", uint8(1), []byte("x"))
	f.Fuzz(func(t *testing.T, space, name, job, event, severity string, kind uint8, payload []byte) {
		id := Identity{space, name, job}
		ev := Event{event, severity, wire.EventType(kind), payload}
		client, err := id.check()
		if err != nil || ev.Check() != nil {
			return
		}
		m := wire.Message{Src: wire.ID{Client: client}, Event: wire.Event{Name: event, Severity: severity, JobID: job, ClientName: name}}
		if _, err := m.Encode(nil); err != nil {
			t.Error(err)
		}
		h := m.Handle()
		if _, err := h.Encode(nil); err != nil {
			t.Error(err)
		}
	})
}
