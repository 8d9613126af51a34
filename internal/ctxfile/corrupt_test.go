package ctxfile

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/test/harness"
)

// memfd returns a file of that content, at its beginning.
func memfd(t testing.TB, b []byte) int {
	t.Helper()
	fd, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	writeAll(fd, b)
	seek(t, fd, 0)
	return fd
}

// small returns a context of a few images.
func small(t testing.TB) (images, []byte) {
	t.Helper()
	im := images{"pages-1.img": random(2 * pageSize), "core-1.img": random(100), "inventory.img": random(20)}
	fd := memfd(t, nil)
	defer unix.Close(fd)
	im.mustSave(t, fd)
	seek(t, fd, 0)
	return im, readAll(fd)
}

// everything returns what can be read of a context: Open's error, or that of the
// images, by name.
func everything(fd int) (im images, errs map[string]error, h Header, err error) {
	r, err := Open(context.Background(), fd)
	if err != nil {
		return nil, nil, h, err
	}
	defer r.Close()
	im, errs = images{}, map[string]error{}
	for _, name := range r.Names() {
		if im[name], err = r.Bytes(name); err != nil {
			errs[name] = err
		}
	}
	return im, errs, r.Header(), nil
}

// A context that ends anywhere too early is not one.
func TestPrefixes(t *testing.T) {
	_, b := small(t)
	stream := bytes.Clone(b)
	clear(stream[trailerField:idField])
	for name, b := range map[string][]byte{"file": b, "stream": stream} {
		fd := memfd(t, nil)
		for n := range b {
			if !harness.All() && n%13 != 0 && n%pageSize > 2 && n%pageSize < pageSize-trailerLen-2 {
				unix.Pwrite(fd, b[n:n+1], int64(n))
				continue
			}
			_, err := Open(context.Background(), fd)
			checkErrno(t, err, unix.EIO)
			if at, _ := unix.Seek(fd, 0, unix.SEEK_CUR); at != 0 {
				t.Errorf("the offset is %d", at)
			}
			if n > 0 && !strings.Contains(fmt.Sprint(err), "truncated") {
				t.Errorf("%s, %d bytes: %v", name, n, err)
			}
			unix.Pwrite(fd, b[n:n+1], int64(n))
		}
		if r, err := Open(context.Background(), fd); err != nil {
			t.Error(err)
		} else {
			r.Close()
		}
		unix.Close(fd)
		// The same from a pipe, where it costs more.
		for n := 0; n < len(b); n += 1021 {
			r, w := pipe2(t)
			enlarge(w)
			writeAll(w, b[:n])
			unix.Close(w)
			_, err := Open(context.Background(), r)
			checkErrno(t, err, unix.EIO)
			unix.Close(r)
		}
	}
}

func TestFlips(t *testing.T) {
	im, b := small(t)
	fd := memfd(t, b)
	defer unix.Close(fd)
	for i := range b {
		if text := i < trailerField; !harness.All() && i%7 != 0 && (text || i < len(b)-1000) {
			continue
		}
		mask := byte(i*37) | 1
		seek(t, fd, 0)
		unix.Pwrite(fd, []byte{b[i] ^ mask}, int64(i))
		got, errs, h, err := everything(fd)
		found := damage(t, fd)
		unix.Pwrite(fd, b[i:i+1], int64(i))
		if err == nil && len(found) == 0 {
			t.Fatalf("byte %d: not found", i)
		}
		if err != nil {
			checkErrno(t, err, unix.EINVAL)
			continue
		}
		if !reflect.DeepEqual(h, someHeader) {
			t.Fatalf("byte %d: header is %+v", i, h)
		}
		for name, data := range im {
			if errs[name] == nil && !bytes.Equal(got[name], data) {
				t.Fatalf("byte %d: %s differs", i, name)
			}
		}
	}
}

// Serve gives the reader of a damaged image nothing.
func TestServeDamaged(t *testing.T) {
	_, b := small(t)
	fd := memfd(t, b)
	defer unix.Close(fd)
	r, err := Open(context.Background(), fd)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	at := r.byName["core-1.img"].extents[0].offset
	unix.Pwrite(fd, []byte{^b[at]}, at)
	pr, pw := pipe2(t)
	err = r.Serve("core-1.img", pw)
	checkErrno(t, err, unix.EINVAL)
	if want := "read core-1.img: checksum does not match"; fmt.Sprint(err) != want {
		t.Errorf("%v, want %s", err, want)
	}
	unix.Close(pw)
	if b := readAll(pr); len(b) != 0 {
		t.Errorf("%d bytes were served", len(b))
	}
	unix.Close(pr)
	unix.Ftruncate(fd, pageSize)
	pr, pw = pipe2(t)
	checkErrno(t, r.Serve("pages-1.img", pw), unix.EIO)
	unix.Close(pr)
	unix.Close(pw)
}

// forge makes a context with that index, all of whose checksums are right.
func forge(entries []*entry, length int64) []byte {
	var id [idLen]byte
	b := append(someHeader.page(id), make([]byte, length)...)
	t := trailer{index: extent{offset: int64(len(b))}, count: uint32(len(entries))}
	for _, e := range entries {
		if !e.compressed { // of zeros, which the data are
			e.chunk = chunkSize
			for at := int64(0); at < e.size; at += e.chunk {
				e.sums = append(e.sums, checksum(0, make([]byte, min(e.size-at, e.chunk))))
				if len(e.sums) > 100 {
					break
				}
			}
		}
		b = e.appendTo(b)
	}
	t.index.length = int64(len(b)) - t.index.offset
	t.sum = checksum(0, b[t.index.offset:])
	t.length = roundUp(int64(len(b)) + trailerLen)
	b = append(b, make([]byte, t.length-trailerLen-int64(len(b)))...)
	return append(b, t.bytes()...)
}

func TestForged(t *testing.T) {
	const p = pageSize
	of := func(name string, size int64, extents ...extent) *entry {
		return &entry{name: name, size: size, extents: extents}
	}
	for _, tt := range []struct {
		want    string // "" for none
		entries []*entry
	}{
		{"", nil},
		{"", []*entry{of("a", 5, extent{p, 5}), of("b", 5, extent{p + 5, 5})}},
		{"overlap", []*entry{of("a", 5, extent{p, 5}), of("b", 5, extent{p + 4, 5})}},
		{"overlap", []*entry{of("a", 10, extent{p, 5}, extent{p, 5})}},
		{"outside", []*entry{of("a", 5, extent{p - 1, 5})}},
		{"outside", []*entry{of("a", 5, extent{3*p - 4, 5})}},
		{"outside", []*entry{of("a", 0, extent{p, 0})}},
		{"damaged", []*entry{of("a", -1, extent{p, -1})}},
		{"outside", []*entry{of("a", 1, extent{-1, 1})}},
		{"damaged", []*entry{of("a", 1<<63-1, extent{p, 1<<63 - 1})}},
		{"outside", []*entry{of("a", 1, extent{1<<63 - 1, 1})}},
		{"differ", []*entry{of("a", 6, extent{p, 5})}},
		{"two images", []*entry{of("a", 0), of("a", 0)}},
		{"impossible name", []*entry{of("../a", 0)}},
		{"impossible name", []*entry{of("", 0)}},
		{"impossible name", []*entry{of("a\x1b[2J", 0)}},
	} {
		fd := memfd(t, forge(tt.entries, 2*p))
		r, err := Open(context.Background(), fd)
		unix.Close(fd)
		if tt.want == "" {
			if err != nil {
				t.Error(err)
				continue
			}
			r.Close()
			continue
		}
		checkErrno(t, err, unix.EINVAL)
		if !strings.Contains(fmt.Sprint(err), tt.want) {
			t.Errorf("%v, want %q", err, tt.want)
		}
	}
	// An entry that says it has more extents than there is index.
	b := forge([]*entry{of("a", 0)}, p)
	le := binary.LittleEndian
	le.PutUint32(b[2*p+16:], 1<<32-1)
	tr, _ := parseTrailer(b[len(b)-trailerLen:])
	tr.sum = checksum(0, b[tr.index.offset:tr.index.end()])
	copy(b[len(b)-trailerLen:], tr.bytes())
	fd := memfd(t, b)
	_, err := Open(context.Background(), fd)
	unix.Close(fd)
	checkErrno(t, err, unix.EINVAL)
}

func TestOtherFiles(t *testing.T) {
	blcr := "C\x00\x00\x00R\x00\x00\x00 and so on"
	_, ours := small(t)
	later := append([]byte("blcr-cli context 4\n"), make([]byte, 5000)...)
	for _, tt := range []struct {
		content string
		kind    Kind
		is      error
	}{
		{"", Unknown, ErrEmpty},
		{"C", Unknown, unix.EIO},
		{"C\x00\x00\x00", Unknown, unix.EIO},
		{"Cx", Unknown, ErrFormat},
		{"#!/bin/sh\n", Unknown, ErrFormat},
		{"\x7fELF" + strings.Repeat("x", 10000), Unknown, ErrFormat},
		{"blcr-cli cont", Unknown, unix.EIO},
		{"blcr-cli context \n" + strings.Repeat("x", 5000), Ours, nil},
		{blcr, BLCR, ErrBLCR},
		{string(ours), Ours, nil},
		{string(later), Ours, unix.EINVAL},
	} {
		try := func(fd int) {
			t.Helper()
			for range 2 { // the first consumes nothing
				if k, err := Sniff(fd); err != nil || k != tt.kind {
					t.Errorf("%.20q: kind %d, %v", tt.content, k, err)
				}
			}
			r, err := Open(context.Background(), fd)
			if err == nil {
				r.Close()
			}
			if tt.is != nil {
				if !errors.Is(err, tt.is) {
					t.Errorf("%.20q: %v", tt.content, err)
				}
			}
			if tt.kind == BLCR {
				if b := readAll(fd); string(b) != tt.content {
					t.Errorf("%q is left", b)
				}
			}
		}
		fd := memfd(t, []byte(tt.content))
		try(fd)
		unix.Close(fd)
		for name, connect := range streams(t) {
			if name == "FIFO" {
				continue // a pipe, to its reader
			}
			r, w := connect()
			go func() {
				if len(tt.content) < 100 { // in pieces, after a while
					for i := range tt.content {
						writeAll(w, []byte(tt.content[i:i+1]))
						time.Sleep(100 * time.Microsecond)
					}
				} else {
					writeAll(w, []byte(tt.content))
				}
				unix.Close(w)
			}()
			try(r)
			unix.Close(r)
		}
	}

	dir, err := os.Open("/")
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	_, err = Open(context.Background(), int(dir.Fd()))
	checkErrno(t, err, unix.EISDIR)
	_, err = Sniff(int(dir.Fd()))
	checkErrno(t, err, unix.EISDIR)
	_, err = Open(context.Background(), -1)
	checkErrno(t, err, unix.EBADF)
	null, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	_, err = Open(context.Background(), int(null.Fd()))
	checkErrno(t, err, unix.EIO)
	wo := tempFile(t)
	defer wo.Close()
	fd, err := unix.Open(wo.Name(), unix.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	_, err = Open(context.Background(), fd)
	checkErrno(t, err, unix.EBADF)
}

// reseal makes the checksums of what may be a context right.
func reseal(b []byte) {
	if len(b) < 2*pageSize {
		return
	}
	le := binary.LittleEndian
	le.PutUint32(b[sumField:], headerSum(b[:pageSize]))
	end := b[len(b)-trailerLen:]
	copy(end, trailerMagic)
	le.PutUint64(end[40:], uint64(len(b)))
	offset, length := le.Uint64(end[24:]), le.Uint64(end[32:])
	if offset < uint64(len(b)) && length < uint64(len(b))-offset {
		le.PutUint32(end[52:], checksum(0, b[offset:offset+length]))
	}
	le.PutUint32(end[60:], checksum(0, end[:60]))
}
