package memory

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestPieces(t *testing.T) {
	const page = 4096
	list := []Piece{{10 * page, 0, 4 * page}, {20 * page, 4 * page, 4 * page}}
	p := newPieces(list)
	check := func(p pieces, want ...Piece) {
		t.Helper()
		if got := slices.Collect(p.all); !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	check(p.without(0, 10*page), list...)
	check(p.without(11*page, 21*page), Piece{10 * page, 0, page}, Piece{21 * page, 5 * page, 3 * page})
	check(p.without(11*page, 12*page), Piece{10 * page, 0, page}, Piece{12 * page, 2 * page, 2 * page}, list[1])
	check(p.without(0, 100*page))
	moved := p.move(12*page, 22*page, 112*page)
	check(moved, Piece{10 * page, 0, 2 * page}, Piece{112 * page, 2 * page, 2 * page},
		Piece{120 * page, 4 * page, 2 * page}, Piece{22 * page, 6 * page, 2 * page})
	for address, offset := range map[uint64]int64{10: 0, 11: 1, 112: 2, 113: 3, 120: 4, 22: 6, 23: 7} {
		got, ok := moved.find(address * page)
		if !ok || got.Offset+int64(address*page-got.Address) != offset*page {
			t.Errorf("page %d is at %v, want page %d", address, got, offset)
		}
	}
	for _, address := range []uint64{9, 12, 14, 20, 24, 114, 119, 122} {
		if got, ok := moved.find(address * page); ok {
			t.Errorf("page %d is at %v", address, got)
		}
	}
	for address, offset := range map[uint64]int64{10: 0, 13: 3, 20: 4, 23: 7} {
		if got, ok := p.find(address * page); !ok || got.Offset+int64(address*page-got.Address) != offset*page {
			t.Errorf("page %d is at %v, want page %d", address, got, offset)
		}
	}
	for _, address := range []uint64{0, 9, 14, 19, 24} {
		if got, ok := p.find(address * page); ok {
			t.Errorf("page %d is at %v", address, got)
		}
	}
	if got, ok := p.next(3*page, 5*page); !ok || got != (Piece{13 * page, 3 * page, page}) {
		t.Errorf("%v", got)
	}
	if got, ok := p.next(8*page, 100*page); ok {
		t.Errorf("%v", got)
	}
	if got, ok := p.next(2*page, 2*page); ok {
		t.Errorf("%v", got)
	}
}

// model is the same as pieces, page by page.
type model map[uint64]int64 // offsets by address

func (m model) without(start, end uint64) model {
	out := make(model)
	for address, offset := range m {
		if address < start || address >= end {
			out[address] = offset
		}
	}
	return out
}

func (m model) move(start, end, to uint64) model {
	out := make(model)
	for address, offset := range m {
		if address >= start && address < end {
			address += to - start
		}
		out[address] = offset
	}
	return out
}

// listed checks the chunks of a list, and returns what it has, page by page.
func listed(t *testing.T, p pieces) model {
	t.Helper()
	m, last := make(model), int64(0)
	for _, c := range p {
		if len(c.list) == 0 || len(c.list) > 2*chunkSize {
			t.Fatalf("a chunk of %d pieces", len(c.list))
		}
		for _, piece := range c.list {
			if piece.Offset < last || piece.Length <= 0 || piece.Address < c.start || piece.end() > c.end {
				t.Fatalf("%v behind offset %d, in a chunk from %#x to %#x", piece, last, c.start, c.end)
			}
			last = piece.Offset + piece.Length
			for n := int64(0); n < piece.Length; n++ {
				m[piece.Address+uint64(n)] = piece.Offset + n
			}
		}
	}
	return m
}

func same(a, b model) bool {
	if len(a) != len(b) {
		return false
	}
	for address, offset := range a {
		if got, ok := b[address]; !ok || got != offset {
			return false
		}
	}
	return true
}

// Pieces are as a simple model of them, whatever is done, and lists that others are made from
// stay as they are. Sizes are in pages here.
func TestPiecesModel(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 3 {
		var list []Piece
		want := make(model)
		address, offset := uint64(1000), int64(0)
		for range 3 * chunkSize {
			n := 1 + r.Int64N(5)
			list = append(list, Piece{address, offset, n})
			for i := range n {
				want[address+uint64(i)] = offset + i
			}
			address += uint64(n + r.Int64N(3))
			offset += n + r.Int64N(3)
		}
		first, firstWant := newPieces(list), want
		p, top := first, address
		for range 300 {
			start := uint64(r.Int64N(int64(top)))
			end := start + 1 + uint64(r.Int64N(30))
			if r.IntN(3) > 0 {
				p, want = p.without(start, start+1), want.without(start, start+1)
			} else {
				// To where nothing is.
				p, want = p.move(start, end, top), want.move(start, end, top)
				top += end - start
			}
			if got := listed(t, p); !same(got, want) {
				t.Fatalf("other pieces after %#x to %#x", start, end)
			}
			checkFind(t, p, want, uint64(r.Int64N(int64(top))))
			checkNext(t, p, want, r.Int64N(offset), 1+r.Int64N(20))
		}
		if !same(listed(t, first), firstWant) {
			t.Fatal("a list was changed")
		}
	}
}

func checkFind(t *testing.T, p pieces, want model, address uint64) {
	t.Helper()
	got, ok := p.find(address)
	offset, there := want[address]
	if ok != there || ok && got.Offset+int64(address-got.Address) != offset {
		t.Fatalf("%#x is at %v, %v; want offset %d, %v", address, got, ok, offset, there)
	}
}

func checkNext(t *testing.T, p pieces, want model, offset, length int64) {
	t.Helper()
	var first *Piece
	for a, o := range want {
		if o >= offset && o < offset+length && (first == nil || o < first.Offset) {
			first = &Piece{a, o, 1}
		}
	}
	got, ok := p.next(offset, offset+length)
	if ok != (first != nil) || ok && cmp.Or(cmp.Compare(got.Address, first.Address), cmp.Compare(got.Offset, first.Offset)) != 0 {
		t.Fatalf("the first from offset %d on is %v, want %v", offset, got, first)
	}
}

// Pages are given up one after the other, as by madvise(2), and others moved.
func BenchmarkPieces(b *testing.B) {
	const count = 1 << 18
	list := make([]Piece, count)
	for i := range list {
		list[i] = Piece{uint64(i) * 8 * pageSize, int64(i) * 4 * int64(pageSize), 4 * int64(pageSize)}
	}
	all := newPieces(list)
	for name, change := range map[string]func(pieces, uint64) pieces{
		"without": func(p pieces, at uint64) pieces { return p.without(at, at+pageSize) },
		"move":    func(p pieces, at uint64) pieces { return p.move(at, at+pageSize, at+1<<40) },
	} {
		b.Run(name, func(b *testing.B) {
			p, i := all, 0
			for b.Loop() {
				at := uint64(i%count) * 8 * pageSize
				p = change(p, at)
				p.find(at + pageSize)
				i++
			}
		})
	}
}
