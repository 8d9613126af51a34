package ctxfile

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// canceled waits for calls that were aborted.
func canceled(t *testing.T, n int, errs chan error) {
	t.Helper()
	limit := time.After(5 * time.Second)
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
