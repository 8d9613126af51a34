package ctxfile

import (
	"errors"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// Damage is a part of a context that is not what was written, or that cannot be read.
type Damage struct {
	// Name is that of the member, or "" for what lies between members.
	Name string
	// Offset and Length are the smallest part that a checksum is for, or several that
	// follow one another: in bytes of the member, or without a Name of the context.
	Offset, Length int64
	// Err is an *Error.
	Err error
}

// Verify reads all of a context, and calls damaged for each part that is not as it was
// written; Open has done so for header and index. It returns of how many bytes nothing
// can be said: memory in contexts of version 1, which has no checksums. The error is
// ECANCELED after Abort, EBADF after Close.
func (r *Reader) Verify(damaged func(Damage)) (unknown int64, err error) {
	if err := r.calls.begin(); err != nil {
		return 0, fail("read", "", err)
	}
	defer r.calls.end()
	for i := range r.entries {
		e := &r.entries[i]
		var found []Damage
		switch {
		case e.compressed:
			found, err = r.verifyFrames(e)
		case e.chunk == 0:
			unknown += e.size
		default:
			found, err = r.verifyChunks(e)
		}
		if err != nil {
			return unknown, fail("read", e.name, err)
		}
		for _, d := range found {
			damaged(d)
		}
	}
	d, err := r.verifyGaps()
	if d != nil {
		damaged(*d)
	}
	return unknown, fail("read", "", err)
}

// damages are those of one member.
type damages struct {
	name string
	mu   sync.Mutex
	list []Damage
}

// add adds what is wrong with a part, if err is not nil. An abort is returned instead.
func (d *damages) add(offset, length int64, err error) error {
	if err == nil || errors.Is(err, unix.ECANCELED) {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.list = append(d.list, Damage{d.name, offset, length, fail("read", d.name, err)})
	// They come almost in order.
	for i := len(d.list) - 1; i > 0 && d.list[i-1].Offset > d.list[i].Offset; i-- {
		d.list[i-1], d.list[i] = d.list[i], d.list[i-1]
	}
	return nil
}

// joined returns the damages in order. Those that follow one another are one.
func (d *damages) joined() (all []Damage) {
	for _, one := range d.list {
		if n := len(all); n > 0 && all[n-1].Offset+all[n-1].Length == one.Offset {
			all[n-1].Length += one.Length
			continue
		}
		all = append(all, one)
	}
	return all
}

// verifyChunks looks at a member that is not compressed.
func (r *Reader) verifyChunks(e *entry) ([]Damage, error) {
	found := damages{name: e.name}
	todo := runs([]*entry{e}, func(*entry) bool { return true })
	err := inParallel(len(todo), func(i int) error { return r.verifyRun(e, todo[i].from, todo[i].to, &found) })
	return found.joined(), err
}

// verifyRun looks at some chunks.
func (r *Reader) verifyRun(e *entry, from, to int, found *damages) error {
	sums, err := run{e, from, to}.sum(r.readSome(e))
	for k := from; k < to; k++ {
		var wrong error
		switch {
		case err == nil && sums[k-from] != e.sums[k]:
			wrong = invalid(e.name, "checksum does not match")
		case err != nil && to-from > 1:
			wrong = r.verifyRun(e, k, k+1, found) // an abort, or nil
		default:
			wrong = err
		}
		begin := int64(k) * e.chunk
		if err := found.add(begin, min(e.chunk, e.size-begin), wrong); err != nil {
			return err
		}
	}
	return nil
}

// verifyFrames looks at a compressed member.
func (r *Reader) verifyFrames(e *entry) ([]Damage, error) {
	starts := make([]int64, len(e.frames))
	for i := 1; i < len(starts); i++ {
		starts[i] = starts[i-1] + int64(e.frames[i-1].length)
	}
	found := damages{name: e.name}
	err := inParallel(len(e.frames), func(i int) error {
		if r.calls.isAborted() {
			return unix.ECANCELED
		}
		b := r.decompress.frames.get(r.calls)
		if b == nil {
			return unix.ECANCELED
		}
		defer r.decompress.frames.put(b)
		_, err := r.decompress.readFrame(e, e.frames[i], b[:])
		return found.add(starts[i], int64(e.frames[i].length), err)
	})
	return found.joined(), err
}

// verifyGaps looks at what no member has. Before version 3 nothing is known about it.
func (r *Reader) verifyGaps() (*Damage, error) {
	if r.header.version < version3 {
		return nil, nil
	}
	entries := make([]*entry, len(r.entries))
	for i := range r.entries {
		entries[i] = &r.entries[i]
	}
	buf := getBuffer()
	defer putBuffer(buf)
	sum, zeros := uint32(0), true
	read := func(x extent, each func([]byte)) error {
		for x.length > 0 {
			if r.calls.isAborted() {
				return unix.ECANCELED
			}
			b := buf[:min(x.length, bufferSize)]
			if err := r.read("", b, x.offset); err != nil {
				return err
			}
			each(b)
			x.offset, x.length = x.offset+int64(len(b)), x.length-int64(len(b))
		}
		return nil
	}
	end := r.end.index.end()
	pad := extent{end, r.end.length - trailerLen - end}
	err := gapsOf(entries, r.end.index.offset, func(x extent) error {
		return read(x, func(b []byte) { sum = checksum(sum, b) })
	})
	if err == nil {
		err = read(pad, func(b []byte) { zeros = zeros && !slices.ContainsFunc(b, func(c byte) bool { return c != 0 }) })
	}
	switch {
	case errors.Is(err, unix.ECANCELED):
		return nil, err
	case err == nil && sum != r.end.gaps:
		pad = extent{pageSize, r.end.index.offset - pageSize}
		err = invalid("", "what lies between images has changed")
		if pad.length == 0 { // nothing can have changed there but what is said of it
			pad = extent{r.end.length - trailerLen, trailerLen}
		}
	case err == nil && !zeros:
		err = invalid("", "what lies behind the index has changed")
	}
	if err == nil {
		return nil, nil
	}
	return &Damage{"", pad.offset, pad.length, fail("read", "", err)}, nil
}
