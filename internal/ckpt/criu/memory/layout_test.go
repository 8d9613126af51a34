package memory

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// TestLayoutOrder: what an event is about is found also if it is read after the event of a
// thread that has moved memory to the same place since.
func TestLayoutOrder(t *testing.T) {
	const size, a, x, y = 4 * 4096, 1 << 20, 2 << 20, 3 << 20
	move := func(from, to uint64) func(*layout) { return func(l *layout) { l.relocate(from, to, size) } }
	unmap := func(at uint64) func(*layout) { return func(l *layout) { l.unmap(at, at+size) } }
	for name, test := range map[string]struct {
		events  []func(*layout)
		a, x, y int64 // which of the pieces is there in the end, 0 for none
	}{
		"moved in order":                 {[]func(*layout){move(x, y), unmap(x), move(a, x), unmap(a)}, 0, 1, 2},
		"moved, told later":              {[]func(*layout){move(a, x), move(x, y), unmap(x), unmap(a)}, 0, 1, 2},
		"moved, end told later":          {[]func(*layout){move(x, y), move(a, x), unmap(x), unmap(a)}, 0, 1, 2},
		"moved, end told last":           {[]func(*layout){move(x, y), move(a, x), unmap(a), unmap(x)}, 0, 1, 2},
		"unmapped, told later":           {[]func(*layout){move(a, x), unmap(x), unmap(a)}, 0, 1, 0},
		"unmapped with more, told later": {[]func(*layout){move(a, x), func(l *layout) { l.unmap(x, x+2*size) }, unmap(a)}, 0, 1, 0},
		"moved on meanwhile":             {[]func(*layout){move(x, y), move(a, x), move(x, a), unmap(x), unmap(a), unmap(x)}, 1, 0, 2},
		"left mapped, and moved back":    {[]func(*layout){move(x, y), unmap(x), move(y, x), unmap(y)}, 1 << 8, 2, 0},
		"left mapped, moved over, back":  {[]func(*layout){move(a, y), unmap(a), move(x, a), unmap(x), move(y, x), unmap(y)}, 2, 1, 0},
	} {
		l := newLayout([]Piece{{a, 0, size}, {x, size, size}})
		for _, event := range test.events {
			event(&l)
		}
		for place, want := range map[uint64]int64{a: test.a, x: test.x, y: test.y} {
			if want == 1<<8 {
				continue
			}
			p, found := l.find(place)
			if got := p.Offset/size + 1; found != (want != 0) || found && got != want {
				t.Errorf("%s: at %#x is %v (%v), want piece %d", name, place, p, found, want)
			}
		}
	}
}

// TestLayoutThreads: threads unmap and move memory, and tell of it in any order.
func TestLayoutThreads(t *testing.T) {
	const places, threads, size = 12, 3, 4096
	r := rand.New(rand.NewPCG(3, 4))
	at := func(place int) uint64 { return uint64(place+1) * (8 << 20) }
	for range 300 {
		var list []Piece
		has := make([]int64, places)   // the offset, -1 for nothing that is known
		mapped := make([]bool, places) // for the kernel
		untold := make([]int, places)  // how many ends of mappings are not told of
		user := make([]int, places)    // the thread that has mapped or moved it last
		for i := range places {
			has[i] = -1
			if i%2 == 0 {
				has[i], mapped[i] = int64(i)*size, true
				list = append(list, Piece{at(i), has[i], size})
			}
		}
		l := newLayout(list)
		var pending [threads][]func()
		end := func(place int) func() {
			return func() { l.unmap(at(place), at(place)+size); untold[place]-- }
		}
		for range 400 {
			thread := r.IntN(threads)
			if tell := pending[thread]; len(tell) > 0 {
				pending[thread] = tell[1:]
				tell[0]()
				if !slices.ContainsFunc(pending[:], func(p []func()) bool { return len(p) > 0 }) {
					l.settle()
				}
				continue
			}
			from, to := r.IntN(places), r.IntN(places)
			// No program changes what another thread is just changing. Of memory that goes on
			// from such a place at once it is not known which is meant.
			used := func(place int) bool { return mapped[place] && len(pending[user[place]]) > 0 }
			if !mapped[from] || untold[from] > 0 || used(from) || used(to) {
				continue
			}
			user[from] = thread
			var tell []func()
			switch r.IntN(3) {
			case 0:
				tell = append(tell, end(from))
				mapped[from], has[from] = false, -1
				untold[from]++
			default:
				if from == to || untold[to] > 0 && mapped[to] {
					continue
				}
				if mapped[to] { // MREMAP_FIXED
					tell = append(tell, end(to))
					untold[to]++
				}
				tell = append(tell, func() { l.relocate(at(from), at(to), size) })
				user[to] = thread
				mapped[to], has[to], has[from] = true, has[from], -1
				if r.IntN(2) == 0 { // else MREMAP_DONTUNMAP
					tell = append(tell, end(from))
					mapped[from] = false
					untold[from]++
				}
			}
			pending[thread] = tell
		}
		for _, tell := range pending {
			for _, f := range tell {
				f()
			}
		}
		for i := range places {
			p, found := l.find(at(i))
			if found != (has[i] >= 0) || found && p.Offset != has[i] {
				t.Fatalf("at place %d is %v (%v), want %d", i, p, found, has[i])
			}
		}
		if len(l.aside) > 0 {
			t.Fatalf("still aside: %v", l.aside)
		}
	}
}
