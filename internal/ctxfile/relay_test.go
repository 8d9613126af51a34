package ctxfile

import (
	"bytes"
	"context"
	"os"
	"slices"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// descriptors is how many this process has open.
func descriptors(t *testing.T) int {
	t.Helper()
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

// TestRelay: memory comes out as it went in, however many pipes it goes through and in
// whatever pieces it comes.
func TestRelay(t *testing.T) {
	for name, most := range map[string]int{"none": 0, "one": 1, "three": 3, "all": mostRelays} {
		t.Run(name, func(t *testing.T) {
			f := tempFile(t)
			defer f.Close()
			w, err := NewWriter(int(f.Fd()), Header{}, 0)
			if err != nil {
				t.Fatal(err)
			}
			w.relays.most = most
			members := []string{"pages-1", "pages-2", "pages-3"}
			data := [][]byte{random(8<<20 + 4096), random(5 << 20), random(3<<20 + 123)}
			var both sync.WaitGroup
			for i, name := range members {
				r, p := pipe2(t)
				both.Go(func() {
					for at, n := 0, 1; at < len(data[i]); at, n = at+n, (n*7+i)%300000 {
						n = min(max(n, 4096)&^4095, len(data[i])-at)
						writeAll(p, data[i][at:at+n])
					}
					unix.Close(p)
				})
				both.Go(func() {
					if err := w.Pipe(name, r, true); err != nil {
						t.Error(err)
					}
					unix.Close(r)
				})
			}
			both.Wait()
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			if w.relays.made != 0 {
				t.Errorf("%d pipes are left", w.relays.made)
			}
			seek(t, int(f.Fd()), 0)
			r, err := Open(context.Background(), int(f.Fd()))
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			for i, name := range members {
				got := make([]byte, len(data[i])+1)
				n, err := r.ReadAt(name, got, 0)
				if err != nil || !bytes.Equal(got[:n], data[i]) {
					t.Errorf("%s: %d bytes, other than written, %v", name, n, err)
				}
			}
		})
	}
}

// TestRelayCopies: where the file cannot be spliced to, what is in the pipes is copied.
func TestRelayCopies(t *testing.T) {
	f := tempFile(t)
	defer f.Close()
	w, err := NewWriter(int(f.Fd()), Header{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	data := random(3<<20 + 4096)
	e := &entry{name: "pages-1", memory: true, chunks: chunks{chunk: chunkSize}}
	m := &memberWriter{w: w, aligned: true, entry: e}
	r := newRelay(m)
	r.copies = true
	for part := range slices.Chunk(data, 300<<10) {
		p := r.get(context.Background())
		writeAll(p.w, part)
		p.n = int64(len(part))
		r.hand(p)
	}
	close(r.full)
	r.empty(func() {})
	r.release()
	if r.err != nil || m.finish() != nil {
		t.Fatal(r.err)
	}
	w.entries = append(w.entries, e)
	m.release()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	c := openWritten(t, f)
	defer c.Close()
	got := make([]byte, len(data))
	if n, err := c.ReadAt("pages-1", got, 0); err != nil || n != len(data) || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, other than written, %v", n, err)
	}
}

// TestRelayAborted: nothing is left of a relay that was given up, whoever waits for whom.
func TestRelayAborted(t *testing.T) {
	for _, size := range []int{0, 1 << 20, 8 << 20} {
		before := descriptors(t)
		f := tempFile(t)
		w, err := NewWriter(int(f.Fd()), Header{}, 0)
		if err != nil {
			t.Fatal(err)
		}
		r, p := pipe2(t)
		ended := make(chan error)
		go func() { ended <- w.Pipe("pages-1", r, true) }()
		writeAll(p, random(size))
		w.Abort()
		checkErrno(t, <-ended, unix.ECANCELED)
		unix.Close(r)
		unix.Close(p)
		f.Close()
		w.trimIfOver()
		if n := descriptors(t); n > before {
			t.Errorf("%d descriptors, there were %d", n, before)
		}
	}
}

// TestRelaySegments: pages that come in small pieces, each of which takes as much of a pipe
// as a page does. They are copied when Pipe returns.
func TestRelaySegments(t *testing.T) {
	const piece, pieces = 100, 5000
	memory, err := unix.Mmap(-1, 0, pieces*4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(memory)
	noise := random(piece * pieces)
	for i := range pieces {
		copy(memory[i*4096:], noise[i*piece:][:piece])
	}
	f := tempFile(t)
	defer f.Close()
	w, err := NewWriter(int(f.Fd()), Header{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	r, p := pipe2(t)
	go func() {
		defer unix.Close(p)
		for i := range pieces {
			v := unix.Iovec{Base: &memory[i*4096]}
			v.SetLen(piece)
			if n, err := unix.Vmsplice(p, []unix.Iovec{v}, 0); n != piece {
				t.Error(n, err)
				return
			}
		}
	}()
	if err := w.Pipe("pages-1", r, true); err != nil {
		t.Fatal(err)
	}
	unix.Close(r)
	clear(memory)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	c := openWritten(t, f)
	defer c.Close()
	if b, err := c.Bytes("pages-1"); err != nil || !bytes.Equal(b, noise) {
		t.Errorf("%d bytes, other than written, %v", len(b), err)
	}
}

// TestRelayLimit: most descriptors are left to others.
func TestRelayLimit(t *testing.T) {
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	defer unix.Setrlimit(unix.RLIMIT_NOFILE, &before)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 100, Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	r := newRelays()
	var taken []*relayPipe
	for p := r.take(); p != nil; p = r.take() {
		taken = append(taken, p)
	}
	if len(taken) > 13 {
		t.Errorf("%d pipes", len(taken))
	}
	for _, p := range taken {
		r.put(p)
	}
	r.release()
	if r.made != 0 {
		t.Errorf("%d are left", r.made)
	}
}

// TestAvailable: a pipe has ended when there are no writers and no data, whatever poll(2)
// has seen before.
func TestAvailable(t *testing.T) {
	r, p := pipe2(t)
	defer unix.Close(r)
	check := func(wantN int64, wantEnd bool) {
		t.Helper()
		for what, look := range map[string]func() (int64, bool, error){
			"now":      func() (int64, bool, error) { return available(r) },
			"after":    func() (int64, bool, error) { return availableAfter(r, 0) },
			"hung up":  func() (int64, bool, error) { return availableAfter(r, unix.POLLHUP) },
			"had some": func() (int64, bool, error) { return availableAfter(r, unix.POLLIN) },
		} {
			want := wantEnd && (what == "now" || what == "hung up")
			if n, end, err := look(); n != wantN || end != want || err != nil {
				t.Errorf("%s: %d bytes, ended %v, %v; want %d, %v", what, n, end, err, wantN, want)
			}
		}
	}
	writeAll(p, []byte("abc"))
	check(3, false)
	unix.Close(p)
	check(3, false)
	if got := readAll(r); string(got) != "abc" {
		t.Errorf("got %q", got)
	}
	check(0, true)
}
