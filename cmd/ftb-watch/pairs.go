package main

import (
	"slices"
	"strings"

	"blcr-cli/internal/ftbclient/wire"
)

// pairs has the BEGIN events that have not been responded to, in their order.
type pairs struct {
	waiting map[wire.Handle]*event
	order   []wire.Handle
}

// mostWaiting is how many there are at most. The response to a BEGIN may never come.
const mostWaiting = 10000

// take returns the events to be shown now that e has come. A BEGIN is shown with its
// response, and without one only if too many are waiting.
func (p *pairs) take(e *event) []*event {
	if e.begins() {
		if p.waiting == nil {
			p.waiting = map[wire.Handle]*event{}
		}
		key := fold(e.handle)
		if p.waiting[key] == nil {
			p.order = append(p.order, key)
		}
		p.waiting[key] = e
		if len(p.order) <= mostWaiting {
			return nil
		}
		oldest := p.waiting[p.order[0]]
		p.remove(p.order[0])
		return []*event{oldest}
	}
	if e.about != nil {
		key := fold(*e.about)
		if begin := p.waiting[key]; begin != nil {
			e.begin = begin
			p.remove(key)
		}
	}
	return []*event{e}
}

func (p *pairs) remove(key wire.Handle) {
	delete(p.waiting, key)
	if i := slices.Index(p.order, key); i >= 0 {
		p.order = slices.Delete(p.order, i, i+1)
	}
}

// left returns those that are still waiting.
func (p *pairs) left() (events []*event) {
	for _, key := range p.order {
		events = append(events, p.waiting[key])
	}
	return events
}

// fold returns a handle that is the same for all handles that FTB takes for equal: it
// compares strings without case.
func fold(h wire.Handle) wire.Handle {
	for _, s := range []*string{
		&h.EventName, &h.Severity, &h.Client.Region, &h.Client.CompCat, &h.Client.Comp, &h.Client.Name,
		&h.Location.Hostname, &h.Location.StartTime,
	} {
		*s = strings.Map(lower, *s)
	}
	return h
}

// lower is for ASCII letters only. (Of bytes that are no UTF-8 it makes U+FFFD.)
func lower(r rune) rune {
	if 'A' <= r && r <= 'Z' {
		return r + 'a' - 'A'
	}
	return r
}
