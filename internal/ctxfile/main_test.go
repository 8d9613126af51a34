package ctxfile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/test/harness"
)

// roleEnv makes the test binary, run again by one of its tests, play a part.
const roleEnv = "CONTEXT_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(roleEnv) {
	case "full":
		full()
	case "limit":
		limit()
	case "stdout":
		stdout()
	case "memory":
		memory()
	case "feed":
		feed()
	}
	os.Exit(harness.Main(m))
}

// images is the content of a context.
type images map[string][]byte

// random returns n bytes of noise, of which it always returns the same. They must
// not be changed.
func random(n int) []byte {
	b := noise()
	if n > len(b) {
		panic("so much noise was not expected")
	}
	at := n % 4099 // so that contents of different sizes differ
	at = min(at, len(b)-n)
	return b[at : at+n]
}

var noise = sync.OnceValue(func() []byte {
	b := make([]byte, 9<<20)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return b
})

// sample has images of every kind of size.
func sample() images {
	return images{
		"inventory.img": random(100),
		"empty.img":     {},
		"one.img":       {7},
		"pages-1.img":   random(300 * pageSize),
		"pages-2.img":   random(3*pageSize + 17),
		"pages-3.img":   {},
		"files.img":     random(3*bufferSize + 5),
		"exact.img":     random(bufferSize),
		"core-1.img":    random(12345),
	}
}

var someHeader = Header{
	Engine: "criu 4.1.1", Created: time.Date(2026, 11, 23, 3, 4, 5, 0, time.UTC), Host: "vm", Kernel: "6.18.44",
	Machine: "x86_64", Command: []string{"sleep", "100", "a b", "", "\x1b[2J\n", "..."}, PIDs: []int{1, 22, 333},
}

// inPages tells whether an image of a test is stored as memory is.
func inPages(name string) bool { return strings.HasPrefix(name, "pages-") }

// pipe2 returns a pipe; the ends are closed by the caller.
func pipe2(t testing.TB) (r, w int) {
	t.Helper()
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	return p[0], p[1]
}

// writeAll writes to a descriptor and ignores that its reader goes away.
func writeAll(fd int, b []byte) {
	for len(b) > 0 {
		n, err := unix.Write(fd, b)
		if err == unix.EAGAIN {
			unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, -1)
		} else if err != nil && err != unix.EINTR {
			return
		}
		b = b[max(n, 0):]
	}
}

// readAll reads a descriptor to its end.
func readAll(fd int) []byte {
	var all bytes.Buffer
	b := make([]byte, 64<<10)
	for {
		n, err := readSome(context.Background(), fd, b)
		if err != nil || n == 0 {
			return all.Bytes()
		}
		all.Write(b[:n])
	}
}

// collect returns what is written into a pipe.
func collect(t testing.TB, write func(out int) error) []byte {
	t.Helper()
	r, out := pipe2(t)
	defer unix.Close(r)
	written := make(chan error, 1)
	go func() {
		defer unix.Close(out)
		written <- write(out)
	}()
	b := readAll(r)
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	return b
}

// fill writes images through pipes, all at the same time and in odd pieces.
func (im images) fill(t testing.TB, w *Writer) error {
	t.Helper()
	errs := make(chan error, len(im))
	for name, data := range im {
		r, p := pipe2(t)
		go func() {
			defer unix.Close(p)
			for left := data; len(left) > 0; {
				n := min(len(left), 1+rand.IntN(200000))
				if inPages(name) {
					n = min(len(left), pageSize*(1+rand.IntN(50)))
				}
				writeAll(p, left[:n])
				left = left[n:]
			}
		}()
		go func() {
			defer unix.Close(r)
			errs <- w.Pipe(name, r, inPages(name))
		}()
	}
	var first error
	for range im {
		if err := <-errs; err != nil && first == nil {
			first = err
		}
	}
	return first
}

// save writes a context.
func (im images) save(t testing.TB, fd int) error {
	t.Helper()
	w, err := NewWriter(fd, someHeader, 0)
	if err != nil {
		return err
	}
	return im.saveWith(t, w)
}

// saveCompressed is save with compression.
func (im images) saveCompressed(t testing.TB, fd, level int) error {
	t.Helper()
	w, err := NewWriter(fd, someHeader, level)
	if err != nil {
		return err
	}
	return im.saveWith(t, w)
}

func (im images) saveWith(t testing.TB, w *Writer) error {
	t.Helper()
	if err := im.fill(t, w); err != nil {
		w.Abort()
		return err
	}
	return w.Close()
}

func (im images) mustSave(t testing.TB, fd int) {
	t.Helper()
	if err := im.save(t, fd); err != nil {
		t.Fatal(err)
	}
}

// check reads the context at fd in every way and compares.
func (im images) check(t testing.TB, fd int) {
	t.Helper()
	r, err := Open(context.Background(), fd)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	h := r.Header()
	h.Compression = ""
	if fmt.Sprint(h) != fmt.Sprint(someHeader) {
		t.Errorf("header is %+v", h)
	}
	if n := len(r.Names()); n != len(im) {
		t.Errorf("%d images, want %d: %q", n, len(im), r.Names())
	}
	errs := make(chan error, len(im))
	for name, data := range im {
		go func() { errs <- r.same(t, name, data) }()
	}
	for range im {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if r.Has("none") || r.Size("none") != -1 {
		t.Error("an image that does not exist")
	}
	checkErrno(t, r.Serve("none", -1), unix.ENOENT)
	for _, e := range r.entries {
		for _, x := range e.extents {
			if inPages(e.name) && x.offset%pageSize != 0 {
				t.Errorf("%s: extent at %d", e.name, x.offset)
			}
		}
	}
}

// openWritten reads the context that has been written into a file. The caller closes the Reader.
func openWritten(t testing.TB, f *os.File) *Reader {
	t.Helper()
	seek(t, int(f.Fd()), 0)
	r, err := Open(context.Background(), int(f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// same compares one image.
func (r *Reader) same(t testing.TB, name string, data []byte) error {
	if r.Size(name) != int64(len(data)) || !r.Has(name) {
		return fmt.Errorf("%s: size %d, want %d", name, r.Size(name), len(data))
	}
	if b, err := r.Bytes(name); err != nil || !bytes.Equal(b, data) {
		return fmt.Errorf("%s: %d bytes differ, error %v", name, len(b), err)
	}
	for range 3 {
		at := rand.IntN(len(data) + 10)
		b := make([]byte, rand.IntN(len(data)-min(at, len(data))+10))
		want := data[min(at, len(data)):min(at+len(b), len(data))]
		if n, err := r.ReadAt(name, b, int64(at)); err != nil || !bytes.Equal(b[:n], want) {
			return fmt.Errorf("%s: %d bytes at %d of %d differ, error %v", name, n, at, len(data), err)
		}
	}
	pr, pw := pipe2(t)
	served := make(chan error)
	go func() {
		err := r.Serve(name, pw)
		unix.Close(pw)
		served <- err
	}()
	b := readAll(pr)
	unix.Close(pr)
	if err := <-served; err != nil || !bytes.Equal(b, data) {
		return fmt.Errorf("serving %s: %d bytes of %d differ, error %v", name, len(b), len(data), err)
	}
	return nil
}

func checkErrno(t testing.TB, err error, want syscall.Errno) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Errno != want {
		t.Errorf("error %v, want %v", err, want)
	}
}

// checkFault checks that err says that the file is at fault.
func checkFault(t testing.TB, err error) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Reason == "" || e.Errno != syscall.EINVAL && e.Errno != syscall.EIO {
		t.Errorf("error %v", err)
	}
}

func tempFile(t testing.TB) *os.File {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "context")
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// seek sets the offset of a descriptor.
func seek(t testing.TB, fd int, offset int64) {
	t.Helper()
	if _, err := unix.Seek(fd, offset, unix.SEEK_SET); err != nil {
		t.Fatal(err)
	}
}
