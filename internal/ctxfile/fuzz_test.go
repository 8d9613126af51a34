package ctxfile

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// realContexts returns the contexts in testdata: one that criu saved, with one page
// of its memory, written to a file, to a stream, and compressed, in the format of now and
// in the versions before 3.
func realContexts(t testing.TB) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob("testdata/*.context")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	contexts := map[string][]byte{}
	for _, f := range files {
		if contexts[filepath.Base(f)], err = os.ReadFile(f); err != nil {
			t.Fatal(err)
		}
	}
	return contexts
}

func TestReal(t *testing.T) {
	want := map[string]int{
		"seccomp.img": 12, "files.img": 254, "ids-7350.img": 36, "fdinfo-2.img": 44, "pagemap-7350.img": 99, "pages-1.img": pageSize, "core-7350.img": 2240,
		"mm-7350.img": 539, "fs-7350.img": 18, "pstree.img": 26, "timens-0.img": 34, "inventory.img": 86, "outside-pipes": 0,
	}
	var first images
	for name, b := range realContexts(t) {
		fd := memfd(t, b)
		im, errs, h, err := everything(fd)
		unix.Close(fd)
		if err != nil || len(errs) != 0 {
			t.Fatal(name, errs, err)
		}
		if h.Engine != "criu 4.1.1" || h.Host != "node17" || !slices.Equal(h.Command, []string{"./count"}) || !slices.Equal(h.PIDs, []int{7350}) {
			t.Errorf("%s: header is %+v", name, h)
		}
		if first == nil {
			first = im
		}
		for name, size := range want {
			if b, has := im[name]; !has || len(b) != size || !bytes.Equal(b, first[name]) {
				t.Errorf("%s has %d bytes, want %d", name, len(b), size)
			}
		}
		if len(im) != len(want) {
			t.Errorf("%s: %d images", name, len(im))
		}
	}
}

// parts are a context taken apart, so that a fuzzer does not spend its time on what
// is between them.
type parts struct{ page, data, index, trailer []byte }

func takeApart(b []byte) parts {
	t, _ := parseTrailer(b[len(b)-trailerLen:])
	return parts{b[:pageSize], b[pageSize:t.index.offset], b[t.index.offset:t.index.end()], b[len(b)-trailerLen:]}
}

// assemble appends a context to b. If sealed, all that says where the parts are is
// right, and so are their checksums: then what the index says is looked at.
func (p parts) assemble(b []byte, sealed bool) []byte {
	le := binary.LittleEndian
	b = append(b, p.page[:min(len(p.page), pageSize)]...)
	b = append(b, make([]byte, pageSize-len(b))...)
	b = append(b, p.data...)
	index := extent{int64(len(b)), int64(len(p.index))}
	b = append(b, p.index...)
	at := roundUp(int64(len(b))+trailerLen) - trailerLen
	b = append(b, make([]byte, at-int64(len(b)))...)
	b = append(b, p.trailer[:min(len(p.trailer), trailerLen)]...)
	b = append(b, make([]byte, at+trailerLen-int64(len(b)))...)
	if !sealed {
		return b
	}
	t := trailer{index: index, length: int64(len(b)), count: le.Uint32(b[at+48:]), sum: checksum(0, p.index), gaps: le.Uint32(b[at+56:])}
	copy(t.id[:], b[idField:])
	copy(b[at:], t.bytes())
	if le.Uint64(b[trailerField:]) != 0 {
		le.PutUint64(b[trailerField:], uint64(at))
	}
	le.PutUint32(b[sumField:], headerSum(b[:pageSize]))
	return b
}

// FuzzOpen reads contexts of any header page, data, index and trailer.
func FuzzOpen(f *testing.F) {
	for _, b := range realContexts(f) {
		p := takeApart(b)
		if again := p.assemble(nil, true); !bytes.Equal(again, b) {
			f.Fatal("a context is not what it was")
		}
		f.Add(p.page, p.data, p.index, p.trailer, true)
		f.Add(p.page, p.data, p.index, p.trailer, false)
		f.Add(p.page[:200], []byte{}, []byte{}, make([]byte, trailerLen), true)
	}
	f.Add([]byte("C\x00\x00\x00R\x00\x00\x00"), []byte{}, []byte{}, []byte{}, false)
	fd := memfd(f, nil)
	f.Cleanup(func() { unix.Close(fd) })
	var b []byte
	f.Fuzz(func(t *testing.T, page, data, index, trailer []byte, sealed bool) {
		b = parts{page, data, index, trailer}.assemble(b[:0], sealed)
		unix.Ftruncate(fd, int64(len(b)))
		if err := writeAt(fd, b, 0); err != nil {
			t.Fatal(err)
		}
		seek(t, fd, 0)
		r, err := Open(context.Background(), fd)
		if err != nil {
			checkFault(t, err)
			return
		}
		defer r.Close()
		r.checkSizes(t, int64(len(b)))
	})
}

// checkSizes reads what can be read of a context whose file has that length, and
// holds the sizes against what comes.
func (r *Reader) checkSizes(t *testing.T, length int64) {
	t.Helper()
	total := int64(0)
	for _, name := range r.Names() {
		size := r.Size(name)
		total += size
		if size < 0 || r.Stored(name) > length || !goodName(name) {
			t.Fatalf("%q: %d bytes, %d stored, of %d", name, size, r.Stored(name), length)
		}
		if size > 64<<10 {
			var some [100]byte
			for _, at := range []int64{0, size / 2, size - 1, size} {
				n, err := r.ReadAt(name, some[:], at)
				if want := min(int64(len(some)), size-at); err == nil && int64(n) != want {
					t.Fatalf("%q: %d bytes at %d, want %d", name, n, at, want)
				}
			}
			continue
		}
		b, err := r.Bytes(name)
		if err != nil {
			checkErrno(t, err, unix.EINVAL)
		} else if int64(len(b)) != size {
			t.Fatalf("%q: %d bytes, want %d", name, len(b), size)
		}
	}
	if length < 1<<20 && total < 4<<20 {
		if unknown, err := r.Verify(func(d Damage) {
			if !d.within(r) {
				t.Fatalf("%+v", d)
			}
		}); err != nil || unknown < 0 || unknown > total {
			t.Fatalf("%d unknown of %d, %v", unknown, total, err)
		}
	}
	if _, all := r.Served(); all != total || r.Length() > length || r.decompress == nil && total > length {
		t.Fatalf("%d bytes in all, want %d; the context has %d of %d", all, total, r.Length(), length)
	}
}

// FuzzHeader reads any text, and writes what it has understood.
func FuzzHeader(f *testing.F) {
	for _, b := range realContexts(f) {
		f.Add(bytes.TrimRight(b[:trailerField], "\n"))
	}
	f.Add(someHeader.page([idLen]byte{})[:300])
	f.Fuzz(func(t *testing.T, text []byte) {
		p := parts{page: text[:min(len(text), trailerField)]}.assemble(nil, true)[:pageSize]
		h, err := parsePage(p)
		if err != nil {
			checkErrno(t, err, unix.EINVAL)
			return
		}
		again, err := parsePage(h.page([idLen]byte{}))
		if err != nil {
			t.Fatalf("%+v: %v", h, err)
		}
		if !again.Cut && len(h.Engine)+len(h.Host)+len(h.Kernel)+len(h.Machine) < maxValue/4 {
			h.Cut = false
			if fmt.Sprintf("%#v", h.Header) != fmt.Sprintf("%#v", again.Header) {
				t.Fatalf("%+v became %+v", h, again)
			}
		}
	})
}

// FuzzIndex reads any index and trailer, of every version, without a file. What it accepts
// lies within the context, and of version 3 the index is written again as it was.
func FuzzIndex(f *testing.F) {
	for _, b := range realContexts(f) {
		p := takeApart(b)
		h, err := parsePage(p.page)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(p.index, p.trailer, byte(h.version), h.Compression != "")
		f.Add(p.index[:len(p.index)/2], p.trailer, byte(h.version), h.Compression != "")
	}
	f.Fuzz(func(t *testing.T, index, end []byte, version byte, compressed bool) {
		if len(end) != trailerLen {
			return
		}
		end = bytes.Clone(end)
		copy(end, trailerMagic)
		binary.LittleEndian.PutUint64(end[32:], uint64(len(index)))
		binary.LittleEndian.PutUint32(end[60:], checksum(0, end[:60]))
		tr, ok := parseTrailer(end)
		if !ok {
			return
		}
		if !bytes.Equal(tr.bytes(), end) {
			t.Fatalf("%+v", tr)
		}
		entries, byName, err := parseIndex(index, tr, int(version%4), compressed)
		if err != nil {
			checkErrno(t, err, unix.EINVAL)
			return
		}
		if len(byName) != len(entries) {
			t.Fatalf("%d names of %d", len(byName), len(entries))
		}
		var again []byte
		for i := range entries {
			e := &entries[i]
			if e.chunk > 0 && !e.whole && int64(len(e.sums)) != (e.size+e.chunk-1)/e.chunk {
				t.Fatalf("%d checksums of %d bytes", len(e.sums), e.size)
			}
			for _, x := range e.extents {
				if !tr.inData(x) {
					t.Fatalf("%v is outside", x)
				}
			}
			again = e.appendTo(again)
		}
		if version%4 == version3 && !bytes.Equal(again, index) {
			t.Fatalf("%x became %x", index, again)
		}
	})
}

// FuzzFrame gives the decompressor anything.
func FuzzFrame(f *testing.F) {
	_, b := smallCompressed(f)
	f.Add(b[pageSize:], uint32(pageSize))
	e, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		f.Fatal(err)
	}
	for _, data := range [][]byte{text(1000), mixed(frameSize), make([]byte, frameSize)} {
		f.Add(e.EncodeAll(data, nil), uint32(len(data)))
		f.Add(e.EncodeAll(data, nil), uint32(len(data)-1))
	}
	k := newDecoder()
	out := new(frameBuffer)
	f.Fuzz(func(t *testing.T, in []byte, length uint32) {
		n := length % frameSize
		for i := range out[n:min(n+100, frameSize)] {
			out[int(n)+i] = 0xaa
		}
		data, err := k.decode(in, out[:0:n])
		if err == nil && uint32(len(data)) > n {
			t.Errorf("%d bytes of %d", len(data), n)
		}
		for i, c := range out[n:min(n+100, frameSize)] {
			if c != 0xaa {
				t.Fatalf("byte %d behind the end is %#x", i, c)
			}
		}
	})
}
