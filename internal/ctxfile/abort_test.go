package ctxfile

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/test/harness"
)

// canceled waits for calls that were aborted.
func canceled(t *testing.T, n int, errs chan error) {
	t.Helper()
	limit := time.After(harness.Patience)
	for range n {
		select {
		case err := <-errs:
			checkErrno(t, err, unix.ECANCELED)
		case <-limit:
			t.Fatal("not woken")
		}
	}
}

// Waiting for data that does not come.
func TestAbortInput(t *testing.T) {
	f := tempFile(t)
	defer f.Close()
	w, err := NewWriter(int(f.Fd()), someHeader, 0)
	if err != nil {
		t.Fatal(err)
	}
	errs := make(chan error, 3)
	var ends []int
	for _, name := range []string{"pages-1.img", "core-1.img", "pages-2.img"} {
		r, p := pipe2(t)
		ends = append(ends, r, p)
		if name != "pages-2.img" {
			writeAll(p, random(5000))
		}
		go func() { errs <- w.Pipe(name, r, inPages(name)) }()
	}
	time.Sleep(20 * time.Millisecond)
	w.Abort()
	canceled(t, 3, errs)
	w.Abort()
	checkErrno(t, w.Pipe("late", ends[0], false), unix.ECANCELED)
	checkErrno(t, w.Bytes("late", nil), unix.ECANCELED)
	checkErrno(t, w.Close(), unix.ECANCELED)
	for _, fd := range ends {
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK != 0 {
			t.Errorf("flags of a pipe are %#x, %v", flags, err)
		}
		unix.Close(fd)
	}
}

// Waiting for a reader of the context who does not read.
func TestAbortOutput(t *testing.T) {
	for name, connect := range streams(t) {
		for _, once := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				r, out := connect()
				defer unix.Close(r)
				defer unix.Close(out)
				w, err := NewWriter(out, someHeader, 0)
				if err != nil {
					t.Fatal(err)
				}
				w.out.pagewise = once && w.out.kind == unix.S_IFIFO
				errs := make(chan error, 2)
				for _, name := range []string{"core-1.img", "pages-1.img"} {
					go func() { errs <- feedImage(w, name, 8<<20) }()
				}
				time.Sleep(20 * time.Millisecond)
				w.Abort()
				canceled(t, 2, errs)
				checkErrno(t, w.Close(), unix.ECANCELED)
			})
		}
	}
}

func TestAbortReader(t *testing.T) {
	f := tempFile(t)
	defer f.Close()
	im := images{"pages-1.img": random(4 << 20), "core-1.img": random(4 << 20)}
	im.mustSave(t, int(f.Fd()))
	seek(t, int(f.Fd()), 0)
	r, err := Open(context.Background(), int(f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	errs := make(chan error, 2)
	for name := range im {
		pr, pw := pipe2(t)
		defer unix.Close(pr)
		defer unix.Close(pw)
		go func() { errs <- r.Serve(name, pw) }()
	}
	time.Sleep(20 * time.Millisecond)
	r.Abort()
	canceled(t, 2, errs)
	checkErrno(t, r.Serve("core-1.img", 0), unix.ECANCELED)
	r.Close()
	r.Close()
}

// criu does not read all of each image.
func TestServeEarlyClose(t *testing.T) {
	f := tempFile(t)
	defer f.Close()
	im := images{"pages-1.img": random(4 << 20), "core-1.img": random(1 << 20)}
	im.mustSave(t, int(f.Fd()))
	seek(t, int(f.Fd()), 0)
	r, err := Open(context.Background(), int(f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	for name := range im {
		for _, early := range []bool{false, true} {
			pr, pw := pipe2(t)
			done := make(chan error, 1)
			if early {
				unix.Close(pr)
			}
			go func() { done <- r.Serve(name, pw) }()
			if !early {
				unix.Read(pr, make([]byte, 10))
				time.Sleep(5 * time.Millisecond)
				unix.Close(pr)
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
			unix.Close(pw)
		}
	}
	r.Close()
	checkErrno(t, r.Serve("core-1.img", 0), unix.EBADF)
	_, err = r.Bytes("core-1.img")
	checkErrno(t, err, unix.EBADF)
}

// What the Writer refuses.
func TestRefusals(t *testing.T) {
	f := tempFile(t)
	defer f.Close()
	w, err := NewWriter(int(f.Fd()), someHeader, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Bytes("a", nil); err != nil {
		t.Fatal(err)
	}
	checkErrno(t, w.Bytes("a", nil), unix.EEXIST)
	for _, name := range []string{"", ".", "..", "a/b", "/", "a\nb", "a\x00", "\u0085", strings.Repeat("x", 256)} {
		checkErrno(t, w.Bytes(name, nil), unix.EINVAL)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	checkErrno(t, w.Bytes("b", nil), unix.EBADF)
	checkErrno(t, w.Close(), unix.EBADF)
	seek(t, int(f.Fd()), 0)
	images{"a": nil}.check(t, int(f.Fd()))

	// A bad descriptor spoils the context.
	if w, err = NewWriter(int(f.Fd()), someHeader, 0); err != nil {
		t.Fatal(err)
	}
	checkErrno(t, w.Pipe("pages-1.img", -1, true), unix.EBADF)
	checkErrno(t, w.Close(), unix.EBADF)

	_, err = NewWriter(-1, someHeader, 0)
	checkErrno(t, err, unix.EBADF)
	ro, err := os.Open(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer ro.Close()
	_, err = NewWriter(int(ro.Fd()), someHeader, 0)
	checkErrno(t, err, unix.EBADF)
	dev, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	_, err = NewWriter(int(dev.Fd()), someHeader, 0)
	checkErrno(t, err, unix.ENOSPC)
}

// slack returns how many bytes a file takes on its disk beyond its size.
func slack(t *testing.T, f *os.File) int64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	return st.Blocks*512 - st.Size
}

// However it ends, disk space that was allocated in advance is given back, and no
// other.
func TestPreallocation(t *testing.T) {
	const own = 8 << 20 // what the file has before, where it has any
	for _, before := range []string{"nothing", "content", "space"} {
		for _, end := range []string{"abort", "abort in a call", "failure", "success"} {
			t.Run(before+" "+end, func(t *testing.T) {
				f := tempFile(t)
				defer f.Close()
				fd := int(f.Fd())
				size := int64(0)
				switch before {
				case "content":
					f.Write(random(own))
					seek(t, fd, 4096)
					size = own
				case "space":
					if err := unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, 0, own); err != nil {
						t.Skip(err)
					}
				}
				w, err := NewWriter(fd, someHeader, 0)
				if err != nil {
					t.Fatal(err)
				}
				for i := range 3 { // beyond what there is
					if err := feedImage(w, fmt.Sprintf("pages-%d.img", i), own/2); err != nil {
						t.Fatal(err)
					}
				}
				r, p := pipe2(t)
				defer unix.Close(r)
				defer unix.Close(p)
				if n := slack(t, f); before != "space" && n < aheadStep/2 {
					t.Skip("no space is allocated in advance here")
				} else if before == "space" && n > aheadStep/2 {
					t.Errorf("%d bytes more", n)
				}
				switch end {
				case "abort":
					w.Abort()
				case "abort in a call":
					errs := make(chan error, 1)
					writeAll(p, random(5000))
					go func() { errs <- w.Pipe("pages-9.img", r, true) }()
					for w.Stored() < 3*own/2+pageSize { // 5000 bytes are a page, and part of one
						time.Sleep(time.Millisecond)
					}
					w.Abort()
					canceled(t, 1, errs)
				case "failure":
					checkErrno(t, w.Pipe("pages-9.img", -1, true), unix.EBADF)
					checkErrno(t, w.Close(), unix.EBADF)
				case "success":
					if err := w.Close(); err != nil {
						t.Fatal(err)
					}
				}
				st, err := f.Stat()
				if err != nil || st.Size() < max(size, 3*own/2) {
					t.Fatal(st.Size(), err)
				}
				if n := slack(t, f); n > maxSlack {
					t.Errorf("%d bytes are left", n)
				}
			})
		}
	}

	// The space that a file has been given is not taken from it.
	f := tempFile(t)
	defer f.Close()
	if err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, own); err != nil {
		t.Skip(err)
	}
	w, err := NewWriter(int(f.Fd()), someHeader, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := feedImage(w, "pages-1.img", pageSize); err != nil {
		t.Fatal(err)
	}
	w.Abort()
	if n := slack(t, f); n < own/2 {
		t.Errorf("%d bytes of %d are left", n, own)
	}
}

// Open waits for a pipe until it is told not to.
func TestOpenCanceled(t *testing.T) {
	_, b := small(t)
	stream := bytes.Clone(b)
	clear(stream[trailerField:idField])
	sizes := []int{10, pageSize + 100}
	if harness.All() {
		sizes = []int{0, 10, 100, pageSize, pageSize + 100, len(b)}
	}
	for name, connect := range streams(t) {
		for _, n := range sizes {
			r, w := connect()
			writeAll(w, stream[:n])
			ctx, cancel := context.WithCancel(context.Background())
			errs := make(chan error, 1)
			go func() {
				_, err := Open(ctx, r)
				errs <- err
			}()
			select {
			case err := <-errs:
				t.Errorf("%s, %d bytes: Open has not waited: %v", name, n, err)
				errs <- fail("read", "", unix.ECANCELED)
			case <-time.After(2 * time.Millisecond):
			}
			cancel()
			canceled(t, 1, errs)
			unix.Close(r)
			unix.Close(w)
		}
	}
}

// A context that says that it is larger than the disk is not copied to it.
func TestOpenTooLarge(t *testing.T) {
	_, b := small(t)
	for _, at := range []uint64{1<<62 - trailerLen, math.MaxInt64&^(pageSize-1) - trailerLen, 1<<63 + pageSize - trailerLen, 12345} {
		page := bytes.Clone(b[:pageSize])
		binary.LittleEndian.PutUint64(page[trailerField:], at)
		r, w := pipe2(t)
		writeAll(w, page)
		_, err := Open(context.Background(), r) // the pipe has not ended
		if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOSPC) {
			t.Errorf("%d: %v", at, err)
		}
		unix.Close(r)
		unix.Close(w)
	}
}
