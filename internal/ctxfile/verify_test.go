package ctxfile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"blcr-cli/test/harness"
)

// damage returns what Verify finds in the context at the beginning of fd, nothing if
// Open refuses it.
func damage(t testing.TB, fd int) (found []Damage) {
	t.Helper()
	seek(t, fd, 0)
	r, err := Open(context.Background(), fd)
	if err != nil {
		return nil
	}
	defer r.Close()
	unknown, err := r.Verify(func(d Damage) {
		if found = append(found, d); !d.within(r) {
			t.Errorf("%+v", d)
		}
	})
	if err != nil || unknown != 0 {
		t.Fatal(unknown, err)
	}
	return found
}

// within tells whether a damage is somewhere in the context.
func (d Damage) within(r *Reader) bool {
	size := r.Length()
	if d.Name != "" {
		size = r.Size(d.Name)
	}
	var e *Error
	return d.Offset >= 0 && d.Length > 0 && d.Offset+d.Length <= size && errors.As(d.Err, &e) && e.Object == d.Name
}

// kinds are the ways in which a context is written.
var kinds = map[string]func(t testing.TB, im images) []byte{
	"file":       func(t testing.TB, im images) []byte { return im.written(t, 0, unix.O_RDWR) },
	"write-only": func(t testing.TB, im images) []byte { return im.written(t, 0, unix.O_WRONLY) },
	"append":     func(t testing.TB, im images) []byte { return im.written(t, 0, unix.O_WRONLY|unix.O_APPEND) },
	"compressed": func(t testing.TB, im images) []byte { return im.written(t, 1, unix.O_RDWR) },
	"streamed": func(t testing.TB, im images) []byte {
		return collect(t, func(out int) error { return im.save(t, out) })
	},
}

// written returns a context that was written to a file opened with flags, which already
// has some content.
func (im images) written(t testing.TB, level, flags int) []byte {
	t.Helper()
	f := tempFile(t)
	defer f.Close()
	if flags&unix.O_APPEND == 0 {
		f.Write(random(100 * pageSize))
	}
	fd, err := unix.Open(f.Name(), flags|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := im.saveCompressed(t, fd, level); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	if flags&unix.O_APPEND == 0 {
		n, _ := unix.Seek(fd, 0, unix.SEEK_CUR)
		b = b[:n]
	}
	return b
}

// TestVerify changes one bit after the other in contexts of every kind: all of them where
// the format has structure, some in the data of members.
func TestVerify(t *testing.T) {
	im := images{
		"pages-1.img": random(40*pageSize + 100), "pages-2.img": append(random(pageSize), text(5*pageSize)...), "pages-3.img": random(5),
		"core-1.img": random(100), "files.img": text(70000), "empty.img": nil,
	}
	for kind, write := range kinds {
		t.Run(kind, func(t *testing.T) {
			b := write(t, im)
			fd := memfd(t, b)
			defer unix.Close(fd)
			if found := damage(t, fd); found != nil {
				t.Fatal(found)
			}
			seek(t, fd, 0)
			im.check(t, fd)
			seek(t, fd, 0)
			whole, err := Open(context.Background(), fd)
			if err != nil {
				t.Fatal(err)
			}
			defer whole.Close()
			tr, _ := parseTrailer(b[len(b)-trailerLen:])
			flips := 0
			for i := range b {
				structure := i < 400 || i >= trailerField && i < pageSize || int64(i) >= tr.index.offset
				step := 397
				switch {
				case structure && harness.All():
					step = 1
				case structure:
					step = 5
				case harness.All():
					step = 41
				}
				if i%step != 0 {
					continue
				}
				for bit := range 8 {
					if !structure && bit != i%8 {
						continue
					}
					unix.Pwrite(fd, []byte{b[i] ^ 1<<bit}, int64(i))
					seek(t, fd, 0)
					r, err := Open(context.Background(), fd)
					var found []Damage
					if err == nil {
						r.Close()
						found = damage(t, fd)
					}
					unix.Pwrite(fd, b[i:i+1], int64(i))
					if flips++; err == nil && !slices.ContainsFunc(found, func(d Damage) bool { return d.has(whole, int64(i)) }) {
						t.Fatalf("bit %d of byte %d of %d: found %v", bit, i, len(b), found)
					}
				}
			}
			t.Logf("%d bits", flips)
		})
	}
}

// has tells whether a damage of a context has a byte of its file.
func (d Damage) has(r *Reader, at int64) bool {
	if d.Name == "" {
		return at >= d.Offset && at < d.Offset+d.Length
	}
	e := r.byName[d.Name]
	start := int64(0)
	for _, f := range e.frames {
		if at >= f.offset && at < f.offset+int64(f.stored) {
			return start >= d.Offset && start < d.Offset+d.Length
		}
		start += int64(f.length)
	}
	for i, x := range e.extents {
		if at >= x.offset && at < x.end() {
			at = e.starts[i] + at - x.offset
			return at >= d.Offset && at < d.Offset+d.Length
		}
	}
	return false
}

// TestReadAtChecks: what is read of a damaged chunk, however little, is refused, and so
// is the first byte before the reader of Serve sees it; the other chunks can be read.
func TestReadAtChecks(t *testing.T) {
	const chunks = 7
	data := random(chunks*chunkSize - 100)
	fd := memfd(t, nil)
	defer unix.Close(fd)
	images{"pages-1.img": data, "other.img": data}.mustSave(t, fd)
	seek(t, fd, 0)
	r, err := Open(context.Background(), fd)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for _, name := range r.Names() {
		e := r.byName[name]
		_ = e.each(3*chunkSize+17, 1, func(x extent) error {
			unix.Pwrite(fd, []byte{^data[3*chunkSize+17]}, x.offset)
			return nil
		})
		for _, x := range []extent{{0, 1}, {0, 3 * chunkSize}, {3*chunkSize - 1, 1}, {3 * chunkSize, 1}, {4*chunkSize - 1, 1}, {3*chunkSize + 17, 1},
			{2 * chunkSize, 2 * chunkSize}, {0, int64(len(data))}, {100, 5 * chunkSize}, {4 * chunkSize, 3 * chunkSize}, {6*chunkSize + 1, chunkSize}, {7 * chunkSize, 1}} {
			b := make([]byte, x.length)
			n, err := r.ReadAt(name, b, x.offset)
			if x.offset < 4*chunkSize && x.end() > 3*chunkSize {
				checkErrno(t, err, unix.EINVAL)
				if n != 0 || !strings.Contains(fmt.Sprint(err), "checksum of bytes 196608 to 262143 does not match") {
					t.Errorf("%s, %v: %d bytes, %v", name, x, n, err)
				}
				continue
			}
			want := data[min(x.offset, int64(len(data))):min(x.end(), int64(len(data)))]
			if err != nil || !bytes.Equal(b[:n], want) {
				t.Errorf("%s, %v: %d bytes, %v", name, x, n, err)
			}
		}
		if _, err := r.Bytes(name); err == nil {
			t.Errorf("%s can be read", name)
		}
	}
	if found := damage(t, fd); len(found) != 2 || found[0].Offset != 3*chunkSize || found[0].Length != chunkSize || found[0].Name == found[1].Name {
		t.Error(found)
	}
}

// TestUnreadable: of a file that is shorter than it should be Verify says what is missing.
func TestUnreadable(t *testing.T) {
	data := random(40 * chunkSize)
	fd := memfd(t, nil)
	defer unix.Close(fd)
	images{"pages-1.img": data}.mustSave(t, fd)
	seek(t, fd, 0)
	r, err := Open(context.Background(), fd)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	unix.Ftruncate(fd, pageSize+20*chunkSize)
	var found []Damage
	unknown, err := r.Verify(func(d Damage) { found = append(found, d) })
	if err != nil || unknown != 0 || len(found) != 2 || found[0].Offset != 20*chunkSize || found[0].Length != 20*chunkSize || found[1].Name != "" {
		t.Error(unknown, err, found)
	}
	r.Abort()
	_, err = r.Verify(func(d Damage) { t.Error(d) })
	checkErrno(t, err, unix.ECANCELED)
}

// TestDouble makes chunks larger, as those of contexts are which are too large for a test.
func TestDouble(t *testing.T) {
	for _, size := range []int{0, 1, chunkSize, chunkSize + 1, 5 * chunkSize, 5*chunkSize + 7, 8 * chunkSize, 9*chunkSize - 1} {
		data := random(size)
		c := chunks{chunk: chunkSize}
		c.sum(data)
		for range 5 {
			c.double(int64(size))
			want := chunks{chunk: c.chunk}
			want.sum(data)
			if !slices.Equal(c.sums, want.sums) {
				t.Fatalf("%d bytes in chunks of %d: %x, want %x", size, c.chunk, c.sums, want.sums)
			}
		}
	}
}

// TestEarlier: of what earlier versions have not summed Verify says so.
func TestEarlier(t *testing.T) {
	for name, b := range realContexts(t) {
		fd := memfd(t, b)
		r, err := Open(context.Background(), fd)
		unix.Close(fd)
		if err != nil {
			t.Fatal(err)
		}
		unknown, err := r.Verify(func(d Damage) { t.Error(name, d) })
		want := int64(0)
		if name == "plain-before-3.context" {
			want = pageSize
		}
		if unknown != want || err != nil {
			t.Errorf("%s: %d bytes unknown, want %d, %v", name, unknown, want, err)
		}
		r.Close()
	}
}
