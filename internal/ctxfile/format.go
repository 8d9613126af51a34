package ctxfile

import (
	"encoding/binary"
	"hash/crc32"
	"math"
	"slices"
	"sort"
	"strings"
	"unicode"
)

// The numbers of the format, which the package comment describes.
const (
	pageSize = 4096 // of the format, whatever the machine's is

	// frameSize is what a frame has of a member, at most and mostly: small enough
	// for many of them to be in memory, and large enough to compress as well as
	// larger ones.
	frameSize = 512 << 10

	maxName    = 255
	maxMembers = 1 << 20
	maxIndex   = 64 << 20

	entryLen  = 20 // without name, extents and frames
	extentLen = 16
	frameLen  = 20
	sumLen    = 4

	flagSum    = 1 // the entry has a checksum of the whole member
	flagFrames = 2 // it has frames
	flagChunks = 4 // it has a checksum of each chunk
	flagMemory = 8 // it is memory, see Writer.Pipe

	trailerLen   = 64
	trailerMagic = "\x00END\r\n\x1a\n"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum continues the checksum sum with p.
func checksum(sum uint32, p []byte) uint32 { return crc32.Update(sum, castagnoli, p) }

// extent is a piece of the file.
type extent struct{ offset, length int64 }

func (x extent) end() int64 { return x.offset + x.length }

// entry is what the index has about a member.
type entry struct {
	name    string
	size    int64
	extents []extent
	starts  []int64 // where in the member each of them begins, after locate

	chunks        // checksums, of what is not compressed
	whole    bool // there is one checksum for all of the member: versions 1 and 2
	unsummed bool // the kernel has moved the data: there are no checksums yet

	memory bool

	compressed bool
	frames     []frame // if compressed, instead of extents
	staged     *entry  // what is to be compressed yet, in the staging file
}

// frame is a piece of a compressed member.
type frame struct {
	offset int64  // in the file
	stored uint32 // what it takes there; 0 for zeros, length for not compressed
	length uint32 // what it has of the member
	sum    uint32 // see frameSum
}

// frameSum is the checksum of a frame: of what is stored, if that is compressed, and
// of the content.
func frameSum(stored, content []byte) uint32 {
	if len(stored) == len(content) {
		return checksum(0, content)
	}
	return checksum(checksum(0, stored), content)
}

// add appends an extent to the member.
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

// end is where the member would continue if it could be in one piece, -1 if it is
// empty.
func (e *entry) end() int64 {
	if n := len(e.extents); n > 0 {
		return e.extents[n-1].end()
	}
	return -1
}

// goodName tells whether a member may have that name. A file may have it, too.
func goodName(s string) bool {
	return s != "" && len(s) <= maxName && s != "." && s != ".." &&
		!strings.ContainsFunc(s, func(c rune) bool { return c == '/' || unicode.IsControl(c) })
}

// appendTo appends the entry as it is in the index.
func (e *entry) appendTo(b []byte) []byte {
	le := binary.LittleEndian
	// It may be large, and is not to be copied as it grows, nor for what follows.
	b = slices.Grow(b, 2*pageSize+extentLen*len(e.extents)+frameLen*len(e.frames)+sumLen*len(e.sums))
	flags, chunk := uint16(flagChunks), uint32(e.chunk)
	if e.compressed {
		flags, chunk = flagFrames, 0
	}
	if e.memory {
		flags |= flagMemory
	}
	b = le.AppendUint16(b, uint16(len(e.name)))
	b = le.AppendUint16(b, flags)
	b = le.AppendUint32(b, chunk)
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
	if !e.compressed {
		for _, sum := range e.sums {
			b = le.AppendUint32(b, sum)
		}
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
	gaps   uint32 // checksum of what no member has; 0 before version 3
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
	b = le.AppendUint32(b, t.gaps)
	return le.AppendUint32(b, checksum(0, b))
}

// goodTrailerOffset tells whether a trailer may lie there.
func goodTrailerOffset(at uint64) bool {
	return at%pageSize == pageSize-trailerLen && at <= math.MaxInt64-trailerLen
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
	t.gaps = le.Uint32(b[56:])
	space := t.length - trailerLen
	ok = t.length >= 2*pageSize && t.length%pageSize == 0 &&
		t.index.offset >= pageSize && t.index.offset <= space &&
		t.index.length >= 0 && t.index.length <= maxIndex && t.index.length <= space-t.index.offset &&
		t.count <= maxMembers && int64(t.count)*entryLen <= t.index.length
	return t, ok
}

// parseIndex reads an index whose checksum has been found right. It checks
// everything that the index says: a checksum is no proof against malice. The
// largest index takes some 200 MiB. version is that of the format; compressed says
// that there may be frames.
func parseIndex(b []byte, t trailer, version int, compressed bool) (entries []entry, byName map[string]*entry, err error) {
	le := binary.LittleEndian
	damaged := invalid("", "the index is damaged")
	entries = make([]entry, t.count)
	byName = make(map[string]*entry, t.count)
	var used []extent // of the file, by all members
	for i := range entries {
		if len(b) < entryLen {
			return nil, nil, damaged
		}
		nameLen := uint64(le.Uint16(b))
		flags := le.Uint16(b[2:])
		size := le.Uint64(b[8:])
		count := uint64(le.Uint32(b[16:]))
		e := &entries[i]
		each, sums, ok := e.parseFlags(flags, le.Uint32(b[4:]), size, version)
		if b = b[entryLen:]; !ok || e.compressed && !compressed || nameLen+count*each+sums > uint64(len(b)) {
			return nil, nil, damaged
		}
		e.name = string(b[:nameLen])
		pieces := b[nameLen : nameLen+count*each]
		b = b[nameLen+count*each:]
		for i := range sums / sumLen {
			e.sums = append(e.sums, le.Uint32(b[i*sumLen:]))
		}
		b = b[sums:]
		if !goodName(e.name) {
			return nil, nil, invalid("", "an image has the impossible name %q", e.name)
		}
		if byName[e.name] != nil {
			return nil, nil, invalid("", "there are two images %s", e.name)
		}
		byName[e.name] = e
		if e.compressed {
			used, err = e.parseFrames(pieces, t, used)
		} else {
			used, err = e.parseExtents(pieces, t, used)
		}
		if err != nil {
			return nil, nil, err
		}
		if uint64(e.size) != size {
			return nil, nil, invalid(e.name, "size and extents differ")
		}
		e.locate()
	}
	if len(b) != 0 {
		return nil, nil, damaged
	}
	sort.Slice(used, func(i, j int) bool { return used[i].offset < used[j].offset })
	for i := 1; i < len(used); i++ {
		if used[i-1].end() > used[i].offset {
			return nil, nil, invalid("", "extents overlap")
		}
	}
	return entries, byName, nil
}

// parseFlags takes flags and checksum of an entry whose size is not known to be
// right. It returns how long its extents or frames are, each, and how long its
// checksums are in all.
func (e *entry) parseFlags(flags uint16, sum uint32, size uint64, version int) (each, sums uint64, ok bool) {
	*e = entry{memory: flags&flagMemory != 0}
	switch {
	case version < version3 && flags == flagSum:
		e.whole, e.chunks = true, chunks{chunk: max(int64(size), 1), sums: []uint32{sum}}
		if size == 0 {
			e.sums = nil
		}
		return extentLen, 0, int64(size) >= 0 && (size > 0 || sum == 0)
	case version < version3 && flags == 0:
		return extentLen, 0, true
	case flags&^flagMemory == flagFrames && (version == version3 || flags == flagFrames):
		e.compressed = true
		return frameLen, 0, sum == 0
	case version == version3 && flags&^flagMemory == flagChunks:
		e.chunk = int64(sum)
		ok = sum >= chunkSize && sum <= maxChunk && sum&(sum-1) == 0 && size <= math.MaxInt64
		return extentLen, (size + uint64(sum) - 1) / max(uint64(sum), 1) * sumLen, ok
	}
	return 0, 0, false
}

// parseExtents reads the extents of a member, which are all of b, and appends them
// to used.
func (e *entry) parseExtents(b []byte, t trailer, used []extent) ([]extent, error) {
	le := binary.LittleEndian
	e.extents = make([]extent, 0, len(b)/extentLen)
	for ; len(b) > 0; b = b[extentLen:] {
		x := extent{int64(le.Uint64(b)), int64(le.Uint64(b[8:]))}
		if x.length <= 0 || !t.inData(x) {
			return nil, invalid(e.name, "an extent lies outside the file's data")
		}
		e.size += x.length // cannot overflow: overlaps are refused later, before use
		e.extents = append(e.extents, x)
	}
	return append(used, e.extents...), nil
}

// parseFrames is parseExtents for frames.
func (e *entry) parseFrames(b []byte, t trailer, used []extent) ([]extent, error) {
	le := binary.LittleEndian
	e.frames = make([]frame, 0, len(b)/frameLen)
	for ; len(b) > 0; b = b[frameLen:] {
		f := frame{int64(le.Uint64(b)), le.Uint32(b[8:]), le.Uint32(b[12:]), le.Uint32(b[16:])}
		if f.length == 0 || f.length > frameSize || f.stored > f.length {
			return nil, invalid(e.name, "a frame has an impossible length")
		}
		if f.stored == 0 {
			if f.offset != 0 || f.sum != 0 {
				return nil, invalid(e.name, "a frame of zeros lies in the file")
			}
		} else {
			x := extent{f.offset, int64(f.stored)}
			if !t.inData(x) {
				return nil, invalid(e.name, "a frame lies outside the file's data")
			}
			used = append(used, x)
		}
		e.size += int64(f.length) // cannot overflow: the index has at most 64 MiB
		e.frames = append(e.frames, f)
	}
	return used, nil
}

// inData tells whether an extent, whose length is not negative, lies between header
// and index.
func (t *trailer) inData(x extent) bool {
	return x.offset >= pageSize && x.offset <= t.index.offset && x.length <= t.index.offset-x.offset
}
