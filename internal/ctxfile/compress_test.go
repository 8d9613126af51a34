package ctxfile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"blcr-cli/test/harness"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// text returns n bytes that compress well, and are no zeros.
func text(n int) []byte {
	b := make([]byte, 0, n+100)
	for i := 0; len(b) < n; i++ {
		b = append(b, "line "...)
		b = strconv.AppendInt(b, int64(i), 10)
		b = append(b, " of "...)
		b = strconv.AppendInt(b, int64(n), 10)
		b = append(b, '\n')
	}
	return b[:n]
}

// mixed returns n bytes of pages that are noise, empty, or text.
func mixed(n int) []byte {
	b := text(n)
	noise := random(min(n, 1<<20))
	for i := 0; i < n; i += pageSize {
		switch page := b[i:min(i+pageSize, n)]; i / pageSize % 5 {
		case 0, 1:
			clear(page)
		case 2:
			copy(page, noise[i%len(noise):])
		}
	}
	return b
}

// samples has images of every kind of size and content; unless the tests are
// harness.All(), of every kind of size, and of content.
func samples() images {
	im := sample()
	for i, n := range []int{0, 1, minCompressed - 1, minCompressed, minCompressed + 1, frameSize - 1, frameSize, frameSize + 1, 2 * frameSize, 5*frameSize + 17} {
		im[fmt.Sprintf("pages-%d0.img", i)] = mixed(n)
		if harness.All() || i%3 == 0 {
			im[fmt.Sprintf("ghost-file-%d.img", i)] = text(n)
		}
		if harness.All() || i%3 == 1 {
			im[fmt.Sprintf("zeros-%d.img", i)] = make([]byte, n)
		}
		if harness.All() || i%3 == 2 {
			im[fmt.Sprintf("file-%d", i)] = random(n)
		}
	}
	im["pages-200.img"] = append(make([]byte, 3*frameSize), text(2*frameSize)...)
	return im
}

// fewSamples has one of each kind of content.
func fewSamples() images {
	im := sample()
	im["pages-10.img"] = mixed(frameSize + 1)
	im["ghost-file-1.img"] = text(minCompressed + 1)
	im["zeros-1.img"] = make([]byte, 2*frameSize)
	im["pages-20.img"] = append(make([]byte, frameSize), text(frameSize+17)...)
	if harness.All() {
		return samples()
	}
	return im
}

func TestCompressed(t *testing.T) {
	im := samples()
	total := int64(0)
	for _, data := range im {
		total += int64(len(data))
	}
	for _, level := range []int{1, 3, 22} {
		f := tempFile(t)
		fd := int(f.Fd())
		seek(t, fd, 5000)
		if err := im.saveCompressed(t, fd, level); err != nil {
			t.Fatal(err)
		}
		images{"a": {1}}.mustSave(t, fd) // another, behind it
		seek(t, fd, 5000)
		im.check(t, fd)
		images{"a": {1}}.check(t, fd)

		seek(t, fd, 5000)
		r, err := Open(context.Background(), fd)
		if err != nil {
			t.Fatal(err)
		}
		if c := r.Header().Compression; c != "zstd" {
			t.Errorf("compression is %q", c)
		}
		stored := int64(0)
		for _, name := range r.Names() {
			n, size := r.Stored(name), r.Size(name)
			if stored += n; n > size {
				t.Errorf("%s: %d bytes became %d", name, size, n)
			}
			e := r.byName[name]
			// Memory that comes slowly may become frames before it is known to be little.
			small := size < minCompressed && !(inPages(name) && size > 0)
			if size >= minCompressed && !e.compressed || small && e.compressed || len(e.sums) == 0 && size > 0 && !e.compressed {
				t.Errorf("%s, %d bytes: compressed %v, %d checksums", name, size, e.compressed, len(e.sums))
			}
			if strings.HasPrefix(name, "zeros") && size >= minCompressed && n != 0 {
				t.Errorf("%s: %d bytes of zeros became %d", name, size, n)
			}
		}
		out := tempFile(t) // which is no pipe
		if err := r.Serve("pages-90.img", int(out.Fd())); err != nil {
			t.Error(err)
		}
		if b, _ := os.ReadFile(out.Name()); !bytes.Equal(b, im["pages-90.img"]) {
			t.Error("served into a file: different")
		}
		out.Close()
		if r.Stored("none") != -1 {
			t.Error("an image that does not exist")
		}
		t.Logf("level %d: %d bytes became %d", level, total, stored)
		if stored > total*2/3 {
			t.Errorf("level %d: %d bytes became %d", level, total, stored)
		}
		r.Close()
		f.Close()
	}
}

// In the header page, for people.
func TestCompressedHeader(t *testing.T) {
	fd := memfd(t, nil)
	defer unix.Close(fd)
	if err := (images{}).saveCompressed(t, fd, 1); err != nil {
		t.Fatal(err)
	}
	seek(t, fd, 0)
	const first, line = "blcr-cli context 3\nengine: ", "\nmachine: x86_64\ncompression: zstd\ncommand: "
	b := readAll(fd)
	if s := string(b); !strings.HasPrefix(s, first) || !strings.Contains(s, line) {
		t.Errorf("the page begins %.300q", s)
	}
	// One that is not known is refused, and so are frames without compression.
	h := someHeader
	h.Compression = "lz4"
	copy(b, h.page([idLen]byte{}))
	reseal(b)
	seek(t, fd, 0)
	writeAll(fd, b)
	seek(t, fd, 0)
	_, err := Open(context.Background(), fd)
	checkErrno(t, err, unix.EINVAL)
	if !strings.Contains(fmt.Sprint(err), `"lz4" is not known`) {
		t.Error(err)
	}
}

// Header.Compression is the Writer's to set.
func TestNotCompressed(t *testing.T) {
	h := someHeader
	h.Compression = Zstd
	fd := memfd(t, nil)
	defer unix.Close(fd)
	w, err := NewWriter(fd, h, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := fewSamples().saveWith(t, w); err != nil {
		t.Fatal(err)
	}
	seek(t, fd, 0)
	if b := readAll(fd); !bytes.HasPrefix(b, []byte("blcr-cli context 3\n")) || bytes.Contains(b[:pageSize], []byte("compression")) {
		t.Errorf("the page begins %.300q", b)
	}
	seek(t, fd, 0)
	fewSamples().check(t, fd)
}

func TestCompressedStream(t *testing.T) {
	im := fewSamples()
	for name, connect := range streams(t) {
		t.Run(name, func(t *testing.T) {
			r, w := connect()
			done := make(chan error, 1)
			go func() {
				err := im.saveCompressed(t, w, 1)
				unix.Close(w)
				done <- err
			}()
			im.check(t, r)
			if err := <-done; err != nil {
				t.Error(err)
			}
			unix.Close(r)
		})
	}
	f := tempFile(t)
	defer f.Close()
	a, err := os.OpenFile(f.Name(), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	for range 2 {
		if err := im.saveCompressed(t, int(a.Fd()), 1); err != nil {
			t.Fatal(err)
		}
	}
	im.check(t, int(f.Fd()))
	im.check(t, int(f.Fd()))
}

// File and Bytes, and more images at once than there are frames.
func TestCompressedMany(t *testing.T) {
	f := tempFile(t)
	defer f.Close()
	fd := int(f.Fd())
	w, err := NewWriter(fd, someHeader, 1)
	if err != nil {
		t.Fatal(err)
	}
	im := images{"exe": mixed(3*frameSize + 5), "note": text(10), "list": text(2 * frameSize)}
	for _, err := range []error{
		w.File("exe", bytes.NewReader(im["exe"])), w.Bytes("note", im["note"]), w.Bytes("list", im["list"]),
		w.File("bad", &failing{}),
	} {
		if err != nil && !errors.Is(err, unix.ENXIO) {
			t.Error(err)
		}
	}
	checkErrno(t, w.Close(), unix.ENXIO)

	seek(t, fd, 0)
	if w, err = NewWriter(fd, someHeader, 1); err != nil {
		t.Fatal(err)
	}
	for i := range 40 {
		im[fmt.Sprintf("pages-%d.img", i)] = mixed(900*i*i + i)
		im[fmt.Sprintf("core-%d.img", i)] = text(5000 * i)
	}
	// Some of each comes before the rest of any, in another order.
	type rest struct {
		p    int
		data []byte
	}
	errs := make(chan error, len(im))
	var rests []rest
	for name, data := range im {
		r, p := pipe2(t)
		go func() {
			errs <- w.Pipe(name, r, inPages(name))
			unix.Close(r)
		}()
		n := min(len(data)/2, 60000) // what a pipe takes
		writeAll(p, data[:n])
		rests = append(rests, rest{p, data[n:]})
	}
	time.Sleep(20 * time.Millisecond)
	slices.Reverse(rests)
	for _, rest := range rests {
		writeAll(rest.p, rest.data)
		unix.Close(rest.p)
	}
	for range im {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	w.compress.frames.allFree(t)
	seek(t, fd, 0)
	im.check(t, fd)
}

type failing struct{ n int }

func (f *failing) Read(b []byte) (int, error) {
	if f.n++; f.n > 20 {
		return 0, unix.ENXIO
	}
	return copy(b, random(len(b))), nil
}

func (p *framePool) allFree(t *testing.T) {
	t.Helper()
	if n := len(p.free); n != cap(p.free) || p.kept.Load() != 0 {
		t.Errorf("%d frames of %d are free, %d kept", n, cap(p.free), p.kept.Load())
	}
}

// Many whose readers do not read, and one whose reader does.
func TestCompressedSlowReaders(t *testing.T) {
	im := images{}
	for i := range 30 {
		im[fmt.Sprintf("pages-%d.img", i)] = mixed(3*frameSize + i*1000)
	}
	f := tempFile(t)
	defer f.Close()
	if err := im.saveCompressed(t, int(f.Fd()), 1); err != nil {
		t.Fatal(err)
	}
	r := openWritten(t, f)
	defer r.Close()
	errs := make(chan error, len(im))
	ends := map[string]int{}
	for name := range im {
		pr, pw := pipe2(t)
		ends[name] = pr
		go func() {
			errs <- r.Serve(name, pw)
			unix.Close(pw)
		}()
	}
	time.Sleep(50 * time.Millisecond)
	for name, pr := range ends {
		if name == "pages-29.img" {
			unix.Close(pr) // it has seen enough
			continue
		}
		if b := readAll(pr); !bytes.Equal(b, im[name]) {
			t.Errorf("%s: %d bytes differ", name, len(b))
		}
		unix.Close(pr)
	}
	for range im {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	r.decompress.frames.allFree(t)
}

func TestCompressedAbort(t *testing.T) {
	im := images{"pages-1.img": mixed(8 << 20), "core-1.img": mixed(8 << 20), "pages-2.img": random(8 << 20)}
	f := tempFile(t)
	defer f.Close()

	// While data does not come, or does and nobody takes the context.
	for name, connect := range streams(t) {
		r, out := connect()
		w, err := NewWriter(out, someHeader, 1)
		if err != nil {
			t.Fatal(err)
		}
		errs := make(chan error, len(im)+1)
		for name := range im {
			go func() { errs <- feedImage(w, name, 8<<20) }()
		}
		pr, pw := pipe2(t)
		writeAll(pw, random(5000))
		go func() { errs <- w.Pipe("core-9.img", pr, false) }()
		time.Sleep(20 * time.Millisecond)
		w.Abort()
		canceled(t, len(im)+1, errs)
		checkErrno(t, w.Close(), unix.ECANCELED)
		w.compress.frames.allFree(t)
		for _, fd := range []int{r, out, pr, pw} {
			unix.Close(fd)
		}
		if t.Failed() {
			t.Fatal(name)
		}
	}

	if err := im.saveCompressed(t, int(f.Fd()), 1); err != nil {
		t.Fatal(err)
	}
	seek(t, int(f.Fd()), 0)
	r, err := Open(context.Background(), int(f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	errs := make(chan error, len(im))
	for name := range im {
		pr, pw := pipe2(t)
		defer unix.Close(pr)
		defer unix.Close(pw)
		go func() { errs <- r.Serve(name, pw) }()
	}
	time.Sleep(20 * time.Millisecond)
	r.Abort()
	canceled(t, len(im), errs)
	r.decompress.frames.allFree(t)
	_, err = r.ReadAt("core-1.img", make([]byte, 10), 0)
	checkErrno(t, err, unix.ECANCELED)
	r.Close()
}

// smallCompressed returns a context of a few images, compressed.
func smallCompressed(t testing.TB) (images, []byte) {
	t.Helper()
	im := images{
		"pages-1.img": text(3 * pageSize), "pages-2.img": random(pageSize + 1), "pages-3.img": make([]byte, 5*pageSize),
		"core-1.img": random(100), "ghost-file-1.img": text(5000),
	}
	fd := memfd(t, nil)
	defer unix.Close(fd)
	if err := im.saveCompressed(t, fd, 1); err != nil {
		t.Fatal(err)
	}
	seek(t, fd, 0)
	return im, readAll(fd)
}

// No byte may be another without being noticed.
func TestCompressedFlips(t *testing.T) {
	im, b := smallCompressed(t)
	fd := memfd(t, b)
	defer unix.Close(fd)
	for i := range b {
		every := 29
		switch text, index := i < trailerField, i > len(b)-1000; {
		case text:
			every = 31
		case harness.All() && index:
			every = 1
		case index, harness.All():
			every = 3
		}
		if i%every != 0 {
			continue
		}
		unix.Pwrite(fd, []byte{b[i] ^ (byte(i*37) | 1)}, int64(i))
		seek(t, fd, 0)
		got, errs, h, err := everything(fd)
		unix.Pwrite(fd, b[i:i+1], int64(i))
		if err != nil {
			checkErrno(t, err, unix.EINVAL)
			continue
		}
		h.Compression = ""
		if !reflect.DeepEqual(h, someHeader) {
			t.Fatalf("byte %d: header is %+v", i, h)
		}
		for name, data := range im {
			if errs[name] != nil {
				checkErrno(t, errs[name], unix.EINVAL)
			} else if !bytes.Equal(got[name], data) {
				t.Fatalf("byte %d: %s differs", i, name)
			}
		}
	}
}

// Cut off before each frame, and in each.
func TestCompressedTruncated(t *testing.T) {
	im := images{"pages-1.img": mixed(8*frameSize + 1), "core-1.img": text(3 * frameSize)}
	fd := memfd(t, nil)
	defer unix.Close(fd)
	if err := im.saveCompressed(t, fd, 1); err != nil {
		t.Fatal(err)
	}
	seek(t, fd, 0)
	b := readAll(fd)
	seek(t, fd, 0)
	whole, err := Open(context.Background(), fd)
	if err != nil {
		t.Fatal(err)
	}
	defer whole.Close()
	for _, e := range whole.entries {
		for i, f := range e.frames {
			for _, n := range []int64{f.offset, f.offset + int64(f.stored)/2, f.offset + int64(f.stored) - 1} {
				cut := memfd(t, b[:n])
				_, err := Open(context.Background(), cut)
				checkErrno(t, err, unix.EIO)
				if !strings.Contains(fmt.Sprint(err), "truncated") {
					t.Errorf("%d bytes: %v", n, err)
				}
				unix.Close(cut)

				// When it is already open. What is whole is still served.
				unix.Ftruncate(fd, n)
				pr, pw := pipe2(t)
				served := make(chan error, 1)
				go func() {
					served <- whole.Serve(e.name, pw)
					unix.Close(pw)
				}()
				got := readAll(pr)
				unix.Close(pr)
				err = <-served
				checkErrno(t, err, unix.EIO)
				if !strings.Contains(fmt.Sprint(err), "has become shorter") || !bytes.HasPrefix(im[e.name], got) || len(got) > i*frameSize {
					t.Errorf("%s, frame %d: %d bytes and %v", e.name, i, len(got), err)
				}
				seek(t, fd, 0)
				writeAll(fd, b)
			}
		}
	}
	whole.decompress.frames.allFree(t)
}

// forged makes a compressed context of one image with that data and those
// frames, where all checksums of the index are right.
func forged(t testing.TB, data []byte, frames []frame, flags uint16) int {
	t.Helper()
	h := someHeader
	h.Compression = Zstd
	e := &entry{name: "pages-1.img", compressed: true, frames: frames}
	for _, f := range frames {
		e.size += int64(f.length)
	}
	b := forge([]*entry{e}, roundUp(int64(len(data))))
	copy(b, h.page([idLen]byte{}))
	copy(b[pageSize:], data)
	at := pageSize + roundUp(int64(len(data)))
	b[at+2] = byte(flags)
	reseal(b)
	return memfd(t, b)
}

func TestForgedFrames(t *testing.T) {
	const p = pageSize
	zip := func(data []byte, options ...zstd.EOption) []byte {
		e, err := zstd.NewWriter(nil, append(options, zstd.WithEncoderConcurrency(1))...)
		if err != nil {
			t.Fatal(err)
		}
		return e.EncodeAll(data, nil)
	}
	stream := func(data []byte) []byte { // without the length in its header
		var b bytes.Buffer
		e, err := zstd.NewWriter(&b, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(64<<20))
		if err != nil {
			t.Fatal(err)
		}
		for range 10 {
			e.Write(data)
			e.Flush()
		}
		e.Close()
		return b.Bytes()
	}
	good := text(2 * p)
	packed := zip(good)
	n := uint32(len(packed))
	of := func(frames ...frame) []frame { return frames }
	sum := frameSum(packed, good)
	whole := frame{p, n, 2 * p, sum}
	large := make([]byte, 4<<20)
	largeZip, largeStream := zip(large), stream(large)
	for _, tt := range []struct {
		want   string // "" for none
		data   []byte
		frames []frame
	}{
		{"", packed, of(whole)},
		{"", append(packed, packed...), of(whole, frame{p + int64(n), n, 2 * p, sum})},
		{"", nil, nil},
		{"", nil, of(frame{0, 0, frameSize, 0}, frame{0, 0, 1, 0})},
		{"overlap", packed, of(whole, whole)},
		{"overlap", append(packed, packed...), of(whole, frame{p + int64(n) - 1, n, 2 * p, sum})},
		{"outside", packed, of(frame{p - 1, n, 2 * p, sum})},
		{"outside", packed, of(frame{3*p - 1, n, 2 * p, sum})},
		{"outside", packed, of(frame{-1, n, 2 * p, sum})},
		{"outside", packed, of(frame{1<<63 - 1, n, 2 * p, sum})},
		{"outside", packed, of(frame{p, p + 1, 2 * p, sum})},
		{"impossible length", packed, of(frame{p, n, 0, sum})},
		{"impossible length", packed, of(frame{p, n, n - 1, sum})},
		{"impossible length", packed, of(frame{p, n, frameSize + 1, sum})},
		{"impossible length", packed, of(frame{p, n, 1<<32 - 1, sum})},
		{"impossible length", packed, of(frame{p, 1<<32 - 1, 1<<32 - 1, sum})},
		{"frame of zeros", packed, of(frame{p, 0, p, 0})},
		{"frame of zeros", packed, of(frame{0, 0, p, 1})},
		{"checksum does not match", packed, of(frame{p, n, 2 * p, sum + 1})},
		{"checksum does not match", packed, of(frame{p, n, n, sum})}, // not compressed
		{"damaged", packed, of(frame{p, n - 1, 2 * p, sum})},
		{"damaged", packed, of(frame{p + 1, n - 1, 2 * p, sum})},
		{"damaged", packed, of(frame{p, n + 1, 2 * p, sum})},
		{"instead of", packed, of(frame{p, n, 2*p + 1, sum})},
		{"exceed", packed, of(frame{p, n, 2*p - 1, sum})},
		{"damaged", largeZip, of(frame{p, uint32(len(largeZip)), frameSize, sum})},
		{"damaged", largeStream, of(frame{p, uint32(len(largeStream)), frameSize, sum})},
		{"damaged", bytes.Repeat(packed, 3), of(frame{p, 3 * n, 2 * p, sum})},
		{"damaged", random(100), of(frame{p, 100, 2 * p, sum})},
		{"instead of", []byte("\x50\x2a\x4d\x18\x04\x00\x00\x00abcd"), of(frame{p, 12, 2 * p, sum})},
	} {
		fd := forged(t, tt.data, tt.frames, flagFrames)
		r, err := Open(context.Background(), fd)
		unix.Close(fd)
		if err == nil {
			_, err = r.Bytes("pages-1.img")
			pr, pw := pipe2(t)
			enlarge(pw)
			served := r.Serve("pages-1.img", pw)
			unix.Close(pw)
			if b := readAll(pr); tt.want != "" && len(b) != 0 {
				t.Errorf("%q: %d bytes were served", tt.want, len(b))
			}
			unix.Close(pr)
			if fmt.Sprint(served) != fmt.Sprint(err) {
				t.Errorf("Bytes: %v; Serve: %v", err, served)
			}
			r.decompress.frames.allFree(t)
			r.Close()
		}
		if tt.want == "" && err != nil {
			t.Error(err)
		}
		if tt.want != "" {
			checkErrno(t, err, unix.EINVAL)
			if !strings.Contains(fmt.Sprint(err), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		}
	}
	for _, flags := range []uint16{0, flagSum, flagSum | flagFrames, 4} {
		fd := forged(t, packed, of(whole), flags)
		_, err := Open(context.Background(), fd)
		unix.Close(fd)
		checkErrno(t, err, unix.EINVAL)
	}
	// In a context of version 1.
	fd := forged(t, packed, of(whole), flagFrames)
	unix.Pwrite(fd, someHeader.page([idLen]byte{}), 0)
	_, err := Open(context.Background(), fd)
	unix.Close(fd)
	checkErrno(t, err, unix.EINVAL)
}
