package memory

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/proc"
)

// registered returns memory of this process whose pages a userfaultfd waits for.
func registered(t *testing.T, size int) (uffd int, memory []byte) {
	t.Helper()
	if !CanFill() {
		t.Skip("needs userfaultfd")
	}
	fd, _, errno := unix.Syscall(unix.SYS_USERFAULTFD, unix.O_CLOEXEC|unix.O_NONBLOCK, 0, 0)
	if errno != 0 {
		t.Fatal(errno)
	}
	api := struct{ api, features, ioctls uint64 }{uffdAPI, features, 0}
	if err := ioctl(int(fd), uffdioAPI, unsafe.Pointer(&api)); err != nil {
		t.Fatal(err)
	}
	memory, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	if err := register(int(fd), address(memory), address(memory)+uint64(size), registerMissing); err != nil {
		t.Fatal(err)
	}
	return int(fd), memory
}

func address(memory []byte) uint64 { return uint64(uintptr(unsafe.Pointer(&memory[0]))) }

// content is what memory has, read by the kernel: a thread of Go's must not wait for
// a page in its own code.
func content(t *testing.T, memory []byte) []byte {
	t.Helper()
	fd, err := unix.MemfdCreate("content", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	for n := 0; n < len(memory); {
		m, err := unix.Pwrite(fd, memory[n:], int64(n))
		if err != nil {
			t.Fatal(err)
		}
		n += m
	}
	b := make([]byte, len(memory))
	for n := 0; n < len(b); {
		m, err := unix.Pread(fd, b[n:], int64(n))
		if err != nil || m == 0 {
			t.Fatal(m, err)
		}
		n += m
	}
	return b
}

// image is pages of random content.
func image(size int) []byte {
	b := make([]byte, size)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(b)
	return b
}

func reading(image []byte) Read {
	return func(b []byte, offset int64) error {
		copy(b, image[offset:])
		return nil
	}
}

// spread returns pieces of random sizes, with gaps in memory and in the image, and
// what the memory has to be.
func spread(memory, image []byte) (list []Piece, want []byte) {
	r := rand.New(rand.NewPCG(1, 2))
	want = make([]byte, len(memory))
	page := int(pageSize)
	for at, offset := 0, 0; ; {
		at += r.IntN(3) * page
		offset += r.IntN(3) * page
		n := (1 + r.IntN(600)) * page
		if at+n > len(memory) || offset+n > len(image) {
			return list, want
		}
		copy(want[at:at+n], image[offset:])
		list = append(list, Piece{address(memory) + uint64(at), int64(offset), int64(n)})
		at, offset = at+n, offset+n
	}
}

func TestFill(t *testing.T) {
	t.Run("read", func(t *testing.T) { testFill(t, nil) })
	t.Run("viewed", func(t *testing.T) {
		gone, err := unix.Mmap(-1, 0, windowSize, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = unix.Munmap(gone) }()
		testFill(t, func(img []byte) View {
			return func(offset, length int64, _ bool, use func([]byte) bool) (n int64, err error) {
				if offset/windowSize == 7 { // the file has become shorter
					use(gone[:length])
					return length, nil
				}
				most := length * (offset / windowSize % 3) / 2 &^ int64(pageSize-1)
				for n < most {
					part := img[offset+n:][:min(100*int64(pageSize), most-n)]
					if n += int64(len(part)); !use(part) {
						break
					}
				}
				return n, nil
			}
		})
	})
}

func testFill(t *testing.T, viewing func(img []byte) View) {
	var view View
	uffd, memory := registered(t, 24<<20)
	img := image(24 << 20)
	list, want := spread(memory, img)
	if viewing != nil {
		view = viewing(img)
	}
	var filled atomic.Int64
	f := NewFiller(&filled, FaultSize)
	defer f.Close()
	// Mappings end where pieces do not.
	for at := 3 << 20; at < len(memory); at += 5 << 20 {
		if err := unix.Mprotect(memory[at:at+12<<10], unix.PROT_READ); err != nil {
			t.Fatal(err)
		}
	}
	f.Add(uffd, list, reading(img), view)
	if err := f.Fill(context.Background()); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if !bytes.Equal(content(t, memory), want) {
		t.Error("other memory")
	}
	size := int64(0)
	for _, p := range list {
		size += p.Length
	}
	if filled.Load() != size {
		t.Errorf("filled %d bytes of %d", filled.Load(), size)
	}
}

// TestTry: a page of each piece is there afterwards, and all of those that are small.
func TestTry(t *testing.T) {
	const size = 12 << 20
	uffd, memory := registered(t, size)
	img := image(size)
	var list []Piece
	want := make([]byte, size)
	there := make([]bool, size/int(pageSize))
	room := int64(early)
	page := int64(pageSize)
	for at, i := int64(0), int64(0); ; i++ {
		n := (1 + i%20) * page // up to more than FaultSize
		if at+n > size {
			break
		}
		list = append(list, Piece{address(memory) + uint64(at), at, n})
		copy(want[at:], img[at:at+n])
		whole := n <= FaultSize && n <= room
		if whole {
			room -= n
		}
		for j := range n / page {
			there[at/page+j] = whole || j == 0
		}
		at += n + page
	}
	if room > FaultSize {
		t.Fatalf("the memory is too small: room for %d bytes", room)
	}
	f := NewFiller(new(atomic.Int64), FaultSize)
	defer f.Close()
	f.Add(uffd, list, reading(img), nil)
	if err := f.Try(); err != nil {
		t.Fatal(err)
	}
	resident := make([]byte, len(there))
	if _, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(address(memory)), size, uintptr(unsafe.Pointer(&resident[0]))); errno != 0 {
		t.Fatal(errno)
	}
	for i, want := range there {
		if got := resident[i]&1 != 0; got != want {
			t.Fatalf("page %d is there: %v, want %v", i, got, want)
		}
	}
	if err := f.Fill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(content(t, memory), want) {
		t.Error("other memory")
	}
}

// Pages are there when they are waited for, whether the rest is being filled or not.
func TestFaults(t *testing.T) {
	for _, filling := range []bool{false, true} {
		uffd, memory := registered(t, 24<<20)
		img := image(24 << 20)
		list, want := spread(memory, img)
		f := NewFiller(new(atomic.Int64), FaultSize)
		f.Add(uffd, list, reading(img), nil)
		f.Started(func(int) {})
		var filler sync.WaitGroup
		if filling {
			filler.Go(func() {
				if err := f.Fill(context.Background()); err != nil {
					t.Error(err)
				}
			})
		}
		for range 300 {
			at := rand.IntN(len(memory)/int(pageSize)) * int(pageSize)
			if !bytes.Equal(content(t, memory[at:at+int(pageSize)]), want[at:at+int(pageSize)]) {
				t.Fatalf("other memory at %#x", at)
			}
		}
		filler.Wait()
		if !filling && !bytes.Equal(content(t, memory), want) {
			t.Error("other memory")
		}
		f.Close()
	}
}

// What the processes give up or move while they are filled is as if it had been there.
func TestEvents(t *testing.T) {
	const size = 16 << 20
	for range 10 {
		uffd, memory := registered(t, size)
		img := image(size)
		want := bytes.Clone(img)
		f := NewFiller(new(atomic.Int64), FaultSize)
		f.Add(uffd, []Piece{{address(memory), 0, size}}, reading(img), nil)
		f.Started(func(int) {})
		var filler sync.WaitGroup
		filler.Go(func() {
			if err := f.Fill(context.Background()); err != nil {
				t.Error(err)
			}
		})
		for range 50 {
			at := rand.IntN(size/int(pageSize)) * int(pageSize)
			n := min(1+rand.IntN(100)*int(pageSize), size-at)
			if err := unix.Madvise(memory[at:at+n], unix.MADV_DONTNEED); err != nil {
				t.Fatal(err)
			}
			clear(want[at : at+(n+int(pageSize)-1)&^int(pageSize-1)])
		}
		to, err := unix.MremapPtr(unsafe.Pointer(&memory[size/2]), size/2, nil, size/2, unix.MREMAP_MAYMOVE|unix.MREMAP_DONTUNMAP)
		if err != nil {
			t.Log("not moved:", err)
		} else {
			moved := unsafe.Slice((*byte)(to), size/2)
			if !bytes.Equal(content(t, moved), want[size/2:]) {
				t.Error("other memory where it was moved to")
			}
			clear(want[size/2:])
		}
		filler.Wait()
		if !bytes.Equal(content(t, memory), want) {
			t.Error("other memory")
		}
		f.Close()
	}
}

// TestMovedMeanwhile: memory that moves while a page is being copied to where it was gets
// that page. The copy stands still in the middle, as it waits for its source.
func TestMovedMeanwhile(t *testing.T) {
	size := int(pageSize)
	uffd, memory := registered(t, size)
	sourceFD, source := registered(t, size)
	defer unix.Close(sourceFD)
	to, err := unix.Mmap(-1, 0, size, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	img := image(size)
	f := NewFiller(new(atomic.Int64), FaultSize)
	f.Add(uffd, []Piece{{address(memory), 0, int64(size)}}, reading(img), func(_, length int64, _ bool, use func([]byte) bool) (int64, error) {
		use(source)
		return length, nil
	})
	f.Started(func(int) {})
	var fill, move sync.WaitGroup
	fill.Go(func() {
		if err := f.Fill(context.Background()); err != nil {
			t.Error(err)
		}
	})
	// The copy has begun.
	poll := []unix.PollFd{{Fd: int32(sourceFD), Events: unix.POLLIN}}
	for n := 0; n != 1; {
		if n, err = unix.Poll(poll, -1); err != nil && err != unix.EINTR {
			t.Fatal(err)
		}
	}
	move.Go(func() {
		if _, err := unix.MremapPtr(unsafe.Pointer(&memory[0]), uintptr(size), unsafe.Pointer(&to[0]), uintptr(size), unix.MREMAP_MAYMOVE|unix.MREMAP_FIXED); err != nil {
			t.Error(err)
		}
	})
	for mapped := true; mapped; {
		_, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&memory[0])), uintptr(size), uintptr(unsafe.Pointer(new(byte))))
		mapped = errno != unix.ENOMEM
	}
	if _, err := copyPages(sourceFD, address(source), img); err != nil {
		t.Fatal(err)
	}
	fill.Wait()
	move.Wait()
	f.Close()
	if !bytes.Equal(content(t, to), img) {
		t.Error("other memory where it was moved to")
	}
}

func TestFillFails(t *testing.T) {
	broken := errors.New("broken")
	for name, test := range map[string]struct {
		away bool // the memory is not where it should be
		read Read
		ctx  func() context.Context
		want error
	}{
		"read":    {read: func([]byte, int64) error { return broken }, want: broken},
		"nowhere": {away: true, want: ErrNoMapping},
		"cancelled": {ctx: func() context.Context {
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			return ctx
		}, want: unix.ECANCELED},
	} {
		t.Run(name, func(t *testing.T) {
			uffd, memory := registered(t, 64<<20)
			at := address(memory)
			if test.away {
				at -= 1 << 30
			}
			read, ctx := test.read, context.Background()
			if read == nil {
				read = func([]byte, int64) error { return nil }
			}
			if test.ctx != nil {
				ctx = test.ctx()
			}
			f := NewFiller(new(atomic.Int64), FaultSize)
			defer f.Close()
			f.Add(uffd, []Piece{{at, 0, int64(len(memory))}}, read, nil)
			if err := f.Fill(ctx); !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
		})
	}
}

func TestFeedPieces(t *testing.T) {
	img := image(5 << 20)
	page := int64(pageSize)
	for _, list := range [][]Piece{
		nil,
		{{0, 0, 5 << 20}},
		{{0, page, page}, {0, 3 * page, page}, {0, copySize - page, 2 * page}, {0, 2<<20 - page, 2 << 20}},
	} {
		var want []byte
		for _, p := range list {
			want = append(want, img[p.Offset:p.Offset+p.Length]...)
		}
		got := piped(t, func(pipe int) error { return FeedPieces(context.Background(), pipe, list, reading(img)) })
		if !bytes.Equal(got, want) {
			t.Errorf("%v: %d bytes, other than expected", list, len(got))
		}
	}
}

// Memory that is registered for write protection as well is shown so, and is filled as before.
func TestRegisterWriteProtect(t *testing.T) {
	uffd, memory := registered(t, 1<<20)
	if err := RegisterWriteProtect(uffd, address(memory), address(memory)+1<<20); err != nil {
		t.Skip("needs Linux 5.7:", err)
	}
	want := proc.Registered{Start: address(memory), End: address(memory) + 1<<20, WriteProtect: true}
	if got := proc.RegisteredMappings(os.Getpid()); !slices.Contains(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if Gone(uffd) {
		t.Error("this process is said to be gone")
	}
	img := image(1 << 20)
	f := NewFiller(new(atomic.Int64), FaultSize)
	defer f.Close()
	f.Add(uffd, []Piece{{address(memory), 0, 1 << 20}}, reading(img), nil)
	if err := f.Fill(context.Background()); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(content(t, memory), img) {
		t.Error("other memory")
	}
}

// What is given back, as its processes have gone, is no error for whoever is about to fill it.
func TestGivenBack(t *testing.T) {
	uffd, memory := registered(t, 4<<20)
	img := image(4 << 20)
	f := NewFiller(new(atomic.Int64), FaultSize)
	defer f.Close()
	f.Add(uffd, []Piece{{address(memory), 0, 4 << 20}}, reading(img), nil)
	f.Started(func(int) {})
	s := f.spaces[0]
	s.giveBack()
	if err := s.answer(); err != nil {
		t.Error(err)
	}
	if err := s.zero(address(memory) - pageSize); err != unix.ESRCH {
		t.Errorf("got %v", err)
	}
	if err := f.Fill(context.Background()); err != nil {
		t.Error(err)
	}
	f.serving.Wait()
	if f.failed() {
		t.Error(f.err)
	}
}

// A process that stands still has ended only if it was killed.
func TestGoneEarly(t *testing.T) {
	uffd, memory := registered(t, 1<<20)
	f := NewFiller(new(atomic.Int64), FaultSize)
	defer f.Close()
	f.Add(uffd, []Piece{{address(memory), 0, 1 << 20}}, reading(image(1<<20)), nil)
	f.spaces[0].giveBack()
	if err := f.Fill(context.Background()); err != ErrGone {
		t.Errorf("got %v", err)
	}
}
