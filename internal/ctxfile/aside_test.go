package ctxfile

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// TestAside: memory comes out as it went in, however much of it was moved aside, be it that
// this fails.
func TestAside(t *testing.T) {
	moved := 0
	for _, size := range []int64{0, 1 << 20, 3<<20 + 4096, 64 << 20} {
		for _, kind := range []string{"prepared", "unprepared", "full"} {
			t.Run(fmt.Sprintf("%d %s", size, kind), func(t *testing.T) {
				moved += testAside(t, size, kind)
			})
		}
	}
	for try := 0; moved == 0; try++ { // the other thread was never in time
		if try == 100 {
			t.Fatal("nothing was moved aside")
		}
		moved += testAside(t, 64<<20, "unprepared")
	}
}

func testAside(t *testing.T, size int64, kind string) (moved int) {
	before := descriptors(t)
	f := tempFile(t)
	w, err := NewWriter(int(f.Fd()), Header{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	w.Aside(size)
	w.relays.most = 4 // they are soon full
	a := w.aside
	if (a != nil) != (size > 0) {
		t.Fatalf("%d bytes: %v", size, a)
	}
	switch kind {
	case "prepared":
		w.Prepare(8 << 20)
	case "full":
		if a != nil {
			unix.Close(a.fd)
			if a.fd, err = unix.Open("/dev/full", unix.O_WRONLY|unix.O_CLOEXEC, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	data := map[string][]byte{"pages-1": random(8<<20 + 4096), "pages-2": random(6 << 20), "pages-3": random(3<<20 + 123)}
	var all sync.WaitGroup
	for name, d := range data {
		all.Go(func() {
			if err := feedData(w, name, d); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if a != nil {
		for _, p := range a.pieces {
			moved += int(p.length)
		}
		if int64(moved) > size || kind == "full" && moved > 0 {
			t.Errorf("%d bytes of %d were moved aside", moved, size)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	seek(t, int(f.Fd()), 0)
	r, err := Open(context.Background(), int(f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	for name, d := range data {
		if got, err := r.Bytes(name); err != nil || !bytes.Equal(got, d) {
			t.Errorf("%s is other than written, %v", name, err)
		}
	}
	if n := slack(t, f); n > maxSlack {
		t.Errorf("%d bytes are left", n)
	}
	r.Close()
	f.Close()
	if n := descriptors(t); n > before {
		t.Errorf("%d descriptors, there were %d", n, before)
	}
	return moved
}

// TestAsideAborted: nothing is left of a Writer that was given up, whatever it has aside.
func TestAsideAborted(t *testing.T) {
	for _, size := range []int{0, 1 << 20, 8 << 20} {
		before := descriptors(t)
		f := tempFile(t)
		w, err := NewWriter(int(f.Fd()), Header{}, 0)
		if err != nil {
			t.Fatal(err)
		}
		w.Aside(64 << 20)
		r, p := pipe2(t)
		ended := make(chan error)
		go func() { ended <- w.Pipe("pages-1", r, true) }()
		writeAll(p, random(size))
		w.Abort()
		checkErrno(t, <-ended, unix.ECANCELED)
		checkErrno(t, w.Close(), unix.ECANCELED)
		unix.Close(r)
		unix.Close(p)
		f.Close()
		if n := descriptors(t); n > before {
			t.Errorf("%d descriptors, there were %d", n, before)
		}
	}
}
