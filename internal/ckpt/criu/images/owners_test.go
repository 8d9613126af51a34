package images

import (
	"slices"
	"testing"

	criufdinfo "github.com/checkpoint-restore/go-criu/v8/crit/images/fdinfo"
	criumemfd "github.com/checkpoint-restore/go-criu/v8/crit/images/memfd"
	criuunix "github.com/checkpoint-restore/go-criu/v8/crit/images/sk-unix"
	"google.golang.org/protobuf/proto"
)

// TestOwners: whose something is that is made again is read from the images that say so.
func TestOwners(t *testing.T) {
	socket := func(id uint32, name string, state, kind uint32) proto.Message {
		return &criufdinfo.FileEntry{Type: criufdinfo.FdTypes_UNIXSK.Enum(), Id: new(id), Usk: &criuunix.UnixSkEntry{
			Id: new(id), State: new(state), Type: new(kind), Uflags: new(uint32(0)), Name: []byte(name),
			FilePerms: &criuunix.FilePermsEntry{Mode: new(uint32(0o140755)), Uid: new(uint32(5)), Gid: new(uint32(6))},
		}}
	}
	lost := socket(6, "/r\x00", 10, 1).(*criufdinfo.FileEntry)
	lost.Usk.Deleted = new(true)
	without, err := DropLostOwners(encode(t, kindFiles, lost, socket(1, "/s\x00", 10, 1)))
	lost.Usk.FilePerms = nil
	if err != nil || !equalEntries(t, without, encode(t, kindFiles, lost, socket(1, "/s\x00", 10, 1))) {
		t.Errorf("%v: %x", err, without)
	}
	for _, c := range []struct {
		name string
		img  []byte
		want []Owned
	}{
		{MemFDName, encode(t, kindMemFD, &criumemfd.MemfdInodeEntry{Name: new("m"), Uid: new(uint32(3)), Gid: new(uint32(4)), InodeId: new(uint64(9))}), []Owned{{UID: 3, GID: 4}}},
		{FilesName, encode(t, kindFiles,
			socket(1, "/s\x00", 10, 1), socket(2, "/d\x00", 7, 2),
			// One that was accepted, one without a name, and an abstract one are not bound again.
			socket(3, "/s\x00", 1, 1), socket(4, "", 10, 1), socket(5, "\x00a", 10, 1), lost),
			[]Owned{{UID: 5, GID: 6, Name: "/s"}, {UID: 5, GID: 6, Name: "/d"}}},
		{"pstree.img", nil, nil},
	} {
		got, err := Owners(c.name, c.img)
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %+v, %v, want %+v", c.name, got, err, c.want)
		}
	}
}
