package memory

import (
	"math"
	"slices"
	"sort"
)

// Piece is memory of a process that lies in one piece in the image of its pages. All
// numbers are in bytes, and multiples of the size of a page.
type Piece struct {
	Address uint64 // in the process
	Offset  int64  // in the image
	Length  int64
}

func (p Piece) end() uint64 { return p.Address + uint64(p.Length) }

// has reports whether an address is in the piece.
func (p Piece) has(address uint64) bool { return p.Address <= address && address < p.end() }

// cut returns what of the piece lies from start to end, in offsets.
func (p Piece) cut(start, end int64) Piece {
	start, end = max(start, p.Offset), min(end, p.Offset+p.Length)
	return Piece{p.Address + uint64(start-p.Offset), start, end - start}
}

// chunkSize is how many pieces a chunk has at first. It gets no more than twice as many.
const chunkSize = 512

// chunk is some pieces that follow each other, at least one. It is never changed, so that
// lists may have the same one.
type chunk struct {
	list       []Piece
	start, end uint64 // between which all addresses are
}

// touches reports whether there may be memory from start to end in the chunk.
func (c *chunk) touches(start, end uint64) bool { return c.start < end && start < c.end }

func (c *chunk) lastOffset() int64 {
	last := c.list[len(c.list)-1]
	return last.Offset + last.Length
}

// pieces are the pages of one address space that may have to be filled, by offset. A
// list is never changed, so that processes may have the same one. It is in chunks: a process
// may give up or move one page after the other, and each time only a few are made anew.
type pieces []*chunk

// newPieces returns a list of pieces, which are not copied.
func newPieces(list []Piece) pieces { return chunks(list, chunkSize) }

// chunks returns pieces in chunks of that size.
func chunks(list []Piece, size int) (p pieces) {
	for part := range slices.Chunk(list, size) {
		c := &chunk{list: part, start: math.MaxUint64}
		for _, piece := range part {
			c.start, c.end = min(c.start, piece.Address), max(c.end, piece.end())
		}
		p = append(p, c)
	}
	return p
}

// count returns how many pieces there are.
func (p pieces) count() (n int) {
	for _, c := range p {
		n += len(c.list)
	}
	return n
}

// all yields each piece.
func (p pieces) all(yield func(Piece) bool) {
	for _, c := range p {
		for _, piece := range c.list {
			if !yield(piece) {
				return
			}
		}
	}
}

// next returns the first memory from an offset on, up to another offset.
func (p pieces) next(offset, end int64) (Piece, bool) {
	i := sort.Search(len(p), func(i int) bool { return p[i].lastOffset() > offset })
	if i == len(p) {
		return Piece{}, false
	}
	list := p[i].list
	piece := list[sort.Search(len(list), func(i int) bool { return list[i].Offset+list[i].Length > offset })]
	if max(piece.Offset, offset) >= end {
		return Piece{}, false
	}
	return piece.cut(offset, end), true
}

// find returns the piece that an address is in.
func (p pieces) find(address uint64) (Piece, bool) {
	for _, c := range p {
		if !c.touches(address, address+1) {
			continue
		}
		// After a move they are not in the order of their addresses.
		if i := slices.IndexFunc(c.list, func(p Piece) bool { return p.has(address) }); i >= 0 {
			return c.list[i], true
		}
	}
	return Piece{}, false
}

// without returns the pieces without the memory from start to end.
func (p pieces) without(start, end uint64) pieces {
	return p.replace(start, end, func(Piece) (Piece, bool) { return Piece{}, false })
}

// move returns the pieces with the memory from start to end at another address.
func (p pieces) move(start, end, to uint64) pieces {
	return p.replace(start, end, func(piece Piece) (Piece, bool) {
		piece.Address += to - start
		return piece, true
	})
}

// replace returns the pieces with those from start to end, which are cut there,
// changed or removed.
func (p pieces) replace(start, end uint64, change func(Piece) (Piece, bool)) pieces {
	touched := func(piece Piece) bool { return piece.Address < end && start < piece.end() }
	out := make(pieces, 0, len(p)+2)
	for _, c := range p {
		if !c.touches(start, end) || !slices.ContainsFunc(c.list, touched) {
			out = append(out, c)
			continue
		}
		list := make([]Piece, 0, len(c.list)+2)
		for _, piece := range c.list {
			if !touched(piece) {
				list = append(list, piece)
				continue
			}
			from := piece.Offset + int64(max(start, piece.Address)-piece.Address)
			to := piece.Offset + int64(min(end, piece.end())-piece.Address)
			if before := piece.cut(piece.Offset, from); before.Length > 0 {
				list = append(list, before)
			}
			if changed, ok := change(piece.cut(from, to)); ok {
				list = append(list, changed)
			}
			if after := piece.cut(to, piece.Offset+piece.Length); after.Length > 0 {
				list = append(list, after)
			}
		}
		size := 2 * chunkSize
		if len(list) > size {
			size = (len(list) + 1) / 2
		}
		out = append(out, chunks(list, size)...)
	}
	return out
}
