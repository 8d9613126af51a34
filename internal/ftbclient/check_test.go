package ftbclient

import (
	"strings"
	"testing"
	"time"

	"blcr-cli/internal/ftbclient/wire"
)

// The C library's error numbers, measured or from its source (section 6), where
// it does not crash.
func TestIdentity(t *testing.T) {
	x := func(n int) string { return strings.Repeat("x", n) }
	for _, c := range []struct {
		id   Identity
		code Code // 0: valid
	}{
		{blcr, 0},
		{Identity{"a.b.c", x(15), x(15)}, 0},
		{Identity{"a.b." + x(59), "", ""}, 0},
		{Identity{"A_1.b.c", "any -.\xff", "1:2"}, 0},
		{Identity{"a.b." + x(60), "", ""}, CodeEventSpace},
		{Identity{"", "", ""}, CodeEventSpace},
		{Identity{".a.b", "", ""}, CodeEventSpace},
		{Identity{"FTB.a.", "", ""}, CodeEventSpace},
		{Identity{"FTB..a", "", ""}, CodeEventSpace},
		{Identity{"FTB.a.b.c", "", ""}, CodeEventSpace},
		{Identity{"FTB.a.b.", "", ""}, CodeEventSpace},
		{Identity{"FTB.a-b.c", "", ""}, CodeEventSpace},
		{Identity{"FTB.a b.c", "", ""}, CodeEventSpace},
		{Identity{"FTB.ä.c", "", ""}, CodeEventSpace},
		{Identity{"FTB.a\x00.c", "", ""}, CodeEventSpace},
		{Identity{"FTB", "", ""}, CodeEventSpace},
		{Identity{"FTB.x", "", ""}, CodeEventSpace},
		{Identity{"a.b.c", x(16), ""}, CodeValue},
		{Identity{"a.b.c", "", x(16)}, CodeValue},
		{Identity{"a.b.c", "\x00", ""}, CodeValue},
		{Identity{"a.b.c", "", "a\x00"}, CodeValue},
		{Identity{"", x(16), x(16)}, CodeEventSpace}, // checked first
	} {
		id, err := c.id.check()
		if c.code == 0 {
			if err != nil || id.Region+"."+id.CompCat+"."+id.Comp != c.id.Space || id.Name != c.id.Name || id.Ext != 0 {
				t.Errorf("%q: %+v, %v", c.id, id, err)
			}
			continue
		}
		checkError(t, err, "check", ErrInvalid, c.code)
		// It is checked before anything is sent.
		_, err = Dial(Config{}, c.id, time.Now().Add(-time.Second))
		checkError(t, err, "check", ErrInvalid, c.code)
	}
}

func TestEvent(t *testing.T) {
	x := func(n int) string { return strings.Repeat("x", n) }
	for _, c := range []struct {
		ev   Event
		code Code // 0: valid
	}{
		{Event{"CHKPT_BEGIN", "INFO", 1, nil}, 0},
		{Event{x(31), "fatal", 2, make([]byte, 368)}, 0},
		{Event{"ALL", "Warning", 1, nil}, 0},
		{Event{"9", "eRRoR", 1, nil}, 0},
		{Event{x(32), "INFO", 1, nil}, CodeField},
		{Event{"C-3", "INFO", 1, nil}, CodeField},
		{Event{"C\x00", "INFO", 1, nil}, CodeField},
		{Event{"C", "notice", 1, nil}, CodeField},
		{Event{"C", "all", 1, nil}, CodeField},
		{Event{"C", "", 1, nil}, CodeField},
		{Event{"C", "INFO ", 1, nil}, CodeField},
		{Event{"", "INFO", 1, nil}, CodeEventName},
		{Event{"", "INFO", 3, nil}, CodeEventName},
		{Event{"", "x", 1, nil}, CodeField}, // an error of the declaration, which comes first
		{Event{"C", "INFO", 0, nil}, CodeEventType},
		{Event{"C", "INFO", 3, nil}, CodeEventType},
		{Event{"C", "INFO", 1, make([]byte, 369)}, CodeValue},
	} {
		err := c.ev.check()
		if c.code != 0 {
			checkError(t, err, "check", ErrInvalid, c.code)
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
		if err != nil || ev.check() != nil {
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
