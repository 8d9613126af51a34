package ctxfile

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// TestPrepare: a context is the same whether its file was prepared or not, for more or for
// less than came, and whatever is written meanwhile.
func TestPrepare(t *testing.T) {
	data := random(6<<20 + 4096)
	for _, level := range []int{0, 1} {
		for _, n := range []int64{0, 4096, 3 << 20, 40 << 20} {
			for _, early := range []bool{false, true} {
				f := tempFile(t)
				fd := int(f.Fd())
				w, err := NewWriter(fd, Header{}, level)
				if err != nil {
					t.Fatal(err)
				}
				if level != 0 {
					if err := w.Stage(stageFile(t, 0)); err != nil {
						t.Fatal(err)
					}
				}
				var preparing sync.WaitGroup
				preparing.Go(func() { w.Prepare(n) })
				if !early {
					preparing.Wait()
				}
				for i := range 20 {
					if err := w.Bytes(fmt.Sprintf("core-%d", i), data[i*1000:][:999]); err != nil {
						t.Fatal(err)
					}
				}
				if err := feedData(w, "pages-1", data); err != nil {
					t.Fatal(err)
				}
				if err := w.Close(); err != nil {
					t.Fatal(err)
				}
				preparing.Wait()
				st, err := f.Stat()
				if err != nil {
					t.Fatal(err)
				}
				if at, err := unix.Seek(fd, 0, unix.SEEK_CUR); err != nil || at != st.Size() {
					t.Errorf("%d bytes, the context has %d, %v", st.Size(), at, err)
				}
				if n := slack(t, f); n > maxSlack {
					t.Errorf("%d bytes are left", n)
				}
				seek(t, fd, 0)
				r, err := Open(context.Background(), fd)
				if err != nil {
					t.Fatal(err)
				}
				for i := range 20 {
					if b, err := r.Bytes(fmt.Sprintf("core-%d", i)); err != nil || !bytes.Equal(b, data[i*1000:][:999]) {
						t.Errorf("level %d, %d prepared, %v: core-%d is other than written, %v", level, n, early, i, err)
					}
				}
				if b, err := r.Bytes("pages-1"); err != nil || !bytes.Equal(b, data) {
					t.Errorf("level %d, %d prepared, %v: the memory is other than written, %v", level, n, early, err)
				}
				if _, err := r.Verify(func(d Damage) { t.Error(d) }); err != nil {
					t.Error(err)
				}
				r.Close()
				f.Close()
			}
		}
	}
}

// feedData writes data into a pipe of which Pipe makes a member.
func feedData(w *Writer, name string, data []byte) error {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return err
	}
	defer unix.Close(p[0])
	go func() {
		writeAll(p[1], data)
		unix.Close(p[1])
	}()
	return w.Pipe(name, p[0], true)
}

// TestPrepareAborted: nothing of the preparation is left, and a file that had content is
// not prepared.
func TestPrepareAborted(t *testing.T) {
	f := tempFile(t)
	defer f.Close()
	w, err := NewWriter(int(f.Fd()), Header{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	w.Prepare(5 << 20)
	if st, err := f.Stat(); err != nil || st.Size() != pageSize && st.Size() != pageSize+5<<20 {
		t.Errorf("%d bytes, %v", st.Size(), err)
	}
	w.Abort()
	w.Prepare(5 << 20)
	if st, err := f.Stat(); err != nil || st.Size() != pageSize {
		t.Errorf("%d bytes are left, %v", st.Size(), err)
	}
	if n := slack(t, f); n > maxSlack {
		t.Errorf("%d bytes are left", n)
	}

	old := random(3 << 20)
	if _, err := f.WriteAt(old, 0); err != nil {
		t.Fatal(err)
	}
	seek(t, int(f.Fd()), 4096)
	if w, err = NewWriter(int(f.Fd()), Header{}, 0); err != nil {
		t.Fatal(err)
	}
	w.Prepare(5 << 20)
	w.Abort()
	got := make([]byte, len(old)+1)
	if n, _ := f.ReadAt(got, 0); n != len(old) || !bytes.Equal(got[2*4096:n], old[2*4096:]) {
		t.Error("the file's content has changed")
	}
}

// TestGiveBack: what was allocated for a file before the disk was full is given back, and what
// has been written is not.
func TestGiveBack(t *testing.T) {
	for _, base := range []int64{0, 5000} {
		f := tempFile(t)
		fd := int(f.Fd())
		data := random(10000)
		if _, err := f.WriteAt(data, base); err != nil {
			t.Fatal(err)
		}
		const until = 8 << 20
		if err := unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, base, until); err != nil {
			t.Skip(err)
		}
		o := &output{fd: fd, base: base, next: int64(len(data)), calls: newCallGroup()}
		o.giveBack(until)
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil || st.Blocks*512 > maxSlack {
			t.Errorf("at %d: %d bytes on the disk, %v", base, st.Blocks*512, err)
		}
		o.trim()
		got, err := os.ReadFile(f.Name())
		if err != nil || !bytes.Equal(got[min(int(base), len(got)):], data) {
			t.Errorf("at %d: %d bytes, %v", base, len(got), err)
		}
	}
}
