package memory

import (
	"cmp"
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

// cut returns what of the piece lies from start to end, in offsets.
func (p Piece) cut(start, end int64) Piece {
	start, end = max(start, p.Offset), min(end, p.Offset+p.Length)
	return Piece{p.Address + uint64(start-p.Offset), start, end - start}
}

// pieces are the pages of one address space that may have to be filled, by offset. A
// list is never changed, so that processes may have the same one.
type pieces struct {
	list  []Piece
	moved bool // they are not in the order of their addresses any more
}

// at returns the index of the first piece that ends behind an offset.
func (p pieces) at(offset int64) int {
	return sort.Search(len(p.list), func(i int) bool { return p.list[i].Offset+p.list[i].Length > offset })
}

// next returns the first memory from an offset on, up to another offset.
func (p pieces) next(offset, end int64) (Piece, bool) {
	i := p.at(offset)
	if i == len(p.list) || max(p.list[i].Offset, offset) >= end {
		return Piece{}, false
	}
	return p.list[i].cut(offset, end), true
}

// find returns the piece that an address is in.
func (p pieces) find(address uint64) (Piece, bool) {
	if p.moved {
		for _, piece := range p.list {
			if piece.Address <= address && address < piece.end() {
				return piece, true
			}
		}
		return Piece{}, false
	}
	i, _ := slices.BinarySearchFunc(p.list, address, func(p Piece, a uint64) int { return cmp.Compare(p.end(), a+1) })
	if i == len(p.list) || p.list[i].Address > address {
		return Piece{}, false
	}
	return p.list[i], true
}

// without returns the pieces without the memory from start to end.
func (p pieces) without(start, end uint64) pieces {
	return p.replace(start, end, func(Piece) (Piece, bool) { return Piece{}, false })
}

// move returns the pieces with the memory from start to end at another address.
func (p pieces) move(start, end, to uint64) pieces {
	p = p.replace(start, end, func(piece Piece) (Piece, bool) {
		piece.Address += to - start
		return piece, true
	})
	p.moved = true
	return p
}

// replace returns the pieces with those from start to end, which are cut there,
// changed or removed.
func (p pieces) replace(start, end uint64, change func(Piece) (Piece, bool)) pieces {
	touched := func(piece Piece) bool { return piece.Address < end && start < piece.end() }
	if !slices.ContainsFunc(p.list, touched) {
		return p
	}
	list := make([]Piece, 0, len(p.list)+2)
	for _, piece := range p.list {
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
	return pieces{list, p.moved}
}
