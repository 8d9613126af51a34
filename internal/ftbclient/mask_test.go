package ftbclient

import (
	"errors"
	"strings"
	"testing"

	"blcr-cli/internal/ftbclient/wire"
)

// The subscription strings of section 4.
func TestParseMask(t *testing.T) {
	with := func(change func(*wire.Event)) *wire.Event {
		m := wire.NewMask()
		change(&m)
		return &m
	}
	x := func(n int) string { return strings.Repeat("x", n) }
	for s, want := range map[string]*wire.Event{
		"":                                   with(func(*wire.Event) {}),
		"event_space=FTB.checkpoint_sw.blcr": with(func(m *wire.Event) { m.Region, m.CompCat, m.Comp = "FTB", "checkpoint_sw", "blcr" }),
		"event_space=all.checkpoint_sw.ALL":  with(func(m *wire.Event) { m.CompCat, m.Comp = "checkpoint_sw", "ALL" }),
		"event_name=chkpt_end":               with(func(m *wire.Event) { m.Name = "chkpt_end" }),
		" Severity = eRRor\t, JOBID=4185.a,host_name=10.0.0.7,client_name=node17 ": with(func(m *wire.Event) {
			m.Severity, m.JobID, m.Hostname, m.ClientName = "eRRor", "4185.a", "10.0.0.7", "node17"
		}),
		"severity=all":                with(func(m *wire.Event) {}),
		"severity=fatal":              with(func(m *wire.Event) { m.Severity = "fatal" }),
		"jobid=" + x(15):              with(func(m *wire.Event) { m.JobID = x(15) }),
		"event_name=" + x(31):         with(func(m *wire.Event) { m.Name = x(31) }),
		"host_name=" + x(63):          with(func(m *wire.Event) { m.Hostname = x(63) }),
		"jobid=" + x(16):              nil,
		"client_name=" + x(16):        nil,
		"event_name=" + x(32):         nil,
		"host_name=" + x(64):          nil,
		"event_space=FTB":             nil,
		"event_space=a.b.c.d":         nil,
		"event_space=a.b-.c":          nil,
		"severity=notice":             nil,
		"severity":                    nil,
		"severity=":                   nil,
		"=info":                       nil,
		"severity=info,":              nil,
		",severity=info":              nil,
		" ":                           nil,
		"severity=info,SEVERITY=info": nil,
		"sever ity=info":              nil,
		"event_name=a b":              nil,
		"event_name=a=b":              nil,
		"event_name=a\x00":            nil,
		"host=10.0.0.7":               nil,
	} {
		got, err := ParseMask(s)
		switch {
		case want == nil && !errors.Is(err, ErrInvalid):
			t.Errorf("%q: %v", s, err)
		case want != nil && (err != nil || got != *want):
			t.Errorf("%q: %+v, %v", s, got, err)
		}
	}
}

// FuzzMask: each mask that is accepted can be sent.
func FuzzMask(f *testing.F) {
	f.Add("event_space=a.b.c,severity=info,jobid=1")
	f.Fuzz(func(t *testing.T, s string) {
		if mask, err := ParseMask(s); err == nil {
			if _, err := mask.Encode(nil); err != nil {
				t.Error(err)
			}
		}
	})
}
