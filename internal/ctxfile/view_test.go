package ctxfile

import (
	"bytes"
	"context"
	"os"
	"testing"

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
	file, r, data := savedPages(t)
	view := func(x extent) (got []byte, viewed bool, err error) {
		viewed, err = r.View("pages-1.img", x.offset, x.length, func(b []byte) { got = bytes.Clone(b) })
		return got, viewed, err
	}
	for _, x := range []extent{{0, pageSize}, {0, int64(len(data))}, {3 * pageSize, 5*chunkSize + pageSize}, {7 * chunkSize, 3 * pageSize}} {
		got, viewed, err := view(x)
		if !viewed || err != nil || !bytes.Equal(got, data[x.offset:x.end()]) {
			t.Errorf("%v: %d bytes, viewed %v, %v", x, len(got), viewed, err)
		}
	}
	for _, x := range []extent{{-pageSize, pageSize}, {0, 0}, {100, pageSize}, {0, int64(len(data)) + 1}, {1 << 62, 1 << 62}} {
		if got, viewed, err := view(x); viewed || err != nil || got != nil {
			t.Errorf("%v: %d bytes, viewed %v, %v", x, len(got), viewed, err)
		}
	}
	_, err := r.View("none", 0, pageSize, func([]byte) {})
	checkErrno(t, err, unix.ENOENT)

	at := r.base + r.byName["pages-1.img"].extents[0].offset + 3*chunkSize + 17
	if _, err := file.WriteAt([]byte{^data[3*chunkSize+17]}, at); err != nil {
		t.Fatal(err)
	}
	// What is wrong with a chunk is also wrong with what else it has.
	for _, x := range []extent{{0, int64(len(data))}, {3 * chunkSize, pageSize}, {4*chunkSize - pageSize, 2 * pageSize}} {
		got, viewed, err := view(x)
		checkErrno(t, err, unix.EINVAL)
		if viewed || got != nil {
			t.Errorf("%v: %d damaged bytes", x, len(got))
		}
	}
	if _, viewed, err := view(extent{4 * chunkSize, chunkSize}); !viewed || err != nil {
		t.Error(viewed, err)
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
	if viewed, err := r.View(e.name, 0, int64(len(data)), func([]byte) {}); viewed || err != nil {
		t.Error(viewed, err)
	}
}
