package ctxfile

import (
	"fmt"
	"sort"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

const (
	// ChunkSize is what a checksum is for, in bytes: the first, second … so many of a
	// member. In contexts of more than 512 GiB it is a multiple.
	ChunkSize = chunkSize

	chunkSize = 64 << 10
	maxChunk  = 1 << 30

	// maxSums is how many checksums of chunks an index has at most.
	maxSums = maxIndex / 2 / sumLen

	// runLength is how many chunks are read one after the other by one goroutine.
	runLength = 16
)

// chunks are the checksums of a member that is not compressed.
type chunks struct {
	chunk  int64 // bytes that each is for, the last one less; 0: there are none
	sums   []uint32
	filled int64 // bytes of the last chunk that have been summed; 0: all
}

// sum adds the checksums of the next bytes of the member.
func (c *chunks) sum(p []byte) {
	for len(p) > 0 {
		if c.filled == 0 {
			c.sums = append(c.sums, 0)
		}
		n := min(int64(len(p)), c.chunk-c.filled)
		last := &c.sums[len(c.sums)-1]
		*last = checksum(*last, p[:n])
		c.filled = (c.filled + n) % c.chunk
		p = p[n:]
	}
}

// double makes chunks of twice the size; size is that of the member.
func (c *chunks) double(size int64) {
	zeros := zeroFrame[:min(c.chunk, frameSize)]
	for i := 0; i < len(c.sums); i += 2 {
		sum := c.sums[i]
		if i+1 < len(c.sums) {
			// The checksum of A and B is that of B, and the difference that A makes
			// to the checksum of as many zeros.
			from, without := sum, uint32(0)
			for left := min(c.chunk, size-int64(i+1)*c.chunk); left > 0; left -= int64(len(zeros)) {
				part := zeros[:min(left, int64(len(zeros)))]
				from, without = checksum(from, part), checksum(without, part)
			}
			sum = from ^ without ^ c.sums[i+1]
		}
		c.sums[i/2] = sum
	}
	c.sums = c.sums[:(len(c.sums)+1)/2]
	c.chunk *= 2
}

// locate prepares a member that is complete for each.
func (e *entry) locate() {
	e.starts = make([]int64, len(e.extents))
	at := int64(0)
	for i, x := range e.extents {
		e.starts[i] = at
		at += x.length
	}
}

// each calls do with the extents, or the parts of them, that have n bytes of the member
// from an offset on. It has that many.
func (e *entry) each(offset, n int64, do func(extent) error) error {
	first := sort.Search(len(e.starts), func(i int) bool { return e.starts[i] > offset }) - 1
	for i := max(first, 0); n > 0 && i < len(e.extents); i++ {
		x, skip := e.extents[i], offset-e.starts[i]
		x.offset, x.length = x.offset+skip, min(x.length-skip, n)
		if err := do(x); err != nil {
			return err
		}
		offset, n = offset+x.length, n-x.length
	}
	return nil
}

// reading reads all of b at an offset of the context.
type reading func(b []byte, offset int64) error

// sumRange continues the checksums c with n bytes of the member from an offset on.
func (e *entry) sumRange(c *chunks, offset, n int64, read reading) error {
	buf := getBuffer()
	defer putBuffer(buf)
	return e.each(offset, n, func(x extent) error {
		for x.length > 0 {
			b := buf[:min(x.length, bufferSize)]
			if err := read(b, x.offset); err != nil {
				return err
			}
			c.sum(b)
			x.offset, x.length = x.offset+int64(len(b)), x.length-int64(len(b))
		}
		return nil
	})
}

// run is some chunks of a member, by their numbers.
type run struct {
	entry    *entry
	from, to int
}

// span returns where in the member those chunks begin, and their length, in bytes.
func (r run) span() (offset, n int64) {
	offset = int64(r.from) * r.entry.chunk
	return offset, min(int64(r.to)*r.entry.chunk, r.entry.size) - offset
}

// each calls do with the extents, or the parts of them, that have those chunks.
func (r run) each(do func(extent) error) error {
	offset, n := r.span()
	return r.entry.each(offset, n, do)
}

// sum returns the checksums of those chunks, as they are now.
func (r run) sum(read reading) ([]uint32, error) {
	c := chunks{chunk: r.entry.chunk, sums: make([]uint32, 0, r.to-r.from)}
	offset, n := r.span()
	err := r.entry.sumRange(&c, offset, n, read)
	return c.sums, err
}

// runs returns all chunks of members for which want is true.
func runs(entries []*entry, want func(*entry) bool) (all []run) {
	for _, e := range entries {
		if want(e) {
			n := int((e.size + e.chunk - 1) / e.chunk)
			for i := 0; i < n; i += runLength {
				all = append(all, run{e, i, min(i+runLength, n)})
			}
		}
	}
	return all
}

// inParallel calls do with each number below n, in no order, until there is an error.
func inParallel(n int, do func(int) error) error {
	var next atomic.Int64
	var failed atomic.Bool
	var all sync.WaitGroup
	errs := make(chan error, Workers())
	for range min(Workers(), n) {
		all.Go(func() {
			for !failed.Load() {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := do(i); err != nil {
					failed.Store(true)
					errs <- err
				}
			}
		})
	}
	all.Wait()
	close(errs)
	return <-errs
}

// sumRest computes the checksums of what the kernel has moved, and of what no member
// has, which it returns. The memory is mostly in the page cache.
func (w *Writer) sumRest() (gaps uint32, err error) {
	for _, e := range w.entries {
		if e.unsummed {
			e.locate()
			e.sums = make([]uint32, (e.size+e.chunk-1)/e.chunk)
		}
	}
	todo := runs(w.entries, func(e *entry) bool { return e.unsummed })
	if len(todo) > 0 {
		// The disk can begin meanwhile with what the caller's fsync will wait for.
		ready := make(chan int64, w.aside.count()+1)
		defer w.out.writeOut(ready)()
		there, missing := w.aside.divide(todo)
		brought := make(chan error, 1)
		go func() { brought <- w.bringBack(ready) }()
		err = w.sumRuns(there)
		if err := <-brought; err != nil {
			return 0, err
		}
		if err == nil {
			err = w.sumRuns(missing)
		}
		if err != nil {
			return 0, err
		}
	}
	total := 0
	for _, e := range w.entries {
		total += len(e.sums)
	}
	for ; total > maxSums; total = total/2 + len(w.entries) {
		for _, e := range w.entries {
			e.double(e.size)
		}
	}
	err = gapsOf(w.entries, w.out.next, func(x extent) error {
		b := make([]byte, x.length) // less than a page, or what a pipe had
		if w.out.seekable {
			if err := w.readBack(b, x.offset); err != nil {
				return fail("read", "", err)
			}
		}
		gaps = checksum(gaps, b)
		return nil
	})
	return gaps, err
}

// sumRuns computes the checksums of some chunks.
func (w *Writer) sumRuns(todo []run) error {
	return inParallel(len(todo), func(i int) error {
		r := todo[i]
		sums, err := r.sum(w.readBack)
		copy(r.entry.sums[r.from:], sums)
		return fail("read", r.entry.name, err)
	})
}

// readBack reads what has been written, or would be read once there is something behind
// it.
func (w *Writer) readBack(b []byte, offset int64) error {
	if w.calls.isAborted() {
		return unix.ECANCELED
	}
	n, err := readAt(w.out.readable, b, w.out.base+offset)
	clear(b[n:])
	return err
}

// gapsOf calls do with what lies between the header page and the end of the data, and
// belongs to no member, in order.
func gapsOf(entries []*entry, end int64, do func(extent) error) error {
	var used []extent
	for _, e := range entries {
		used = append(used, e.extents...)
		for _, f := range e.frames {
			if f.stored != 0 {
				used = append(used, extent{f.offset, int64(f.stored)})
			}
		}
	}
	sort.Slice(used, func(i, j int) bool { return used[i].offset < used[j].offset })
	at := int64(pageSize)
	for _, x := range append(used, extent{end, 0}) {
		if x.offset > at {
			if err := do(extent{at, x.offset - at}); err != nil {
				return err
			}
		}
		at = x.end()
	}
	return nil
}

// readChecked reads all of b from a member, from an offset on, and checks what it can.
func (r *Reader) readChecked(e *entry, b []byte, offset int64) error {
	left := b
	err := e.each(offset, int64(len(b)), func(x extent) error {
		part := left[:x.length]
		left = left[x.length:]
		return r.read(e.name, part, x.offset)
	})
	if err != nil || e.chunk == 0 || len(b) == 0 || e.whole && len(b) < int(e.size) {
		return err
	}
	return r.checkPart(e, b, offset)
}

// checkPart compares the checksums of the chunks that a part of a member is in. It reads
// what of them is not in b.
func (r *Reader) checkPart(e *entry, b []byte, offset int64) error {
	end := offset + int64(len(b))
	for i := offset / e.chunk; i*e.chunk < end; i++ {
		begin := i * e.chunk
		c := chunks{chunk: e.chunk, sums: make([]uint32, 0, 1)}
		whole := extent{begin, min(e.chunk, e.size-begin)}
		have := extent{max(begin, offset), min(whole.end(), end) - max(begin, offset)}
		err := e.sumRange(&c, begin, have.offset-begin, r.readSome(e))
		if err == nil {
			c.sum(b[have.offset-offset:][:have.length])
			err = e.sumRange(&c, have.end(), whole.end()-have.end(), r.readSome(e))
		}
		if err != nil {
			return err
		}
		if c.sums[0] != e.sums[i] {
			return e.mismatch(int(i))
		}
	}
	return nil
}

// readSome returns a reading of a member's data that Abort ends.
func (r *Reader) readSome(e *entry) reading {
	return func(b []byte, offset int64) error {
		if r.calls.isAborted() {
			return unix.ECANCELED
		}
		return r.read(e.name, b, offset)
	}
}

// mismatch is the error for a chunk that is not what was written.
func (e *entry) mismatch(chunk int) error {
	at := ""
	if len(e.sums) > 1 {
		at = fmt.Sprintf(" of bytes %d to %d", int64(chunk)*e.chunk, min(int64(chunk+1)*e.chunk, e.size)-1)
	}
	return invalid(e.name, "checksum%s does not match", at)
}

// scan reads a member that is not compressed, and compares the checksums.
func (r *Reader) scan(e *entry) error {
	if e.chunk == 0 {
		return nil
	}
	for _, run := range runs([]*entry{e}, func(*entry) bool { return true }) {
		sums, err := run.sum(r.readSome(e))
		if err != nil {
			return err
		}
		for i, sum := range sums {
			if sum != e.sums[run.from+i] {
				return e.mismatch(run.from + i)
			}
		}
	}
	return nil
}
