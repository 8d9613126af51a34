package ctxfile

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestFile(t *testing.T) {
	for _, offset := range []int64{0, 5000, 8192} {
		f := tempFile(t)
		fd := int(f.Fd())
		seek(t, fd, offset)
		sample().mustSave(t, fd)
		end, _ := unix.Seek(fd, 0, unix.SEEK_CUR)
		images{"a": {1}}.mustSave(t, fd) // another, behind it
		if st, err := f.Stat(); err != nil || st.Size() <= end || (end-offset)%pageSize != 0 {
			t.Errorf("offset %d after a context, size %v, %v", end, st.Size(), err)
		}
		seek(t, fd, offset)
		if r, err := Open(context.Background(), fd); err != nil || r.Length() != end-offset {
			t.Errorf("length %v, %v", r, err)
		} else {
			r.Close()
		}
		seek(t, fd, offset)
		sample().check(t, fd)
		images{"a": {1}}.check(t, fd)
		f.Close()
	}
}

// What is in the file before and behind the context remains.
func TestInPlace(t *testing.T) {
	f := tempFile(t)
	defer f.Close()
	old := random(8 << 20)
	f.Write(old)
	seek(t, int(f.Fd()), 4097)
	sample().mustSave(t, int(f.Fd()))
	end, _ := unix.Seek(int(f.Fd()), 0, unix.SEEK_CUR)
	seek(t, int(f.Fd()), 4097)
	sample().check(t, int(f.Fd()))
	now, err := os.ReadFile(f.Name())
	if err != nil || !bytes.Equal(now[:4097], old[:4097]) || !bytes.Equal(now[end:], old[end:]) {
		t.Errorf("changed, error %v", err)
	}
}

// A context written over a longer one, and not finished, is not mistaken for it.
func TestUnfinishedOver(t *testing.T) {
	f := tempFile(t)
	defer f.Close()
	fd := int(f.Fd())
	old := images{"a": random(100000)}
	old.mustSave(t, fd)
	seek(t, fd, 0)
	if _, err := NewWriter(fd, someHeader, 0); err != nil {
		t.Fatal(err)
	}
	seek(t, fd, 0)
	_, err := Open(context.Background(), fd)
	checkErrno(t, err, unix.EINVAL)
	if !strings.Contains(fmt.Sprint(err), "another context") {
		t.Error(err)
	}
}

// Through a pipe or socket, and however the other end is read.
func TestStream(t *testing.T) {
	for name, connect := range streams(t) {
		t.Run(name, func(t *testing.T) {
			r, w := connect()
			done := make(chan error, 1)
			go func() {
				err := sample().save(t, w)
				unix.Close(w)
				done <- err
			}()
			sample().check(t, r)
			if err := <-done; err != nil {
				t.Error(err)
			}
			unix.Close(r)
		})
	}
}

// streams returns makers of a connection from w to r.
func streams(t *testing.T) map[string]func() (r, w int) {
	socket := func() (r, w int) {
		p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		return p[0], p[1]
	}
	return map[string]func() (int, int){
		"pipe":   func() (int, int) { return pipe2(t) },
		"socket": socket,
		"non-blocking pipe": func() (int, int) {
			r, w := pipe2(t)
			unix.SetNonblock(r, true)
			unix.SetNonblock(w, true)
			return r, w
		},
		"non-blocking socket": func() (int, int) {
			r, w := socket()
			unix.SetNonblock(r, true)
			unix.SetNonblock(w, true)
			return r, w
		},
		"FIFO": func() (int, int) {
			name := t.TempDir() + "/fifo"
			if err := unix.Mkfifo(name, 0o600); err != nil {
				t.Fatal(err)
			}
			r, err := unix.Open(name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
			if err != nil {
				t.Fatal(err)
			}
			w, err := unix.Open(name, unix.O_WRONLY|unix.O_NONBLOCK, 0)
			if err != nil {
				t.Fatal(err)
			}
			return r, w
		},
	}
}

// A pipe is not left half full for want of RWF_NOWAIT.
func TestOldKernelPipe(t *testing.T) {
	r, w := pipe2(t)
	done := make(chan error, 1)
	go func() {
		defer unix.Close(w)
		wr, err := NewWriter(w, someHeader, 0)
		if err != nil {
			done <- err
			return
		}
		wr.out.pagewise = true
		err = sample().fill(t, wr)
		if err == nil {
			err = wr.Close()
		}
		done <- err
	}()
	sample().check(t, r)
	unix.Close(r)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A reader that takes its time, and looks only now and then.
func TestSlowReader(t *testing.T) {
	r, w := pipe2(t)
	unix.SetNonblock(w, true)
	im := images{"pages-1.img": random(3 << 20), "core-1.img": random(1000)}
	done := make(chan error, 1)
	go func() {
		err := im.save(t, w)
		unix.Close(w)
		done <- err
	}()
	f := tempFile(t)
	defer f.Close()
	b := make([]byte, 200000)
	for {
		time.Sleep(5 * time.Millisecond)
		n, err := unix.Read(r, b)
		if err != nil || n == 0 {
			break
		}
		f.Write(b[:n])
	}
	unix.Close(r)
	if err := <-done; err != nil {
		t.Error(err)
	}
	seek(t, int(f.Fd()), 0)
	im.check(t, int(f.Fd()))
}

// Two contexts, streamed one behind the other into a file that is appended to,
// behind one that was not.
func TestAppend(t *testing.T) {
	f := tempFile(t)
	images{"first": random(10)}.mustSave(t, int(f.Fd()))
	f.Close()
	a, err := os.OpenFile(f.Name(), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	sample().mustSave(t, int(a.Fd()))
	images{"last": random(100000)}.mustSave(t, int(a.Fd()))
	a.Close()
	r, err := os.Open(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	images{"first": random(10)}.check(t, int(r.Fd()))
	sample().check(t, int(r.Fd()))
	images{"last": random(100000)}.check(t, int(r.Fd()))
}

// TestUnreadableFile: a file that may not be opened for reading is written like a pipe.
func TestUnreadableFile(t *testing.T) {
	again := reopen
	reopen = func(int) int { return -1 }
	defer func() { reopen = again }()
	for _, level := range []int{0, 1} {
		f := tempFile(t)
		writable, err := os.OpenFile(f.Name(), os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer writable.Close()
		before := random(123)
		writeAll(int(writable.Fd()), before)
		im := sample()
		if level == 0 {
			err = im.save(t, int(writable.Fd()))
		} else {
			err = im.saveCompressed(t, int(writable.Fd()), level)
		}
		if err != nil {
			t.Fatal(err)
		}
		seek(t, int(f.Fd()), int64(len(before)))
		im.check(t, int(f.Fd()))
	}
}

// Two contexts from one pipe: the first says where it ends.
func TestTwoFromPipe(t *testing.T) {
	f := tempFile(t)
	defer f.Close()
	sample().mustSave(t, int(f.Fd()))
	images{"second": random(10)}.mustSave(t, int(f.Fd()))
	b, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	r, w := pipe2(t)
	go func() {
		writeAll(w, b)
		unix.Close(w)
	}()
	sample().check(t, r)
	images{"second": random(10)}.check(t, r)
	_, err = Open(context.Background(), r)
	checkErrno(t, err, unix.EIO)
	unix.Close(r)
}

// With a file system or a kernel that does not splice.
func TestWithoutSplice(t *testing.T) {
	f := tempFile(t)
	defer f.Close()
	w, err := NewWriter(int(f.Fd()), someHeader, 0)
	if err != nil {
		t.Fatal(err)
	}
	w.noSplice.Store(true)
	if err := sample().fill(t, w); err != nil {
		t.Fatal(err)
	}
	for _, e := range w.entries {
		if e.unsummed {
			t.Errorf("%s has no checksum", e.name)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	seek(t, int(f.Fd()), 0)
	sample().check(t, int(f.Fd()))
}

// Image and Serve with descriptors that are no pipes.
func TestNotPipes(t *testing.T) {
	f, in := tempFile(t), tempFile(t)
	defer f.Close()
	defer in.Close()
	data := random(500000)
	in.Write(data)
	seek(t, int(in.Fd()), 0)
	w, err := NewWriter(int(f.Fd()), someHeader, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		w.Pipe("pages-1.img", int(in.Fd()), true), // now at its end
		w.Pipe("pages-2.img", int(in.Fd()), true),
		w.File("exe", bytes.NewReader(data)),
		w.Bytes("note", data[:10]),
		w.Close(),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	if n := w.Stored(); n != 1000010 {
		t.Errorf("%d bytes stored", n)
	}
	seek(t, int(f.Fd()), 0)
	im := images{"pages-1.img": data, "pages-2.img": nil, "exe": data, "note": data[:10]}
	im.check(t, int(f.Fd()))

	seek(t, int(f.Fd()), 0)
	r, err := Open(context.Background(), int(f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	out := tempFile(t)
	defer out.Close()
	if err := r.Serve("exe", int(out.Fd())); err != nil {
		t.Error(err)
	}
	if b, _ := os.ReadFile(out.Name()); !bytes.Equal(b, data) {
		t.Error("served into a file: different")
	}
}

// Pages that come in pieces which are no pages.
func TestOddPages(t *testing.T) {
	f := tempFile(t)
	defer f.Close()
	w, err := NewWriter(int(f.Fd()), someHeader, 0)
	if err != nil {
		t.Fatal(err)
	}
	data := random(100000)
	r, p := pipe2(t)
	go func() {
		for left := data; len(left) > 0; left = left[min(999, len(left)):] {
			writeAll(p, left[:min(999, len(left))])
		}
		unix.Close(p)
	}()
	if err := w.Pipe("pages-1.img", r, true); err != nil {
		t.Error(err)
	}
	unix.Close(r)
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	seek(t, int(f.Fd()), 0)
	images{"pages-1.img": data}.check(t, int(f.Fd()))
}

func TestMany(t *testing.T) {
	im := images{}
	for i := range 20 {
		im[fmt.Sprintf("pages-%d.img", i)] = random(1000*i*i + i)
		im[fmt.Sprintf("core-%d.img", i)] = random(5000 * i)
	}
	f := tempFile(t)
	defer f.Close()
	im.mustSave(t, int(f.Fd()))
	seek(t, int(f.Fd()), 0)
	im.check(t, int(f.Fd()))

	// Thousands, most of them waiting at some time for the others.
	w, err := NewWriter(int(f.Fd()), someHeader, 0)
	if err != nil {
		t.Fatal(err)
	}
	start, _ := unix.Seek(int(f.Fd()), 0, unix.SEEK_CUR)
	for i := range 5000 {
		if err := w.Bytes(fmt.Sprint("image-", i), []byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
	}
	half := images{}
	for i := range 3 * fewBuffers {
		half[fmt.Sprint("half-", i)] = random(70000 + i)
	}
	if err := half.fill(t, w); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if n := buffersInUse.Load(); n != 0 {
		t.Errorf("%d buffers are out", n)
	}
	seek(t, int(f.Fd()), start)
	r, err := Open(context.Background(), int(f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for name, data := range half {
		if b, err := r.Bytes(name); err != nil || !bytes.Equal(b, data) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if b, err := r.Bytes("image-4097"); err != nil || !bytes.Equal(b, []byte{1}) {
		t.Error(b, err)
	}
}
