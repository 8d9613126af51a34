package ctxfile

import (
	"cmp"
	"encoding/binary"
	"hash/crc32"
	"slices"
	"strings"
	"unicode"
)

const (
	maxName   = 255
	maxImages = 1 << 20
	maxIndex  = 64 << 20

	entryLen  = 20 // without name and extents
	extentLen = 16

	frameLen = 20

	flagSum    = 1 // the entry has a checksum
	flagFrames = 2 // it has frames

	trailerLen   = 64
	trailerMagic = "\x00END\r\n\x1a\n"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum continues the checksum sum with p.
func checksum(sum uint32, p []byte) uint32 { return crc32.Update(sum, castagnoli, p) }

// extent is a piece of an image, or of the space between them.
type extent struct{ offset, length int64 }

func (x extent) end() int64 { return x.offset + x.length }

// entry is what the index has about an image.
type entry struct {
	name    string
	size    int64
	sum     uint32
	hasSum  bool
	extents []extent

	compressed bool
	frames     []frame // if compressed, instead of extents
}

// frame is a piece of an image that is compressed.
type frame struct {
	offset int64  // in the file
	stored uint32 // what it takes there; 0 for zeros, length for not compressed
	length uint32 // what it has of the image
	sum    uint32 // of that
}

// where is what the frame takes of the file.
func (f frame) where() extent { return extent{f.offset, int64(f.stored)} }

// add appends an extent to the image.
func (e *entry) add(x extent) {
	if x.length == 0 {
		return
	}
	e.size += x.length
	if n := len(e.extents); n > 0 && e.extents[n-1].end() == x.offset {
		e.extents[n-1].length += x.length
		return
	}
	e.extents = append(e.extents, x)
}

// end is where the image would go on if it could be in one piece.
func (e *entry) end() int64 {
	if n := len(e.extents); n > 0 {
		return e.extents[n-1].end()
	}
	return -1
}

// goodName tells whether an image may have that name. It may be used as the
// name of a file.
func goodName(s string) bool {
	return s != "" && len(s) <= maxName && s != "." && s != ".." &&
		!strings.ContainsFunc(s, func(c rune) bool { return c == '/' || unicode.IsControl(c) })
}

// appendTo appends the entry as it is in the index.
func (e *entry) appendTo(b []byte) []byte {
	le := binary.LittleEndian
	b = le.AppendUint16(b, uint16(len(e.name)))
	if e.compressed {
		b = le.AppendUint16(b, flagFrames)
		b = le.AppendUint32(b, 0)
	} else if e.hasSum {
		b = le.AppendUint16(b, flagSum)
		b = le.AppendUint32(b, e.sum)
	} else {
		b = append(b, 0, 0, 0, 0, 0, 0)
	}
	b = le.AppendUint64(b, uint64(e.size))
	b = le.AppendUint32(b, uint32(len(e.extents)+len(e.frames)))
	b = append(b, e.name...)
	for _, x := range e.extents {
		b = le.AppendUint64(b, uint64(x.offset))
		b = le.AppendUint64(b, uint64(x.length))
	}
	for _, f := range e.frames {
		b = le.AppendUint64(b, uint64(f.offset))
		b = le.AppendUint32(b, f.stored)
		b = le.AppendUint32(b, f.length)
		b = le.AppendUint32(b, f.sum)
	}
	return b
}

// trailer is the end of a context.
type trailer struct {
	id     [idLen]byte
	index  extent
	length int64 // of the context
	count  uint32
	sum    uint32 // of the index
}

func (t *trailer) bytes() []byte {
	le := binary.LittleEndian
	b := append(make([]byte, 0, trailerLen), trailerMagic...)
	b = append(b, t.id[:]...)
	b = le.AppendUint64(b, uint64(t.index.offset))
	b = le.AppendUint64(b, uint64(t.index.length))
	b = le.AppendUint64(b, uint64(t.length))
	b = le.AppendUint32(b, t.count)
	b = le.AppendUint32(b, t.sum)
	b = append(b, 0, 0, 0, 0)
	return le.AppendUint32(b, checksum(0, b))
}

// parseTrailer reads a trailer. ok says that it is one, and that it is sound as
// far as can be told without the rest of the context.
func parseTrailer(b []byte) (t trailer, ok bool) {
	le := binary.LittleEndian
	if string(b[:8]) != trailerMagic || le.Uint32(b[60:]) != checksum(0, b[:60]) {
		return t, false
	}
	copy(t.id[:], b[8:])
	t.index.offset = int64(le.Uint64(b[24:]))
	t.index.length = int64(le.Uint64(b[32:]))
	t.length = int64(le.Uint64(b[40:]))
	t.count = le.Uint32(b[48:])
	t.sum = le.Uint32(b[52:])
	space := t.length - trailerLen
	ok = t.length >= 2*pageSize && t.length%pageSize == 0 &&
		t.index.offset >= pageSize && t.index.offset <= space &&
		t.index.length >= 0 && t.index.length <= maxIndex && t.index.length <= space-t.index.offset &&
		t.count <= maxImages && int64(t.count)*entryLen <= t.index.length
	return t, ok
}

// parseIndex reads an index whose checksum has been found right. All of what it
// says is checked: a checksum is no proof against malice. compressed says that
// there may be frames.
func parseIndex(b []byte, t trailer, compressed bool) ([]*entry, error) {
	bad := func() ([]*entry, error) { return nil, invalid("", "the index is damaged") }
	le := binary.LittleEndian
	entries := make([]*entry, 0, t.count)
	names := make(map[string]bool, t.count)
	var all []extent
	for range t.count {
		if len(b) < entryLen {
			return bad()
		}
		nameLen := int(le.Uint16(b))
		flags := le.Uint16(b[2:])
		size := le.Uint64(b[8:])
		count := uint64(le.Uint32(b[16:]))
		e := &entry{sum: le.Uint32(b[4:]), hasSum: flags&flagSum != 0}
		b = b[entryLen:]
		each := uint64(extentLen)
		if compressed && flags == flagFrames && e.sum == 0 {
			e.compressed, each = true, frameLen
		} else if flags&^flagSum != 0 {
			return bad()
		}
		if uint64(nameLen)+count*each > uint64(len(b)) {
			return bad()
		}
		e.name = string(b[:nameLen])
		b = b[nameLen:]
		if !goodName(e.name) {
			return nil, invalid("", "an image has the impossible name %q", e.name)
		}
		if names[e.name] {
			return nil, invalid("", "there are two images %s", e.name)
		}
		names[e.name] = true
		if e.compressed {
			if err := e.parseFrames(b[:count*frameLen], t); err != nil {
				return nil, err
			}
			b = b[count*frameLen:]
			count = 0
			for _, f := range e.frames {
				if f.stored > 0 {
					all = append(all, f.where())
				}
			}
		}
		e.extents = make([]extent, 0, count)
		for range count {
			x := extent{int64(le.Uint64(b)), int64(le.Uint64(b[8:]))}
			b = b[extentLen:]
			if x.length <= 0 || x.offset < pageSize || x.offset > t.index.offset || x.length > t.index.offset-x.offset {
				return nil, invalid(e.name, "an extent lies outside the file's data")
			}
			e.size += x.length // cannot overflow: overlaps are refused below, before use
			e.extents = append(e.extents, x)
		}
		all = append(all, e.extents...)
		if uint64(e.size) != size {
			return nil, invalid(e.name, "size and extents differ")
		}
		entries = append(entries, e)
	}
	if len(b) != 0 {
		return bad()
	}
	slices.SortFunc(all, func(a, b extent) int { return cmp.Compare(a.offset, b.offset) })
	for i := 1; i < len(all); i++ {
		if all[i-1].end() > all[i].offset {
			return nil, invalid("", "extents overlap")
		}
	}
	return entries, nil
}

// parseFrames reads the frames of an image, which are all of b.
func (e *entry) parseFrames(b []byte, t trailer) error {
	le := binary.LittleEndian
	e.frames = make([]frame, 0, len(b)/frameLen)
	for ; len(b) > 0; b = b[frameLen:] {
		f := frame{int64(le.Uint64(b)), le.Uint32(b[8:]), le.Uint32(b[12:]), le.Uint32(b[16:])}
		if f.length == 0 || f.length > frameSize || f.stored > f.length {
			return invalid(e.name, "a frame has an impossible length")
		}
		if f.stored == 0 {
			if f.offset != 0 || f.sum != 0 {
				return invalid(e.name, "a frame of zeros lies in the file")
			}
		} else if f.offset < pageSize || f.offset > t.index.offset || int64(f.stored) > t.index.offset-f.offset {
			return invalid(e.name, "a frame lies outside the file's data")
		}
		e.size += int64(f.length) // cannot overflow: the index has at most 64 MiB
		e.frames = append(e.frames, f)
	}
	return nil
}
