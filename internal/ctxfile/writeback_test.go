package ctxfile

import (
	"bytes"
	"testing"

	"golang.org/x/sys/unix"
)

// TestWriteEarly: a context of which the disk gets the beginning early is as another, and
// can be given up.
func TestWriteEarly(t *testing.T) {
	data := append(bytes.Repeat(random(5<<20+4096), 10), 1, 2, 3)
	f := tempFile(t)
	defer f.Close()
	w, err := NewWriter(int(f.Fd()), Header{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	w.WriteEarly()
	for _, name := range []string{"pages-1", "pages-2"} {
		if err := feedData(w, name, data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	r := openWritten(t, f)
	defer r.Close()
	for _, name := range []string{"pages-1", "pages-2"} {
		b := make([]byte, len(data))
		if n, err := r.ReadAt(name, b, 0); n != len(data) || err != nil || !bytes.Equal(b, data) {
			t.Errorf("%s is other than written: %d bytes, %v", name, n, err)
		}
	}

	f = tempFile(t)
	defer f.Close()
	if w, err = NewWriter(int(f.Fd()), Header{}, 0); err != nil {
		t.Fatal(err)
	}
	w.WriteEarly()
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(p[0])
	defer unix.Close(p[1])
	go func() {
		writeAll(p[1], data[:20<<20])
		w.Abort()
	}()
	checkErrno(t, w.Pipe("pages-1", p[0], true), unix.ECANCELED)
	checkErrno(t, w.Close(), unix.ECANCELED)
	if n := slack(t, f); n > maxSlack {
		t.Errorf("%d bytes are left", n)
	}
}
