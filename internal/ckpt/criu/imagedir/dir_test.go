package imagedir

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/criu/images"
)

// imageDir makes a directory and opens it.
func imageDir(t *testing.T, files map[string]string) (fd int, dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd, dir
}

// served is what Serve writes.
func served(t *testing.T, s *Dir, name string) ([]byte, error) {
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
	err := s.Serve(name, p[1])
	if flags, _ := unix.FcntlInt(uintptr(p[1]), unix.F_GETFL, 0); flags&unix.O_NONBLOCK != 0 {
		t.Error("the pipe stays non-blocking")
	}
	unix.Close(p[1])
	return <-read, err
}

func TestDir(t *testing.T) {
	large := bytes.Repeat([]byte("0123456789abcdef"), 1<<18)
	fd, dir := imageDir(t, map[string]string{images.InventoryName: "inventory", "apparmor.img": "", "pages-1.img": string(large)})
	if err := os.Symlink("/etc/passwd", dir+"/link.img"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir+"/sub.img", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(dir+"/fifo.img", 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Open(fd, "D")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Restorable(); err != nil {
		t.Error(err)
	}
	list, err := s.List()
	slices.SortFunc(list, func(a, b Image) int { return strings.Compare(a.Name, b.Name) })
	if err != nil || len(list) != 3 || list[2].Name != "pages-1.img" || list[2].Size != int64(len(large)) || time.Since(list[2].ModTime) > time.Hour {
		t.Errorf("%+v, %v", list, err)
	}
	// Another directory gets the name.
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]byte{images.InventoryName: []byte("inventory"), "apparmor.img": {}, "pages-1.img": large} {
		if !s.Has(name) {
			t.Errorf("no %s", name)
		}
		if b, err := s.Bytes(name); err != nil || !bytes.Equal(b, want) {
			t.Errorf("%s: %d bytes, %v", name, len(b), err)
		}
		if b, err := served(t, s, name); err != nil || !bytes.Equal(b, want) {
			t.Errorf("%s: %d bytes served, %v", name, len(b), err)
		}
	}
	for _, name := range []string{"", ".", "..", "none.img", "link.img", "sub.img", "fifo.img", "../" + filepath.Base(dir) + ".away/" + images.InventoryName, dir + ".away/" + images.InventoryName} {
		if s.Has(name) {
			t.Errorf("has %q", name)
		}
		if _, err := s.Bytes(name); ckpt.ErrnoOf(err) != unix.EINVAL {
			t.Errorf("%q: %v", name, err)
		}
		if _, err := served(t, s, name); ckpt.ErrnoOf(err) != unix.EINVAL {
			t.Errorf("%q: %v", name, err)
		}
	}

	// A reader that does not read.
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	go func() {
		// When there is something in the pipe.
		fds := []unix.PollFd{{Fd: int32(p[0]), Events: unix.POLLIN}}
		for n := 0; n <= 0; {
			n, _ = unix.Poll(fds, -1)
		}
		s.Abort()
	}()
	if err := s.Serve("pages-1.img", p[1]); ckpt.ErrnoOf(err) != unix.ECANCELED {
		t.Errorf("aborted: %v", err)
	}
	unix.Close(p[0])
	unix.Close(p[1])
	if _, err := s.Bytes(images.InventoryName); ckpt.ErrnoOf(err) != unix.ECANCELED {
		t.Errorf("after Abort: %v", err)
	}
	s.Close()
	s.Close()
}

func TestRestorable(t *testing.T) {
	check := func(fd int, want syscall.Errno, detail string) {
		t.Helper()
		d, err := Open(fd, "D")
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		e, ok := d.Restorable().(*ckpt.Error)
		if !ok || e.Errno != want || len(e.Detail) != 1 || e.Detail[0] != detail {
			t.Errorf("%#v", e)
		}
	}
	fd, _ := imageDir(t, map[string]string{"pstree.img": ""})
	check(fd, unix.EINVAL, "D: there is no inventory.img in it, so it is no directory of images")
	fd, dir := imageDir(t, map[string]string{images.InventoryName: ""})
	if err := os.Symlink("../1", dir+"/parent"); err != nil {
		t.Fatal(err)
	}
	check(fd, unix.EOPNOTSUPP, "D: it only holds what has changed since an earlier dump, which criu alone can restore")
	if _, err := Open(-1, "D"); ckpt.ErrnoOf(err) != unix.EBADF {
		t.Error(err)
	}
}

func TestWriter(t *testing.T) {
	fd, dir := imageDir(t, nil)
	s := NewWriter(fd)
	if err := s.Bytes(images.SavedFilesName, []byte("a list")); err != nil {
		t.Error(err)
	}
	if err := s.File("file-1", bytes.NewReader([]byte("a file"))); err != nil {
		t.Error(err)
	}
	for name, want := range map[string]string{images.SavedFilesName: "a list", "file-1": "a file"} {
		if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(b) != want {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
	if err := s.Bytes(images.SavedFilesName, nil); ckpt.ErrnoOf(err) != unix.EEXIST {
		t.Errorf("twice: %v", err)
	}
	if err := s.Bytes("unheard-of", nil); ckpt.ErrnoOf(err) != unix.EINVAL {
		t.Errorf("no member: %v", err)
	}
	s.Abort()
	if err := s.Bytes("file-2", []byte("x")); ckpt.ErrnoOf(err) != unix.ECANCELED {
		t.Errorf("after Abort: %v", err)
	}
}
