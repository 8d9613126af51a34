package attributes

import (
	"encoding/binary"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/proc"
)

// TestEvents: counters that do not fit into 32 bits are noted, and get what CRIU leaves out;
// once, where two descriptors have one, and not if it is another.
func TestEvents(t *testing.T) {
	const large = 5<<32 | 7
	fds := make(map[string]int)
	for name, flags := range map[string]int{"small": 0, "large": 0, "semaphore": unix.EFD_SEMAPHORE, "most": 0, "other": 0} {
		fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK|flags)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		fds[name] = fd
	}
	set := func(name string, count uint64) {
		fd := fds[name]
		_, _ = unix.Read(fd, make([]byte, 8))
		for { // of a semaphore each takes one
			if now, _ := proc.EventCount(os.Getpid(), fd); now == 0 {
				break
			}
			_, _ = unix.Read(fd, make([]byte, 8))
		}
		if _, err := unix.Write(fd, binary.NativeEndian.AppendUint64(nil, count)); err != nil {
			t.Fatal(err)
		}
	}
	set("small", math.MaxUint32)
	set("large", large)
	set("semaphore", 1<<32)
	set("most", math.MaxUint64-1)
	set("other", 9<<32)
	twin, err := unix.FcntlInt(uintptr(fds["large"]), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(twin)
	noted := ""
	saved(os.Getpid(), func(name, value string) {
		if name == events {
			noted = value
		}
	})
	if n := len(strings.Split(noted, ",")); n != 5 {
		t.Fatalf("noted %q", noted)
	}
	semaphore, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK|unix.EFD_SEMAPHORE)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(semaphore)
	if err := unix.Dup3(semaphore, fds["semaphore"], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	set("large", large&math.MaxUint32)
	set("most", 0xfffffffe)
	set("other", 3)
	setCounts(os.Getpid(), noted+",99999:100000000,0:ffffffffffffffff,x")
	for name, want := range map[string]uint64{"small": math.MaxUint32, "large": large, "semaphore": 1 << 32, "most": math.MaxUint64 - 1, "other": 3} {
		if got, err := proc.EventCount(os.Getpid(), fds[name]); err != nil || got != want {
			t.Errorf("%s: %#x, %v; want %#x", name, got, err, want)
		}
	}
}

// TestSemaphores: those eventfds are noted that are semaphores, as the restart reads it.
func TestSemaphores(t *testing.T) {
	var want []Semaphore
	for _, flags := range []int{0, unix.EFD_SEMAPHORE, unix.EFD_SEMAPHORE | unix.EFD_NONBLOCK} {
		fd, err := unix.Eventfd(3, unix.EFD_CLOEXEC|flags)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		if _, err := proc.FDInfo(os.Getpid(), fd, "eventfd-semaphore"); err != nil {
			t.Skip("Linux does not tell")
		}
		if flags != 0 {
			want = append(want, Semaphore{uint32(fd), 3, flags&unix.EFD_NONBLOCK != 0})
		}
	}
	saved := Parse(Save([]int{os.Getpid()}, nil, nil))
	inner, err := proc.InnerPid(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if got := saved.Semaphores(int32(inner)); !slices.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := Parse([]byte("7 semaphores=5:3,x:3:2,5:x:2,5:3:x,-1:3:2,,5:100000000:2\n")).Semaphores(7); got != nil {
		t.Errorf("of what is no list: %+v", got)
	}
}
