package ctxfile

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// savedPages returns a context with an image of some chunks, in a file.
func savedPages(t *testing.T) (file *os.File, r *Reader, data []byte) {
	t.Helper()
	data = random(7*chunkSize + 3*pageSize)
	file = tempFile(t)
	images{"pages-1.img": data}.mustSave(t, int(file.Fd()))
	seek(t, int(file.Fd()), 0)
	r, err := Open(context.Background(), int(file.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); file.Close() })
	if !r.cached(0) {
		t.Skip("this file system has no RWF_NOWAIT")
	}
	return file, r, data
}

func TestView(t *testing.T) {
	for _, checked := range []bool{true, false} {
		t.Run(fmt.Sprintf("checked %t", checked), func(t *testing.T) { testView(t, checked) })
	}
}

// testView views with the checks before or after the use.
func testView(t *testing.T, checked bool) {
	file, r, data := savedPages(t)
	view := func(x extent) (got []byte, n int64, err error) {
		n, err = r.View("pages-1.img", x.offset, x.length, checked, func(b []byte) bool {
			got = append(got, b...)
			return true
		})
		return got, n, err
	}
	for _, x := range []extent{{0, pageSize}, {0, int64(len(data))}, {3 * pageSize, 5*chunkSize + pageSize}, {7 * chunkSize, 3 * pageSize}} {
		got, n, err := view(x)
		if n != x.length || err != nil || !bytes.Equal(got, data[x.offset:x.end()]) {
			t.Errorf("%v: %d bytes, viewed %d, %v", x, len(got), n, err)
		}
	}
	for _, x := range []extent{{-pageSize, pageSize}, {0, 0}, {100, pageSize}, {0, int64(len(data)) + 1}, {1 << 62, 1 << 62}} {
		if got, n, err := view(x); n != 0 || err != nil || got != nil {
			t.Errorf("%v: %d bytes, viewed %d, %v", x, len(got), n, err)
		}
	}
	_, err := r.View("none", 0, pageSize, checked, func([]byte) bool { return true })
	checkErrno(t, err, unix.ENOENT)
	calls := 0
	if n, err := r.View("pages-1.img", pageSize, int64(len(data))-pageSize, checked, func([]byte) bool { calls++; return false }); n != viewStep-pageSize || err != nil || calls != 1 {
		t.Errorf("not wanted any more: viewed %d in %d parts, %v", n, calls, err)
	}

	at := r.base + r.byName["pages-1.img"].extents[0].offset + 3*chunkSize + 17
	if _, err := file.WriteAt([]byte{^data[3*chunkSize+17]}, at); err != nil {
		t.Fatal(err)
	}
	// What is wrong with a chunk is also wrong with what else it has.
	for _, x := range []extent{{0, int64(len(data))}, {3 * chunkSize, pageSize}, {4*chunkSize - pageSize, 2 * pageSize}} {
		got, n, err := view(x)
		checkErrno(t, err, unix.EINVAL)
		if n > 3*chunkSize || int64(len(got)) > n && checked {
			t.Errorf("%v: %d damaged bytes of %d", x, int64(len(got))-n, len(got))
		}
	}
	if _, n, err := view(extent{4 * chunkSize, chunkSize}); n != chunkSize || err != nil {
		t.Error(n, err)
	}
	r.Abort()
	_, _, err = view(extent{0, pageSize})
	checkErrno(t, err, unix.ECANCELED)
}

// TestViewGone: a file that becomes shorter while it is viewed does not end the process.
func TestViewGone(t *testing.T) {
	file, r, data := savedPages(t)
	e := r.byName["pages-1.img"]
	mapped, err := unix.Mmap(r.fd, r.base+e.extents[0].offset, len(data), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(mapped) }()
	if intact, err := r.checkView(e, mapped, 0); !intact || err != nil {
		t.Fatal(intact, err)
	}
	if err := file.Truncate(r.base + e.extents[0].offset + 2*chunkSize); err != nil {
		t.Fatal(err)
	}
	if intact, _ := r.checkView(e, mapped, 0); intact {
		t.Error("what is not there is intact")
	}
	if n, err := r.View(e.name, 0, int64(len(data)), true, func([]byte) bool { return true }); n != 0 || err != nil {
		t.Error(n, err)
	}

	file, r, data = savedPages(t)
	n, err := r.View(e.name, 0, int64(len(data)), false, func([]byte) bool {
		if err := file.Truncate(r.base + e.extents[0].offset + 2*chunkSize); err != nil {
			t.Error(err)
		}
		return true
	})
	checkErrno(t, err, unix.EIO)
	if n != 0 {
		t.Errorf("%d bytes of what is not there", n)
	}
}

// TestViewPlaces: a member that lies in several places of the file is viewed in one piece.
func TestViewPlaces(t *testing.T) {
	const part = chunkSize + pageSize
	data := map[string][]byte{"pages-1.img": random(6*part + 100), "pages-2.img": random(6 * part)}
	file := tempFile(t)
	defer file.Close()
	w, err := NewWriter(int(file.Fd()), Header{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	w.relays.most = 0 // a relay may wait for more
	pipes := make(map[string]*os.File)
	var writing sync.WaitGroup
	for name := range data {
		from, to, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		pipes[name] = to
		writing.Go(func() {
			defer from.Close()
			if err := w.Pipe(name, int(from.Fd()), true); err != nil {
				t.Error(err)
			}
		})
	}
	for at := 0; at < 6*part; at += part {
		for name, pipe := range pipes {
			end := min(at+part, len(data[name]))
			if at == 5*part {
				end = len(data[name])
			}
			before := w.Stored()
			if _, err := pipe.Write(data[name][at:end]); err != nil {
				t.Fatal(err)
			}
			for w.Stored()-before < int64(end-at)&^(pageSize-1) {
				time.Sleep(time.Millisecond)
			}
		}
	}
	for _, pipe := range pipes {
		pipe.Close()
	}
	writing.Wait()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	r := openWritten(t, file)
	defer r.Close()
	if !r.cached(0) {
		t.Skip("this file system has no RWF_NOWAIT")
	}
	for name, want := range data {
		if n := len(r.byName[name].extents); n < 4 {
			t.Errorf("%s is in %d places only", name, n)
		}
		var got []byte
		n, err := r.View(name, pageSize, int64(len(want))-pageSize, true, func(b []byte) bool {
			got = append(got, b...)
			return true
		})
		if n != int64(len(got)) || err != nil || !bytes.Equal(got, want[pageSize:]) {
			t.Errorf("%s: viewed %d bytes, which are %d, %v", name, n, len(got), err)
		}
	}
}
