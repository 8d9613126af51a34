package memory

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

var large = bytes.Repeat([]byte("0123456789abcdef"), 1<<17)

// piped is what a call writes into a pipe.
func piped(t *testing.T, call func(pipe int) error) []byte {
	t.Helper()
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	read := make(chan []byte)
	go func() {
		f := os.NewFile(uintptr(p[0]), "")
		b, _ := io.ReadAll(f)
		f.Close()
		read <- b
	}()
	if err := call(p[1]); err != nil {
		t.Error(err)
	}
	if flags, _ := unix.FcntlInt(uintptr(p[1]), unix.F_GETFL, 0); flags&unix.O_NONBLOCK != 0 {
		t.Error("the pipe stays non-blocking")
	}
	unix.Close(p[1])
	return <-read
}

func open(t *testing.T, content []byte) (fd int) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

func TestFeed(t *testing.T) {
	ctx := context.Background()
	for _, content := range [][]byte{nil, []byte("short"), large} {
		for how, call := range map[string]func(pipe int) error{
			"Feed":      func(pipe int) error { return Feed(ctx, pipe, open(t, content), int64(len(content))) },
			"FeedBytes": func(pipe int) error { return FeedBytes(ctx, pipe, content) },
			"copyFrom":  func(pipe int) error { return fill(ctx, pipe, copyFrom(open(t, content))) },
		} {
			if got := piped(t, call); !bytes.Equal(got, content) {
				t.Errorf("%s: %d bytes of %d", how, len(got), len(content))
			}
		}
	}
}

// TestReaderGone: a reader that goes away in the middle is no error.
func TestReaderGone(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_, _ = io.ReadFull(r, make([]byte, 100))
		r.Close()
	}()
	if err := FeedBytes(context.Background(), int(w.Fd()), large); err != nil {
		t.Error(err)
	}
	<-gone
	if err := Feed(context.Background(), int(w.Fd()), open(t, large), int64(len(large))); err != nil {
		t.Error(err)
	}
}

// TestCancelled: a reader that does not read is not waited for any more.
func TestCancelled(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		// When there is something in the pipe.
		fds := []unix.PollFd{{Fd: int32(r.Fd()), Events: unix.POLLIN}}
		for {
			if n, _ := unix.Poll(fds, -1); n > 0 {
				break
			}
		}
		cancel()
	}()
	if err := FeedBytes(ctx, int(w.Fd()), large); err != unix.ECANCELED {
		t.Errorf("cancelled: %v", err)
	}
	if err := FeedBytes(ctx, int(w.Fd()), large); err != unix.ECANCELED {
		t.Errorf("after that: %v", err)
	}
}

// TestNoPipe: what is no pipe is an error.
func TestNoPipe(t *testing.T) {
	if err := FeedBytes(context.Background(), -1, large); err != unix.EBADF {
		t.Error(err)
	}
}
