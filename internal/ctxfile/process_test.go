package ctxfile

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"blcr-cli/test/harness"

	"golang.org/x/sys/unix"
)

// asRole returns a command that runs this test binary in a role.
func asRole(role string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleEnv+"="+role)
	return cmd
}

// must is for roles.
func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// fodder is what images are fed with: half of it does not compress.
var fodder = sync.OnceValue(func() []byte {
	b := text(1 << 20) // and no more memory than that
	rand.NewChaCha8([32]byte{2}).Read(b[:len(b)/2])
	clear(b[len(b)*3/4:])
	return b
})

// feedImage has Image store n bytes that a goroutine writes into a pipe.
func feedImage(w *Writer, name string, n int) error {
	var p [2]int
	must(unix.Pipe2(p[:], unix.O_CLOEXEC))
	go func() {
		b := fodder()
		for n > 0 {
			m, err := unix.Write(p[1], b[:min(n, len(b))])
			if err != nil && err != unix.EINTR {
				break
			}
			n -= max(m, 0)
		}
		unix.Close(p[1])
	}()
	err := w.Pipe(name, p[0], inPages(name))
	unix.Close(p[0])
	return err
}

// refused checks that a file too small for it refuses a context with an error.
func refused(path string, want syscall.Errno) {
	for i, name := range []string{"pages-1.img", "core-1.img", "pages-1.img", "core-1.img"} {
		fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_TRUNC, 0o600)
		must(err)
		var w *Writer
		if i < 2 {
			w, err = NewWriter(fd, Header{}, 0)
		} else {
			w, err = NewWriter(fd, Header{}, 1)
		}
		must(err)
		must(w.Bytes("fits", make([]byte, 1000)))
		err = feedImage(w, name, 4<<20)
		if !errors.Is(err, want) {
			must(fmt.Errorf("%s: error %v, want %v", name, err, want))
		}
		if again := w.Close(); again != err {
			must(fmt.Errorf("%s: Close says %v, want %v", name, again, err))
		}
		if _, err := unix.Seek(fd, 0, unix.SEEK_SET); err != nil {
			must(err)
		}
		if _, err := Open(context.Background(), fd); err == nil {
			must(errors.New("it is a context"))
		}
		unix.Close(fd)
	}
	fmt.Println("ok")
	os.Exit(0)
}

// TestFull fills a tiny file system, in a mount namespace of its own.
func TestFull(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a file system to fill")
	}
	cmd := asRole("full")
	cmd.Dir = t.TempDir()
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "ok\n" {
		if errors.Is(err, unix.EPERM) {
			harness.Missing(t, "no right to make a mount namespace")
		}
		t.Errorf("%v: %s", err, out)
	}
}

func full() {
	wd, err := os.Getwd()
	must(err)
	must(unix.Mount("tmpfs", wd, "tmpfs", 0, "size=1m"))
	must(os.Chdir(wd))
	refused("c", unix.ENOSPC)
}

// TestLimit has the context exceed the limit for the size of files.
func TestLimit(t *testing.T) {
	cmd := asRole("limit")
	cmd.Dir = t.TempDir()
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "ok\n" {
		t.Errorf("%v: %s", err, out)
	}
}

func limit() {
	signal.Ignore(unix.SIGXFSZ)
	must(unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 1 << 20, Max: 1 << 20}))
	refused("c", unix.EFBIG)
}

// TestStdoutGone: the context's reader goes away, and descriptor 1 is the one
// for which the Go runtime may make a process die of SIGPIPE.
func TestStdoutGone(t *testing.T) {
	cmd := asRole("stdout")
	var text strings.Builder
	cmd.Stderr = &text
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	out.Read(make([]byte, 100))
	out.Close()
	if err := cmd.Wait(); err != nil || text.String() != "ok\n" {
		t.Errorf("%v: %s", err, text.String())
	}
}

func stdout() {
	w, err := NewWriter(1, Header{}, 0)
	must(err)
	if err := feedImage(w, "pages-1.img", 4<<20); !errors.Is(err, unix.EPIPE) {
		must(fmt.Errorf("error %v", err))
	}
	if err := feedImage(w, "core-1.img", 1<<20); !errors.Is(err, unix.EPIPE) {
		must(fmt.Errorf("error %v", err))
	}
	if err := w.Close(); !errors.Is(err, unix.EPIPE) {
		must(fmt.Errorf("Close: error %v", err))
	}
	if _, err := NewWriter(1, Header{}, 1); !errors.Is(err, unix.EPIPE) {
		must(fmt.Errorf("error %v", err))
	}
	fmt.Fprintln(os.Stderr, "ok")
	os.Exit(0)
}

// TestMemory: what a process needs does not depend on the size of the images.
func TestMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("writes and reads 450 MiB")
	}
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		t.Skip("the race detector needs more than that")
	}
	dir, err := os.MkdirTemp("/dev/shm", "context")
	if err != nil {
		dir = t.TempDir()
	}
	defer os.RemoveAll(dir)
	const limit = 32 << 10 // KiB
	for _, how := range []string{"file", "append", "1 file", "1 append", "1 save", "3 save", "9 save"} {
		sizes := []int{64}
		if harness.All() {
			sizes = []int{16, 256}
		}
		for _, mib := range sizes {
			cmd := asRole("memory")
			cmd.Dir = dir
			if strings.HasSuffix(how, "save") {
				cmd.Env = append(cmd.Env, "GOMAXPROCS=4") // with as many workers as there will be
			}
			cmd.Env = append(cmd.Env, "CONTEXT_TEST_MIB="+strconv.Itoa(mib), "CONTEXT_TEST_HOW="+how)
			out, err := cmd.CombinedOutput()
			rss, _ := strconv.Atoi(strings.TrimSpace(string(out)))
			t.Logf("%s, %d MiB: %d KiB resident at most", how, mib, rss)
			if err != nil || rss == 0 || rss > limit {
				t.Errorf("%s, %d MiB: %v: %s", how, mib, err, out)
			}
		}
	}
}

// memory saves and serves 20 images at once, and prints the most it needed.
func memory() {
	mib, _ := strconv.Atoi(os.Getenv("CONTEXT_TEST_MIB"))
	flags := unix.O_RDWR | unix.O_CREAT | unix.O_TRUNC
	how := os.Getenv("CONTEXT_TEST_HOW")
	if strings.HasSuffix(how, "append") {
		flags |= unix.O_APPEND
	}
	fd, err := unix.Open("c", flags, 0o600)
	must(err)
	var w *Writer
	if strings.HasSuffix(how, "save") {
		processors = func() int { return maxWorkers }
	}
	if level := int(how[0]) - '0'; level < 10 {
		w, err = NewWriter(fd, Header{}, level)
	} else {
		w, err = NewWriter(fd, Header{}, 0)
	}
	must(err)
	const count = 20
	errs := make(chan error, count)
	name := func(i int) string { return fmt.Sprintf("%s-%d.img", []string{"pages", "core"}[i%2], i) }
	for i := range count {
		go func() { errs <- feedImage(w, name(i), mib<<20/count) }()
	}
	for range count {
		must(<-errs)
	}
	must(w.Close())
	if strings.HasSuffix(how, "save") {
		peak()
	}
	_, err = unix.Seek(fd, 0, unix.SEEK_SET)
	must(err)
	r, err := Open(context.Background(), fd)
	must(err)
	for i := range count {
		var p [2]int
		must(unix.Pipe2(p[:], 0))
		go func() {
			must(r.Serve(name(i), p[1]))
			unix.Close(p[1])
		}()
		go func() {
			b := make([]byte, 64<<10)
			for {
				if n, err := unix.Read(p[0], b); err != unix.EINTR && n <= 0 {
					errs <- err
					return
				}
			}
		}()
	}
	for range count {
		must(<-errs)
	}
	must(r.Close())
	peak()
}

// peak prints the most that was ever resident, and ends the program.
func peak() {
	status, err := os.ReadFile("/proc/self/status") // getrusage counts the parent's, too
	must(err)
	_, peak, _ := strings.Cut(string(status), "VmHWM:")
	fmt.Println(strings.Fields(peak)[0])
	os.Exit(0)
}

// feed writes as many bytes as it is told to standard output, as criu does:
// its own pages, not copies.
func feed() {
	left, _ := strconv.Atoi(os.Getenv("CONTEXT_TEST_BYTES"))
	b, err := unix.Mmap(-1, 0, 1<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_POPULATE)
	must(err)
	for left > 0 {
		v := unix.Iovec{Base: &b[0]}
		v.SetLen(min(left, len(b)))
		n, err := unix.Vmsplice(1, []unix.Iovec{v}, 0)
		if err != unix.EINTR {
			must(err)
			left -= n
		}
	}
	os.Exit(0)
}
