package generations

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ctxfile"
	"blcr-cli/internal/target"
	"blcr-cli/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// contextOf returns a context with a member.
func contextOf(t *testing.T, level int) []byte {
	t.Helper()
	file, err := os.Create("making")
	if err != nil {
		t.Fatal(err)
	}
	defer os.Remove("making")
	defer file.Close()
	w, err := ctxfile.NewWriter(int(file.Fd()), ctxfile.Header{Engine: "criu 4.2", PIDs: []int{1}}, level)
	if err == nil {
		err = w.Bytes("pages-1.img", bytes.Repeat([]byte("page"), 1<<18))
	}
	if err == nil {
		err = w.Close()
	}
	content, readErr := os.ReadFile("making")
	if err = errors.Join(err, readErr); err != nil {
		t.Fatal(err)
	}
	return content
}

func put(t *testing.T, name string, content []byte, second int64) {
	t.Helper()
	os.Remove(name)
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
	os.Chtimes(name, time.Time{}, time.Unix(second, 0))
}

// spoilt returns content with one byte changed.
func spoilt(content []byte, at int) []byte {
	content = bytes.Clone(content)
	content[at] ^= 1
	return content
}

// check opens the newest, and compares what was found with what was skipped for what.
func check(t *testing.T, want string, skipped ...string) {
	t.Helper()
	before := harness.Descriptors()
	var got []string
	fd, name, err := Open(context.Background(), "d", func(f *Fault) { got = append(got, f.Error()) }, nil)
	if err != nil {
		name = "error " + err.Error()
	} else {
		if at, _ := unix.Seek(fd, 0, unix.SEEK_CUR); at != 0 {
			t.Errorf("the offset is %d", at)
		}
		unix.Close(fd)
	}
	if after := harness.Descriptors(); len(after) != len(before) {
		t.Errorf("descriptors before: %v, after: %v", before, after)
	}
	if name != want || len(got) != len(skipped) || slices.ContainsFunc(skipped, func(s string) bool {
		return !slices.ContainsFunc(got, func(g string) bool { return strings.HasPrefix(g, s) })
	}) {
		t.Errorf("%s, skipped %q; want %s, skipped %q", name, got, want, skipped)
	}
}

func TestOpen(t *testing.T) {
	t.Chdir(t.TempDir())
	os.Mkdir("d", 0o700)
	check(t, "error "+ErrNone.Error())
	for _, level := range []int{0, 1} {
		good := contextOf(t, level)
		put(t, "d/c", good, 100)
		put(t, "d/c.~1~", good, 200)
		put(t, "d/c.~2~", good, 300)
		put(t, "d/job.out", []byte("other"), 400)
		put(t, "d/.c.tmp", good, 500)
		unix.Mkfifo("d/fifo", 0o600)
		check(t, "d/c")

		// Cut anywhere, changed anywhere, emptied, grown over by something else.
		for _, n := range []int{0, 7, 30, 5000, len(good) / 2, len(good) - 1} {
			put(t, "d/c", good[:n], 100)
			check(t, "d/c.~2~", "d/c: ")
		}
		for _, at := range []int{2, 60, 5000, len(good) / 2, len(good) - 3} {
			put(t, "d/c", spoilt(good, at), 100)
			check(t, "d/c.~2~", "d/c: ")
		}
		put(t, "d/c.~2~", make([]byte, 100), 300)
		check(t, "d/c.~1~", "d/c: ", "d/c.~2~: not a context")
		put(t, "d/c.~1~", nil, 300)
		_, _, err := Open(context.Background(), "d", func(*Fault) {}, nil)
		var f *Fault
		if !errors.As(err, &f) || f.Name != "d/c" || f.Reason == "" {
			t.Errorf("none is good: %v", err)
		}
		// A later job, another name.
		put(t, "d/context.7", spoilt(good, 60), 600)
		put(t, "d/other", good, 500)
		check(t, "d/other", "d/context.7: ")
		os.Remove("d/context.7")
		os.Remove("d/other")
	}
	os.Remove("d/c.~1~")
	os.Remove("d/c.~2~")
	os.Remove("d/c")
	check(t, "error "+ErrNone.Error())
	if _, _, err := Open(context.Background(), "none", nil, nil); !errors.Is(err, unix.ENOENT) {
		t.Error(err)
	}
}

func TestNames(t *testing.T) {
	t.Chdir(t.TempDir())
	os.Mkdir("d", 0o700)
	names := func(want ...string) {
		t.Helper()
		before := harness.Descriptors()
		if got, err := Names("d"); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q, %v; want %q", got, err, want)
		}
		if after := harness.Descriptors(); len(after) != len(before) {
			t.Errorf("descriptors before: %v, after: %v", before, after)
		}
	}
	names()
	good := contextOf(t, 0)
	put(t, "d/c", good, 100)
	put(t, "d/c.~9~", good[:1], 300)
	put(t, "d/c.~10~", nil, 200)
	put(t, "d/context.7", []byte("other"), 400)
	put(t, "d/job.out", []byte("other"), 500)
	put(t, "d/z", good, 50)
	put(t, "d/.c.tmp", good, 600)
	unix.Mkfifo("d/context.fifo", 0o600)
	os.Mkdir("d/context.dir", 0o700)
	os.Symlink("c", "d/context.link")
	names("d/context.7", "d/c", "d/c.~10~", "d/c.~9~", "d/z")
	if os.Geteuid() != 0 {
		os.Chmod("d/context.7", 0)
		os.Chmod("d/z", 0)
		names("d/context.7", "d/c", "d/c.~10~", "d/c.~9~")
	}
	if _, err := Names("none"); !errors.Is(err, unix.ENOENT) {
		t.Error(err)
	}
}

// What cannot be opened is not skipped: it may well be good.
func TestOpenForbidden(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may open everything")
	}
	t.Chdir(t.TempDir())
	os.Mkdir("d", 0o700)
	put(t, "d/c.~1~", contextOf(t, 0), 0)
	put(t, "d/c", contextOf(t, 0), 0)
	os.Chmod("d/c", 0)
	if _, name, err := Open(context.Background(), "d", nil, nil); !errors.Is(err, unix.EACCES) || name != "d/c" {
		t.Errorf("%s, %v", name, err)
	}
}

func TestVerify(t *testing.T) {
	t.Chdir(t.TempDir())
	good := contextOf(t, 0)
	verify := func(content []byte) (string, int) {
		put(t, "f", append([]byte("before"), content...), 0)
		file, err := os.Open("f")
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		file.Seek(6, 0)
		watched := 0
		err = Verify(context.Background(), int(file.Fd()), func(m Meter) func() {
			if _, all := m(); all != 1<<20 {
				t.Errorf("%d bytes to be verified", all)
			}
			watched++
			return func() { watched++ }
		})
		if at, _ := file.Seek(0, 1); at != 6 {
			t.Errorf("the offset is %d", at)
		}
		return fmt.Sprint(err), watched
	}
	blcr := []byte("C\x00\x00\x00R\x00\x00\x00\x09\x00\x00\x00\x03\x00\x00\x00\x05\x00\x00\x00whatever\x00\x00\x00\x00\x00\x0f\x41\x00\xff\xff\xff\xff")
	for _, c := range []struct {
		content []byte
		want    string
		watched int
	}{
		{good, "<nil>", 2},
		{spoilt(good, len(good)/2), "pages-1.img: checksum does not match (bytes ", 2},
		{good[:len(good)-1], "", 0},
		{[]byte("nothing"), "not a context", 0},
		{nil, "empty", 0},
		{blcr, "<nil>", 0},
		{blcr[:30], "it has no end", 0},
		{blcr[:10], "the header is incomplete", 0},
		{append(blcr, 0), "it has no end", 0},
	} {
		got, watched := verify(c.content)
		if !strings.HasPrefix(got, c.want) || watched != c.watched || c.want == "" && got == "<nil>" {
			t.Errorf("%s, watched %d; want %s, %d", got, watched, c.want, c.watched)
		}
	}
	// Interrupted.
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	put(t, "f", good, 0)
	file, _ := os.Open("f")
	defer file.Close()
	if err := Verify(ctx, int(file.Fd()), nil); err != nil && !errors.Is(err, unix.ECANCELED) {
		t.Error(err)
	}
}

// TestOpenWhileSaved: contexts are saved and removed meanwhile, and one is always found.
func TestOpenWhileSaved(t *testing.T) {
	t.Chdir(t.TempDir())
	os.Mkdir("d", 0o700)
	good := contextOf(t, 0)
	save := func() error {
		dest, err := target.Open(context.Background(), target.Spec{Path: "d/c", Policy: target.Backup, Keep: 2})
		if err == nil {
			err = dest.Begin()
		}
		if err == nil {
			_, err = unix.Write(dest.FD(), good)
		}
		if err != nil {
			return err
		}
		return dest.Commit()
	}
	if err := save(); err != nil {
		t.Fatal(err)
	}
	saved := make(chan error)
	go func() {
		var err error
		for i := 0; i < 100 && err == nil; i++ {
			err = save()
		}
		saved <- err
	}()
	for {
		fd, _, err := Open(context.Background(), "d", func(f *Fault) { t.Error(f) }, nil)
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(fd)
		select {
		case err := <-saved:
			if err != nil {
				t.Fatal(err)
			}
			return
		default:
		}
	}
}
