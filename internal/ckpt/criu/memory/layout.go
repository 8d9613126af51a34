package memory

import "slices"

// layout is where the memory of an address space is, by the events that were read. It is
// used by one goroutine at a time; only pieces may be kept by others.
//
// Events of several threads need not come in the order in which the threads have changed
// the memory: each tells its own after the change, and may be kept from it for a while.
// The memory that one has unmapped or moved may be told of after another has moved memory
// to the same place. But each place that was left is told of once, by an event for
// unmapping, also if it was left by a move. So what is already at a place to which memory
// moves is set aside until it is told what has become of it.
type layout struct {
	pieces
	mapped []span  // in the order of addresses, without overlaps
	aside  []aside // oldest first
}

// span is where the userfaultfd was told to have memory, and not yet of its end.
type span struct {
	start, end uint64
	left       bool // what was there has moved
}

// aside is a span whose pieces have addresses that are higher by that much.
type aside struct {
	span
	by uint64
}

// asideUnit is above all addresses.
const (
	asideUnit  = 1 << 57
	asideLevel = 100 // the most
)

// isAside reports whether a piece was set aside.
func (p Piece) isAside() bool { return p.Address >= asideUnit }

// bridged is how far pieces of one mapping are apart at most.
const bridged = 1 << 20

func newLayout(list []Piece) layout {
	l := layout{pieces: newPieces(list)}
	for _, p := range list {
		if n := len(l.mapped); n > 0 && l.mapped[n-1].end <= p.Address && p.Address-l.mapped[n-1].end <= bridged {
			l.mapped[n-1].end = p.end()
		} else {
			l.add(span{start: p.Address, end: p.end()})
		}
	}
	return l
}

// forked returns the layout of a child.
func (l *layout) forked() layout {
	return layout{l.pieces, slices.Clone(l.mapped), slices.Clone(l.aside)}
}

// settle is for when no event is outstanding: what is aside then is nowhere any more.
func (l *layout) settle() { l.aside = nil }

// remove is for memory that was given up, and stays mapped.
func (l *layout) remove(start, end uint64) { l.pieces = l.without(start, end) }

// unmap is for memory that was unmapped: that which was there first.
func (l *layout) unmap(start, end uint64) {
	var rest []aside
	older := l.older(start, end, func(aside) bool { return true })
	for _, a := range l.aside {
		rest = append(rest, a.without(older)...)
	}
	l.aside = rest
	for _, part := range older {
		if part.by == 0 {
			l.cut(part.start, part.end)
		}
		l.pieces = l.without(part.start+part.by, part.end+part.by)
	}
}

// relocate is for memory that was moved.
func (l *layout) relocate(from, to, length uint64) {
	level := uint64(1)
	if n := len(l.aside); n > 0 {
		level = l.aside[n-1].by/asideUnit + 1
	}
	if level <= asideLevel {
		for _, m := range l.cut(to, to+length) {
			l.pieces = l.move(m.start, m.end, m.start+level*asideUnit)
			l.aside = append(l.aside, aside{m, level * asideUnit})
		}
	}
	older := l.older(from, from+length, func(a aside) bool { return !a.left })
	var marked []aside
	for _, a := range l.aside {
		for _, part := range older {
			if part.by == a.by && part.overlaps(a.start, a.end) {
				marked = append(marked, aside{span{part.start, part.end, true}, a.by})
			}
		}
		marked = append(marked, a.without(older)...)
	}
	l.aside = marked
	for _, part := range older {
		l.pieces = l.move(part.start+part.by, part.end+part.by, to+part.start-from)
		if part.by == 0 {
			l.cut(part.start, part.end)
			l.add(span{part.start, part.end, true})
		}
	}
	l.cut(to, to+length)
	l.add(span{start: to, end: to + length})
}

// older returns what an event from start to end is about: of what is aside the oldest, if
// it may be, and what is there for the rest.
func (l *layout) older(start, end uint64, may func(aside) bool) []aside {
	left := []aside{{span: span{start: start, end: end}}}
	var found []aside
	for _, a := range l.aside {
		if !may(a) || !a.overlaps(start, end) {
			continue
		}
		var rest []aside
		for _, part := range left {
			if part.overlaps(a.start, a.end) {
				found = append(found, aside{span{max(a.start, part.start), min(a.end, part.end), a.left}, a.by})
			}
			rest = append(rest, part.minus(a.start, a.end)...)
		}
		left = rest
	}
	return append(found, left...)
}

// without returns what is left of a without parts that are of the same level.
func (a aside) without(parts []aside) []aside {
	left := []aside{a}
	for _, part := range parts {
		if part.by != a.by {
			continue
		}
		var rest []aside
		for _, l := range left {
			rest = append(rest, l.minus(part.start, part.end)...)
		}
		left = rest
	}
	return left
}

func (a aside) minus(start, end uint64) (rest []aside) {
	for _, s := range a.span.minus(start, end) {
		rest = append(rest, aside{s, a.by})
	}
	return rest
}

func (s span) overlaps(start, end uint64) bool { return s.start < end && start < s.end }

// minus returns what is left of a span.
func (s span) minus(start, end uint64) (rest []span) {
	if s.start < min(start, s.end) {
		rest = append(rest, span{s.start, min(start, s.end), s.left})
	}
	if max(end, s.start) < s.end {
		rest = append(rest, span{max(end, s.start), s.end, s.left})
	}
	return rest
}

// cut takes what is mapped from start to end away, and returns it.
func (l *layout) cut(start, end uint64) (cut []span) {
	i, _ := slices.BinarySearchFunc(l.mapped, start, func(s span, at uint64) int {
		if s.end <= at {
			return -1
		}
		return 1
	})
	j := i
	var rest []span
	for ; j < len(l.mapped) && l.mapped[j].start < end; j++ {
		s := l.mapped[j]
		cut = append(cut, span{max(s.start, start), min(s.end, end), s.left})
		rest = append(rest, s.minus(start, end)...)
	}
	l.mapped = slices.Replace(l.mapped, i, j, rest...)
	return cut
}

// add adds a span where nothing is mapped.
func (l *layout) add(s span) {
	i, _ := slices.BinarySearchFunc(l.mapped, s.start, func(s span, at uint64) int {
		if s.start < at {
			return -1
		}
		return 1
	})
	l.mapped = slices.Insert(l.mapped, i, s)
}
