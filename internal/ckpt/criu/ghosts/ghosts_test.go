package ghosts

import (
	"context"
	"encoding/binary"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"blcr-cli/internal/ckpt/criu/images"
)

// message is a protobuf message: pairs of a field's number and an int, a string, or a message.
type message []any

func (m message) bytes() []byte {
	var b []byte
	for i := 0; i < len(m); i += 2 {
		num := uint64(m[i].(int))
		var data []byte
		switch v := m[i+1].(type) {
		case int:
			b = binary.AppendUvarint(binary.AppendUvarint(b, num<<3), uint64(v))
			continue
		case string:
			data = []byte(v)
		case message:
			data = v.bytes()
		}
		b = append(binary.AppendUvarint(binary.AppendUvarint(b, num<<3|2), uint64(len(data))), data...)
	}
	return b
}

// image is an image of one kind.
func image(magic uint32, entries ...message) []byte {
	b := binary.LittleEndian.AppendUint32(nil, 0x54564319)
	b = binary.LittleEndian.AppendUint32(b, magic)
	for _, e := range entries {
		m := e.bytes()
		b = append(binary.LittleEndian.AppendUint32(b, uint32(len(m))), m...)
	}
	return b
}

// memory is a context.
type memory map[string][]byte

func (m memory) Has(name string) bool              { return m[name] != nil }
func (m memory) Bytes(name string) ([]byte, error) { return m[name], nil }
func (m memory) ReadAt(name string, b []byte, offset int64) (int, error) {
	if m[name] == nil {
		return 0, fs.ErrNotExist
	}
	return copy(b, m[name][offset:]), nil
}

const filesMagic, remapMagic, ghostMagic = 0x56303138, 0x59133954, 0x52583605

// job is a context with ghost files of some names, and its files.img.
func job(names ...string) (m memory, files []byte) {
	m = memory{}
	var entries, remaps []message
	for i, name := range names {
		id := i + 1
		entries = append(entries, message{1, 1, 2, id, 3, message{1, id, 2, 2, 3, 0, 5, message{1, 0, 2, 0, 3, 0, 4, 0, 5, 0}, 6, name[1:]}})
		remaps = append(remaps, message{1, id, 2, id, 3, 1})
		m[images.GhostName(uint32(id))] = append(image(ghostMagic, message{
			1, os.Getuid(), 2, os.Getgid(), 3, 0o100640, 7, message{1, 1e9, 2, 1}, 8, message{1, 1e9 + id, 2, 123456},
		}), "content"...)
	}
	m[images.RemapName] = image(remapMagic, remaps...)
	return m, image(filesMagic, entries...)
}

// makeGhost creates the ghost file of number id as criu does.
func makeGhost(t *testing.T, path string, id int) {
	t.Helper()
	if err := os.WriteFile(path, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	when := time.Unix(1e9+int64(id), 123456000)
	if err := os.Chtimes(path, when, when); err != nil {
		t.Fatal(err)
	}
}

// tree lists what is in a directory.
func tree(t *testing.T, dir string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if path != dir {
			names = append(names, path[len(dir)+1:])
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func find(t *testing.T, m memory, files []byte) *Names {
	t.Helper()
	n, err := Find(m, files)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	if err := n.Lock(context.Background()); err != nil {
		t.Fatal(err)
	}
	return n
}

func hardLink(t *testing.T, old, name string) {
	t.Helper()
	if err := os.Link(old, name); err != nil {
		t.Fatal(err)
	}
}

// TestRemove: what criu has made is removed at each step that it may be killed at, and
// what others have made is not.
func TestRemove(t *testing.T) {
	d := t.TempDir()
	in := func(name string) string { return filepath.Join(d, name) }
	if err := os.WriteFile(in("used"), []byte("new"), 0o640); err != nil {
		t.Fatal(err)
	}
	m, files := job(in("a"), in("used"), in("c"), in("gone/deep/d"), in("e"), in("f"))
	n := find(t, m, files)

	// Criu was killed while it wrote the content of a.
	if err := os.WriteFile(in("a.cr.1.ghost"), []byte("con"), 0o600); err != nil {
		t.Fatal(err)
	}
	makeGhost(t, in("used.cr.2.ghost"), 2)
	hardLink(t, in("used.cr.2.ghost"), in("used.cr_link"))
	makeGhost(t, in("c"), 3) // its ghost file was removed
	makeGhost(t, in("d.cr.4.ghost"), 4)
	if err := os.MkdirAll(in("gone/deep"), 0o755); err != nil {
		t.Fatal(err)
	}
	hardLink(t, in("d.cr.4.ghost"), in("gone/deep/d"))
	// Somebody else's.
	for _, name := range []string{"e", "f.cr_link", "a.cr.2.ghost"} {
		if err := os.WriteFile(in(name), []byte("content"), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	n.Remove()
	if got, want := tree(t, d), []string{"a.cr.2.ghost", "e", "f.cr_link", "used"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestRemoveDirectory: a removed directory, which criu makes again by its own name.
func TestRemoveDirectory(t *testing.T) {
	d := t.TempDir()
	m, files := job(filepath.Join(d, "ours"), filepath.Join(d, "other"))
	when := time.Unix(1e9+1, 123456000)
	for id := 1; id <= 2; id++ {
		m[images.GhostName(uint32(id))] = image(ghostMagic, message{
			1, os.Getuid(), 2, os.Getgid(), 3, 0o40750, 7, message{1, 1e9, 2, 1}, 8, message{1, int(when.Unix()), 2, 123456},
		})
	}
	n := find(t, m, files)
	for _, name := range []string{"ours", "other"} {
		if err := os.Mkdir(filepath.Join(d, name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(d, name), 0o750); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chtimes(filepath.Join(d, "ours"), when, when); err != nil {
		t.Fatal(err)
	}
	n.Remove()
	if got, want := tree(t, d), []string{"other"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestKilledBefore: a restart of the same context removes what a killed one has left, as
// far as it is in the way, and nothing else.
func TestKilledBefore(t *testing.T) {
	d := t.TempDir()
	in := func(name string) string { return filepath.Join(d, name) }
	m, files := job(in("a"), in("b"))
	makeGhost(t, in("a.cr.1.ghost"), 1)
	hardLink(t, in("a.cr.1.ghost"), in("a.cr_link"))
	makeGhost(t, in("b.cr_link"), 7) // of another time
	makeGhost(t, in("b"), 2)
	n := find(t, m, files)
	if got, want := tree(t, d), []string{"b", "b.cr_link"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	n.Remove()
	if got, want := tree(t, d), []string{"b", "b.cr_link"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestLock: two restarts with ghost files in a directory follow one another; an
// interrupted one does not wait.
func TestLock(t *testing.T) {
	d := t.TempDir()
	m, files := job(filepath.Join(d, "a"))
	first := find(t, m, files)
	second, err := Find(m, files)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := second.Lock(ctx); err == nil {
		t.Fatal("the lock was free")
	}
	done := make(chan error)
	go func() { done <- second.Lock(context.Background()) }()
	first.Unlock()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestSockets: the socket that a failed restore has bound is removed, one that listens is
// not, and what criu has put aside comes back.
func TestSockets(t *testing.T) {
	d := t.TempDir()
	var entries []message
	for i, name := range []string{"dead", "alive", "aside"} {
		entries = append(entries, message{1, 5, 2, i + 1, 16, message{
			1, i + 1, 2, i + 10, 3, 1, 4, 10, 5, 2, 6, 0, 7, 0, 8, 0, 9, message{1, 0, 2, 0, 3, 0, 4, 0, 5, 0}, 10, message{1, 1, 2, 1},
			11, filepath.Join(d, name) + "\x00",
		}})
	}
	n := find(t, memory{}, image(filesMagic, entries...))
	for _, name := range []string{"dead", "alive"} {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(d, name), Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		l.SetUnlinkOnClose(false)
		if name == "dead" {
			l.Close()
		} else {
			defer l.Close()
		}
	}
	if err := os.WriteFile(filepath.Join(d, "aside"+parkedSuffix), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	n.Remove()
	if got, want := tree(t, d), []string{"alive", "aside"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestMalformed: a context may hold anything.
func TestMalformed(t *testing.T) {
	m, files := job("/a")
	m[images.GhostName(1)] = []byte("?")
	if _, err := Find(m, files); err == nil {
		t.Error("a ghost file without magic number")
	}
	delete(m, images.GhostName(1))
	if _, err := Find(m, files); err == nil {
		t.Error("no ghost file")
	}
}
