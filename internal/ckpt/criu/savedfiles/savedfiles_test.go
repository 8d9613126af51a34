package savedfiles

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/criu/images"
)

// savedFilesHeader is the first line of a list of saved files.
const savedFilesHeader = "blcr-cli saved files 1\n"

// members is a context in memory.
type members struct {
	mu   sync.Mutex
	of   map[string][]byte
	fail error
}

func (m *members) Bytes(name string, data []byte) error { return m.File(name, bytes.NewReader(data)) }
func (m *members) File(name string, r io.Reader) error {
	b, err := io.ReadAll(r)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.of[name] = b
	return err
}

// saved is such a context as a source.
type saved struct {
	*members
}

func (s saved) Has(name string) bool { return s.of[name] != nil }
func (s saved) Bytes(name string) ([]byte, error) {
	if !s.Has(name) {
		return nil, syscall.ENOENT
	}
	return s.of[name], nil
}
func (s saved) Serve(name string, pipe int) error {
	if s.fail != nil {
		return s.fail
	}
	for b := s.of[name]; len(b) > 0; {
		n, err := unix.Write(pipe, b)
		if err != nil {
			return nil
		}
		b = b[n:]
	}
	return nil
}

// savedLab saves files of this very process.
type savedLab struct {
	t   *testing.T
	dir string
	ctx *members
	s   *saver
}

func newSavedLab(t *testing.T) *savedLab {
	l := &savedLab{t: t, dir: t.TempDir(), ctx: &members{of: map[string][]byte{}}}
	t.Setenv("TMPDIR", filepath.Join(l.dir, "tmp"))
	if err := os.Mkdir(filepath.Join(l.dir, "tmp"), 0o700); err != nil {
		t.Fatal(err)
	}
	l.s = newSaver(l.ctx, Which{Shared: true})
	return l
}

// file makes a file and maps it.
func (l *savedLab) file(name string, size int64, data map[int64]string) string {
	l.t.Helper()
	path := filepath.Join(l.dir, name)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		l.t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		l.t.Fatal(err)
	}
	for at, text := range data {
		if _, err := f.WriteAt([]byte(text), at); err != nil {
			l.t.Fatal(err)
		}
	}
	m, err := unix.Mmap(int(f.Fd()), 0, 1, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = unix.Munmap(m) })
	return path
}

func (l *savedLab) save() {
	l.t.Helper()
	if err := l.s.process(os.Getpid()); err != nil {
		l.t.Fatal(err)
	}
	// The process of the test may have other files of that kind.
	l.s.files = slices.DeleteFunc(l.s.files, func(f *images.SavedFile) bool { return !strings.HasPrefix(f.Name, l.dir) })
	l.ctx.of[images.SavedFilesName] = images.EncodeSavedFiles(l.s.files)
}

// extract returns where each file is to be found, "" for those of its own name.
func (l *savedLab) extract(relocations ...ckpt.Relocation) (*Copies, []ckpt.Relocation, error) {
	c, found, err := Extract(saved{l.ctx}, relocations)
	l.t.Cleanup(c.Remove)
	return c, found, err
}

func TestSaveAndExtract(t *testing.T) {
	l := newSavedLab(t)
	big := strings.Repeat("0123456789abcdef", 20000)
	sparse := l.file("sparse", 1<<30, map[int64]string{0: "begin", 1 << 29: big, 1<<30 - 3: "end"})
	odd := l.file("odd\n\"name\" (deleted)", 7, map[int64]string{0: "content"})
	hole := l.file("hole", 1<<20, nil)
	gone := l.file("gone", 7, map[int64]string{0: "content"})
	if err := os.Link(odd, filepath.Join(l.dir, "second")); err != nil {
		t.Fatal(err)
	}
	second := l.file("second", 7, nil)
	if err := os.Remove(gone); err != nil {
		t.Fatal(err)
	}
	l.save()
	var names []string
	for _, f := range l.s.files {
		names = append(names, f.Name)
	}
	slices.Sort(names)
	want := []string{hole, odd, second, sparse}
	slices.Sort(want)
	if !slices.Equal(names, want) {
		t.Fatalf("saved %q, want %q", names, want)
	}
	size := 0
	for _, b := range l.ctx.of {
		size += len(b)
	}
	if size > 1<<20 {
		t.Errorf("the context has %d bytes", size)
	}

	if c, found, err := l.extract(); err != nil || len(found) != 0 || c.made {
		t.Errorf("all is there: %v, %v, %s", found, err, c.dir.Path)
	}
	for _, name := range want {
		if err := os.Chtimes(name, time.Time{}, time.Unix(1, 2)); err != nil {
			t.Fatal(err)
		}
	}
	if _, found, err := l.extract(); err != nil || len(found) != 0 {
		t.Errorf("all is there, with another time: %v, %v", found, err)
	}

	// Under another name, and the rest gone.
	moved := filepath.Join(l.dir, "moved")
	if err := os.Mkdir(moved, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(hole, filepath.Join(moved, "hole")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{sparse, odd, second} {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	user := ckpt.Relocation{Old: l.dir, New: moved}
	c, found, err := l.extract(user)
	if err != nil || len(found) != 4 || found[3] != user {
		t.Fatalf("%v, %v", found, err)
	}
	if st, err := os.Stat(c.dir.Path); err != nil || st.Mode() != os.ModeDir|0o700 || filepath.Dir(c.dir.Path) != os.TempDir() {
		t.Errorf("%s: %v, %v", c.dir.Path, st.Mode(), err)
	}
	for _, f := range l.s.files {
		i := slices.IndexFunc(found, func(r ckpt.Relocation) bool { return r.Old == f.Name })
		if f.Name == hole {
			if i >= 0 {
				t.Errorf("%s is extracted", f.Name)
			}
			continue
		}
		to := found[i].New
		var st unix.Stat_t
		if err := unix.Stat(to, &st); err != nil {
			t.Fatal(err)
		}
		if st.Mode != unix.S_IFREG|0o640 || st.Size != f.Size || st.Mtim.Nano() != f.MTime || st.Uid != f.UID || filepath.Base(to) != filepath.Base(f.Name) {
			t.Errorf("%s: %+v", to, st)
		}
		if f.Name != sparse {
			if b, err := os.ReadFile(to); err != nil || string(b) != "content" {
				t.Errorf("%s: %q, %v", to, b, err)
			}
			continue
		}
		if st.Blocks*512 > 1<<20 {
			t.Errorf("the hole takes up %d blocks", st.Blocks)
		}
		file, err := os.Open(to)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		for at, text := range map[int64]string{0: "begin\x00", 1<<29 - 1: "\x00" + big + "\x00", 1<<30 - 4: "\x00end"} {
			b := make([]byte, len(text))
			if _, err := file.ReadAt(b, at); err != nil || string(b) != text {
				t.Errorf("at %d: %v", at, err)
			}
		}
	}
	c.Remove()
	if left, _ := os.ReadDir(os.TempDir()); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// TestExtractDifferent: a change anywhere is noticed.
func TestExtractDifferent(t *testing.T) {
	for what, change := range map[string]func(path string) error{
		"data":     func(path string) error { return writeAt(path, 5, "X") },
		"the hole": func(path string) error { return writeAt(path, 1<<19, "X") },
		"the end":  func(path string) error { return writeAt(path, 1<<20-1, "X") },
		"size":     func(path string) error { return os.Truncate(path, 1<<20+1) },
		"mode":     func(path string) error { return os.Chmod(path, 0o600) },
		"kind": func(path string) error {
			_ = os.Remove(path)
			return unix.Mkfifo(path, 0o640)
		},
	} {
		t.Run(what, func(t *testing.T) {
			l := newSavedLab(t)
			path := l.file("f", 1<<20, map[int64]string{0: "0123456789"})
			l.save()
			if err := change(path); err != nil {
				t.Fatal(err)
			}
			if _, found, err := l.extract(); err != nil || len(found) != 1 {
				t.Errorf("%v, %v", found, err)
			}
		})
	}
}

func writeAt(path string, at int64, text string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteAt([]byte(text), at)
	return err
}

// TestExtractDamaged: nothing is left of what cannot be extracted.
func TestExtractDamaged(t *testing.T) {
	line := `"/nowhere/x" 10 1 0644 0 0 private file-1`
	for _, test := range []struct {
		list, member string
		fail         error
		errno        syscall.Errno
	}{
		{line + " 0+10\n", "123", nil, syscall.EINVAL},
		{line + " 0+10\n", "", syscall.EIO, syscall.EIO},
		{`"/nowhere/x" 10 1 0644 0 0 private file-2` + " 0+10\n", "0123456789", nil, syscall.EINVAL},
		{"x\n", "", nil, syscall.EINVAL},
		{`"/nowhere/x" 9223372036854775807 1 0644 0 0 private file-1` + "\n", "", nil, largest(t)},
		{`"/nowhere/` + strings.Repeat("x", 300) + `" 0 1 0644 0 0 private file-1` + "\n", "", nil, syscall.ENAMETOOLONG},
	} {
		l := newSavedLab(t)
		l.ctx.of[images.SavedFilesName] = []byte(savedFilesHeader + test.list)
		l.ctx.of["file-1"] = []byte(test.member)
		l.ctx.fail = test.fail
		c, found, err := l.extract()
		if errors.Is(err, images.ErrSavedFiles) {
			err = syscall.EINVAL // as the engine says it
		}
		if test.errno == 0 && err != nil || test.errno != 0 && !errors.Is(err, test.errno) {
			t.Errorf("%q: %v, %v", test.list, found, err)
		}
		c.Remove()
		if left, _ := os.ReadDir(os.TempDir()); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	}
}

// largest is the errno that a file of 2^63-1 bytes fails with: on most file systems
// EFBIG, on tmpfs none.
func largest(t *testing.T) syscall.Errno {
	f, err := os.Create(filepath.Join(t.TempDir(), "large"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(math.MaxInt64); err != nil {
		return syscall.EFBIG
	}
	return 0
}

// TestSaveFails: a file that cannot be read is an error that names it.
func TestSaveFails(t *testing.T) {
	err := readError("/a\nb", unix.EACCES)
	var e *ckpt.Error
	if !errors.As(err, &e) || e.Object != "/a\nb" || e.Errno != unix.EACCES || fmt.Sprint(e.Detail) != `[cannot save "/a\nb": Permission denied]` {
		t.Errorf("%#v", err)
	}
	d := &fileData{from: strings.NewReader("123"), left: 4}
	if _, err := io.ReadAll(d); err != errShorter || d.err != errShorter {
		t.Errorf("a file that is cut: %v", err)
	}
	if err := readError("/a", errShorter); !errors.Is(err, unix.EBUSY) {
		t.Errorf("a file that is cut: %v", err)
	}
}
