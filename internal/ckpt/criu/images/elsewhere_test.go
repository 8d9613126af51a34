package images

import (
	"maps"
	"testing"

	criufdinfo "github.com/checkpoint-restore/go-criu/v8/crit/images/fdinfo"
	criureg "github.com/checkpoint-restore/go-criu/v8/crit/images/regfile"
	"google.golang.org/protobuf/proto"
)

// TestElsewhere: an external file whose name was noted is opened by that, and no other.
func TestElsewhere(t *testing.T) {
	note := AppendElsewhere(nil, 0x1f, 0xabc, "/tmp/a \"b\"\n")
	note = append(note, "1:2 /unquoted\n1:3 \"relative\"\n\n"...)
	names := ParseElsewhere(note)
	if !maps.Equal(names, map[string]string{ExternalFile(0x1f, 0xabc): "/tmp/a \"b\"\n"}) {
		t.Fatalf("%q from %q", names, note)
	}
	file := func(id uint32, name string, external *bool) *criufdinfo.FileEntry {
		reg := &criureg.RegFileEntry{Id: &id, Name: &name, Ext: external, Pos: new(uint64(7))}
		return &criufdinfo.FileEntry{Type: criufdinfo.FdTypes_REG.Enum(), Id: &id, Reg: reg}
	}
	files := []proto.Message{
		file(1, "file[1f:abc]", new(true)), file(2, "file[1f:abd]", new(true)),
		file(3, "file[1f:abc]", nil), file(4, "/tmp/x", nil),
	}
	out, err := NameExternal(encode(t, kindFiles, files...), names)
	if err != nil {
		t.Fatal(err)
	}
	files[0] = file(1, "/tmp/a \"b\"\n", nil)
	var got []proto.Message
	err = kindFiles.each(out, func(_ int, m message) error {
		f := new(criufdinfo.FileEntry)
		got = append(got, f)
		return proto.UnmarshalOptions{AllowPartial: true}.Unmarshal(m.append(nil), f)
	})
	if err != nil || len(got) != len(files) {
		t.Fatalf("%v, %v", got, err)
	}
	for i := range files {
		if !proto.Equal(got[i], files[i]) {
			t.Errorf("file %d is %v, want %v", i, got[i], files[i])
		}
	}
	if copied, id, err := CopyFile(out, 4); err != nil || id != 5 {
		t.Errorf("id %d, %v", id, err)
	} else if list, err := Files(copied); err != nil || len(list) != 5 || list[4].Name != "/tmp/x" || list[4].ID != 5 {
		t.Errorf("%v, %v", list, err)
	}
	if _, _, err := CopyFile(out, 9); err == nil {
		t.Error("a file that is not there is copied")
	}
}
