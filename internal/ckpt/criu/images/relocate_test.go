package images

import (
	"strings"
	"testing"

	criufdinfo "github.com/checkpoint-restore/go-criu/v8/crit/images/fdinfo"
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
