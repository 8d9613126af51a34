package ctxfile

import (
	"bytes"
	"context"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// stageFile makes a staging file, of at most limit bytes if that is not 0.
func stageFile(t *testing.T, limit int64) int {
	t.Helper()
	fd, err := unix.MemfdCreate("stage", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		t.Fatal(err)
	}
	if limit != 0 {
		if err := unix.Ftruncate(fd, limit); err != nil {
			t.Fatal(err)
		}
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_GROW); err != nil {
			t.Fatal(err)
		}
	}
	return fd
}

// TestStage: what is staged is what was in the pipes when Pipe returned, also if not all
// of it fits, and whatever the pipes were relayed by.
func TestStage(t *testing.T) {
	for _, limit := range []int64{0, 4096, 3 << 20, 9<<20 + 4096} {
		for _, relays := range []int{0, 2, mostRelays} {
			f := tempFile(t)
			w, err := NewWriter(int(f.Fd()), Header{}, 1)
			if err != nil {
				t.Fatal(err)
			}
			w.relays.most = relays
			if err := w.Stage(stageFile(t, limit)); err != nil {
				t.Fatal(err)
			}
			names := []string{"pages-1", "pages-2", "pages-3", "pages-4"}
			sizes := []int{8<<20 + 4096, 5 << 20, 100, 0}
			data := make([][]byte, len(names))
			var all sync.WaitGroup
			for i, name := range names {
				memory, err := unix.Mmap(-1, 0, max(sizes[i], 1), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
				if err != nil {
					t.Fatal(err)
				}
				defer unix.Munmap(memory)
				data[i] = random(sizes[i])
				clear(data[i][:len(data[i])/2])
				copy(memory, data[i])
				r, p := pipe2(t)
				go func() {
					defer unix.Close(p)
					for at := 0; at < sizes[i]; {
						v := unix.Iovec{Base: &memory[at]}
						v.SetLen(sizes[i] - at)
						n, err := unix.Vmsplice(p, []unix.Iovec{v}, 0)
						if err != nil && err != unix.EINTR {
							t.Error(err)
							return
						}
						at += max(n, 0)
					}
				}()
				all.Go(func() {
					if err := w.Pipe(name, r, true); err != nil {
						t.Error(err)
					}
					unix.Close(r)
					clear(memory)
				})
			}
			all.Wait()
			if err := w.Close(); err != nil {
				t.Fatalf("limit %d, %d relays: %v", limit, relays, err)
			}
			if w.stage != nil || w.relays.made != 0 {
				t.Error("something is left")
			}
			seek(t, int(f.Fd()), 0)
			r, err := Open(context.Background(), int(f.Fd()))
			if err != nil {
				t.Fatal(err)
			}
			for i, name := range names {
				if b, err := r.Bytes(name); err != nil || !bytes.Equal(b, data[i]) {
					t.Errorf("limit %d, %d relays: %s: %d bytes, other than written, %v", limit, relays, name, len(b), err)
				}
			}
			r.Close()
			f.Close()
		}
	}
}

// TestStageAborted: the staging file is closed, and Close does not go on with it.
func TestStageAborted(t *testing.T) {
	for _, when := range []string{"in a call", "between", "in Close"} {
		before := descriptors(t)
		f := tempFile(t)
		w, err := NewWriter(int(f.Fd()), Header{}, 19)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Stage(stageFile(t, 0)); err != nil {
			t.Fatal(err)
		}
		r, p := pipe2(t)
		ended := make(chan error)
		go func() { ended <- w.Pipe("pages-1", r, true) }()
		writeAll(p, random(8<<20))
		switch when {
		case "in a call":
			w.Abort()
			checkErrno(t, <-ended, unix.ECANCELED)
			unix.Close(p)
		case "between":
			unix.Close(p)
			if err := <-ended; err != nil {
				t.Fatal(err)
			}
			w.Abort()
		case "in Close":
			unix.Close(p)
			if err := <-ended; err != nil {
				t.Fatal(err)
			}
			go func() {
				time.Sleep(10 * time.Millisecond)
				w.Abort()
			}()
		}
		if err := w.Close(); err != nil || when != "in Close" {
			checkErrno(t, err, unix.ECANCELED)
		}
		w.Abort()
		unix.Close(r)
		f.Close()
		if n := descriptors(t); n > before {
			t.Errorf("%s: %d descriptors, there were %d", when, n, before)
		}
	}
}
