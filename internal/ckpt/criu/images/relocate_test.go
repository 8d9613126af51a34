package images

import (
	"bytes"
	"strings"
	"testing"

	criufdinfo "github.com/checkpoint-restore/go-criu/v8/crit/images/fdinfo"
	criufh "github.com/checkpoint-restore/go-criu/v8/crit/images/fh"
	criufsnotify "github.com/checkpoint-restore/go-criu/v8/crit/images/fsnotify"
	criuunix "github.com/checkpoint-restore/go-criu/v8/crit/images/sk-unix"
	"google.golang.org/protobuf/proto"
)

// TestRelocateSockets: the names of UNIX sockets in the file system are relocated, and
// directories for relative ones, but no abstract names.
func TestRelocateSockets(t *testing.T) {
	type names struct{ name, dir string }
	all := []struct{ before, after names }{
		{names{"/a/s\x00", ""}, names{"/b/s\x00", ""}},
		{names{"/a/s", ""}, names{"/b/s", ""}},
		{names{"s\x00", "/a/x"}, names{"s\x00", "/b/x"}},
		{names{"\x00/a/s", ""}, names{"\x00/a/s", ""}},
		{names{"", ""}, names{"", ""}},
		{names{"/c/s\x00", ""}, names{"/c/s\x00", ""}},
	}
	var sockets []proto.Message
	for i, s := range all {
		u := &criuunix.UnixSkEntry{Name: []byte(s.before.name), Ino: new(uint32(9))}
		if s.before.dir != "" {
			u.NameDir = &s.before.dir
		}
		sockets = append(sockets, &criufdinfo.FileEntry{Type: criufdinfo.FdTypes_UNIXSK.Enum(), Id: new(uint32(i + 1)), Usk: u})
	}
	out, err := Relocate(encode(t, kindFiles, sockets...), func(name string) string {
		if rest, ok := strings.CutPrefix(name, "/a/"); ok {
			return "/b/" + rest
		}
		return name
	})
	if err != nil {
		t.Fatal(err)
	}
	files, err := Files(out)
	if err != nil || len(files) != len(all) {
		t.Fatalf("%v, %v", files, err)
	}
	for i, s := range all {
		if f := files[i]; f.SocketName != s.after.name || f.Dir != s.after.dir || f.Inode != 9 {
			t.Errorf("%q became %q in %q", s.before, f.SocketName, f.Dir)
		}
	}
}

// TestRelocateWatches: what inotify and fanotify watch is relocated, each of several.
func TestRelocateWatches(t *testing.T) {
	handle := func(path string) *criufh.FhEntry {
		h := &criufh.FhEntry{Bytes: new(uint32(8)), Type: new(uint32(1)), Handle: []uint64{1 << 40, 2}}
		if path != "" {
			h.Path = &path
		}
		return h
	}
	entries := func(a string) []proto.Message {
		mount := a + "/m"
		return []proto.Message{
			&criufdinfo.FileEntry{Type: criufdinfo.FdTypes_INOTIFY.Enum(), Id: new(uint32(1)), Ify: &criufsnotify.InotifyFileEntry{
				Id: new(uint32(1)), Wd: []*criufsnotify.InotifyWdEntry{
					{Id: new(uint32(1)), Wd: new(uint32(1)), FHandle: handle(a)},
					{Id: new(uint32(1)), Wd: new(uint32(2)), FHandle: handle("/c")},
					{Id: new(uint32(1)), Wd: new(uint32(3)), FHandle: handle("")},
					{Id: new(uint32(1)), Wd: new(uint32(4)), FHandle: handle(a + "/x")},
				},
			}},
			&criufdinfo.FileEntry{Type: criufdinfo.FdTypes_FANOTIFY.Enum(), Id: new(uint32(2)), Ffy: &criufsnotify.FanotifyFileEntry{
				Id: new(uint32(2)), Mark: []*criufsnotify.FanotifyMarkEntry{
					{Id: new(uint32(2)), Ie: &criufsnotify.FanotifyInodeMarkEntry{IIno: new(uint64(3)), FHandle: handle(a + "/y")}},
					{Id: new(uint32(2)), Me: &criufsnotify.FanotifyMountMarkEntry{MntId: new(uint32(3)), Path: &mount}},
				},
			}},
		}
	}
	out, err := Relocate(encode(t, kindFiles, entries("/a")...), func(name string) string {
		if rest, ok := strings.CutPrefix(name, "/a"); ok {
			return "/b" + rest
		}
		return name
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := encode(t, kindFiles, entries("/b")...); !bytes.Equal(out, want) {
		t.Errorf("%q, want %q", out, want)
	}
}
