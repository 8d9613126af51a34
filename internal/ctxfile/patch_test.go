package ctxfile

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"blcr-cli/test/harness"
)

// TestPatch: what is written over a member is read back, wherever the member is until the
// context is complete, and nothing else is changed. Where that cannot be done, Patch says
// so.
func TestPatch(t *testing.T) {
	const size = 3<<20 + 4096
	for _, kind := range []string{"plain", "aside", "staged", "compressed", "pipe"} {
		t.Run(kind, func(t *testing.T) {
			f := tempFile(t)
			fd, level, patched := int(f.Fd()), 0, true
			switch kind {
			case "staged":
				level = 1
			case "compressed":
				level, patched = 1, false
			case "pipe":
				patched = false
			}
			var copied chan []byte
			if kind == "pipe" {
				r, p := pipe2(t)
				copied = make(chan []byte, 1)
				go func() {
					copied <- readAll(r)
					unix.Close(r)
				}()
				fd = p
			}
			w, err := NewWriter(fd, Header{}, level)
			if err != nil {
				t.Fatal(err)
			}
			switch kind {
			case "aside":
				w.Aside(64 << 20)
			case "staged":
				if err := w.Stage(stageFile(t, 0)); err != nil {
					t.Fatal(err)
				}
			}
			data := random(size)
			if err := feedData(w, "pages-1", data); err != nil {
				t.Fatal(err)
			}
			want := bytes.Clone(data) // what feeds the pipe may still look at data
			if ok, err := w.Patch("pages-2", 0, []byte("x")); ok || err != nil {
				t.Errorf("a member that is not there: %v, %v", ok, err)
			}
			for _, at := range []int64{-1, size, size - 4095} {
				if ok, err := w.Patch("pages-1", at, make([]byte, 4096)); ok || err != nil {
					t.Errorf("at %d: %v, %v", at, ok, err)
				}
			}
			for _, at := range []int64{0, 4096, 1<<20 - 100, size - 4096} {
				page := random(4096)
				ok, err := w.Patch("pages-1", at, page)
				if ok != patched || err != nil {
					t.Fatalf("at %d: %v, %v", at, ok, err)
				}
				if ok {
					copy(want[at:], page)
				}
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			if copied != nil {
				unix.Close(fd)
				if _, err := f.Write(<-copied); err != nil {
					t.Fatal(err)
				}
			}
			r := openWritten(t, f)
			defer r.Close()
			if got, err := r.Bytes("pages-1"); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%d bytes are other than written, %v", len(got), err)
			}
		})
	}
}

// TestPatchAside: a part that lies in the context and in the file beside it is changed in
// both.
func TestPatchAside(t *testing.T) {
	f := tempFile(t)
	beside := tempFile(t)
	w, err := NewWriter(int(f.Fd()), Header{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	dup, err := unix.Dup(int(beside.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	w.aside = &aside{fd: dup, pieces: []movedAside{{extent{8192, 100}, 50}, {extent{8400, 100}, 0}}}
	if err := w.writeOver([]byte(fmt.Sprintf("%0500d", 7)), 8100); err != nil {
		t.Fatal(err)
	}
	where := func(f *os.File, n int) string {
		b := make([]byte, n)
		_, _ = unix.Pread(int(f.Fd()), b, 0)
		return string(bytes.ReplaceAll(b, []byte{0}, []byte(".")))
	}
	var want [8600]byte
	for i := range want {
		switch {
		case i < 8100, 8192 <= i && i < 8292, 8400 <= i && i < 8500:
			want[i] = '.'
		default:
			want[i] = '0'
		}
	}
	want[8599] = '7'
	got := where(f, len(want))
	if got[pageSize:] != string(want[pageSize:]) {
		t.Error("in the context: other than expected")
	}
	if got := where(beside, 150); got != string(bytes.Repeat([]byte("0"), 150)) {
		t.Errorf("beside it: %q", got)
	}
}

// TestNarrowed: what a process changes at the beginning of its memory when it has sent all
// of it is not in a context that goes into a pipe, or that is compressed.
func TestNarrowed(t *testing.T) {
	const pages = 24
	for level, kind := range map[int]string{0: "pipe", MinLevel: "compressed"} {
		t.Run(kind, func(t *testing.T) {
			memory, err := unix.Mmap(-1, 0, pages*pageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Munmap(memory)
			copy(memory, random(len(memory)))
			want := bytes.Clone(memory)
			b := collect(t, func(out int) error {
				w, err := NewWriter(out, Header{}, level)
				if err != nil {
					return err
				}
				pipe, end := pipe2(t)
				defer unix.Close(pipe)
				stored := make(chan error, 1)
				go func() { stored <- w.Pipe("pages-1.img", pipe, true) }()
				harness.Poll(t, "the pipe to be small", func() bool {
					n, err := unix.FcntlInt(uintptr(pipe), unix.F_GETPIPE_SZ, 0)
					return err == nil && n < smallPipe
				})
				for sent := 0; sent < len(memory); {
					v := unix.Iovec{Base: &memory[sent]}
					v.SetLen(len(memory) - sent)
					n, err := unix.Vmsplice(end, []unix.Iovec{v}, 0)
					if err != nil && err != unix.EINTR {
						return err
					}
					sent += max(n, 0)
				}
				clear(memory[:pageSize])
				unix.Close(end)
				if err := <-stored; err != nil {
					return err
				}
				return w.Close()
			})
			fd := memfd(t, b)
			defer unix.Close(fd)
			r, err := Open(context.Background(), fd)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			if got, err := r.Bytes("pages-1.img"); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%v; all but what has changed since is as it was: %v", err, len(got) > 0 && bytes.Equal(got[pageSize:], want[pageSize:]))
			}
		})
	}
}
