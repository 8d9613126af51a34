package ftbsim

import (
	"slices"

	"blcr-cli/internal/ftbclient/wire"
)

// subscription is what a client wants to hear of (section 4).
type subscription struct {
	src  wire.ID
	mask wire.Event
}

// sameMask tells whether two masks have the same in each field that matters.
func sameMask(a, b *wire.Event) bool {
	return wire.EqualFold(a.Region, b.Region) && wire.EqualFold(a.CompCat, b.CompCat) && wire.EqualFold(a.Comp, b.Comp) &&
		wire.EqualFold(a.Name, b.Name) && wire.EqualFold(a.Severity, b.Severity) && wire.EqualFold(a.JobID, b.JobID) &&
		wire.EqualFold(a.ClientName, b.ClientName) && wire.EqualFold(a.Hostname, b.Hostname)
}

func (c *Connection) unsubscribe(which func(*subscription) bool) {
	c.subscriptions = slices.DeleteFunc(c.subscriptions, func(s subscription) bool { return which(&s) })
}

// route gives an event to the clients that have subscribed to it, once to each.
// It goes out as it came in, stale bytes included, but for dst, which becomes the
// subscriber. The caller has the lock.
func (a *Agent) route(m *wire.Message, raw []byte) {
	for _, c := range a.connections {
		var given []wire.ID
		for _, s := range c.subscriptions {
			if !s.mask.Match(&m.Event) || slices.ContainsFunc(given, func(id wire.ID) bool { return id.Equal(&s.src) }) {
				continue
			}
			given = append(given, s.src)
			// The ids are those of a message that was decoded.
			dst, err := s.src.Encode(nil)
			if err != nil {
				panic(err)
			}
			out := slices.Clone(raw)
			copy(out[dstOffset:], dst)
			// One that does not read loses the event.
			_ = c.send(out)
		}
	}
}
