package images

import (
	"maps"
	"testing"

	criueventfd "github.com/checkpoint-restore/go-criu/v8/crit/images/eventfd"
	criufdinfo "github.com/checkpoint-restore/go-criu/v8/crit/images/fdinfo"
	criufown "github.com/checkpoint-restore/go-criu/v8/crit/images/fown"
	criupipe "github.com/checkpoint-restore/go-criu/v8/crit/images/pipe"
	criuregfile "github.com/checkpoint-restore/go-criu/v8/crit/images/regfile"
	criutimerfd "github.com/checkpoint-restore/go-criu/v8/crit/images/timerfd"
	"google.golang.org/protobuf/proto"
)

// TestMapOwners: of each kind of file the owner is replaced, and nothing else.
func TestMapOwners(t *testing.T) {
	img := func(own func(id uint32) uint32) []byte {
		fown := func(kind, id uint32) *criufown.FownEntry {
			return &criufown.FownEntry{Uid: new(uint32(1)), Euid: new(uint32(2)), Signum: new(uint32(12)), PidType: new(kind), Pid: new(own(id))}
		}
		n := uint32(3)
		return encode(t, kindFiles,
			&criufdinfo.FileEntry{Type: criufdinfo.FdTypes_REG.Enum(), Id: &n, Reg: &criuregfile.RegFileEntry{Id: &n, Flags: &n, Pos: new(uint64(7)), Fown: fown(1, 50), Name: new("/file")}},
			&criufdinfo.FileEntry{Type: criufdinfo.FdTypes_PIPE.Enum(), Id: &n, Pipe: &criupipe.PipeEntry{Id: &n, PipeId: &n, Flags: &n, Fown: fown(2, 60)}},
			&criufdinfo.FileEntry{Type: criufdinfo.FdTypes_EVENTFD.Enum(), Id: &n, Efd: &criueventfd.EventfdFileEntry{Id: &n, Flags: &n, Fown: fown(0, 70), Counter: new(uint64(5))}},
			&criufdinfo.FileEntry{Type: criufdinfo.FdTypes_TIMERFD.Enum(), Id: &n, Tfd: &criutimerfd.TimerfdEntry{Id: &n, Flags: &n, Fown: fown(0, 0), Clockid: &n, Ticks: new(uint64(1)), SettimeFlags: &n, Vsec: new(uint64(1)), Vnsec: new(uint64(1)), Isec: new(uint64(1)), Insec: new(uint64(1))}})
	}
	to := map[uint32]uint32{50: 0, 60: 61}
	got, err := MapOwners(img(func(id uint32) uint32 { return id }), func(kind OwnerKind, id int32) int32 {
		if want := map[int32]OwnerKind{50: OwnerProcess, 60: OwnerGroup, 70: OwnerThread}[id]; kind != want {
			t.Errorf("the kind of %d is %d, want %d", id, kind, want)
		}
		if other, ok := to[uint32(id)]; ok {
			return int32(other)
		}
		return id
	})
	want := img(func(id uint32) uint32 {
		if other, ok := to[id]; ok {
			return other
		}
		return id
	})
	if err != nil || !equalEntries(t, got, want) {
		t.Errorf("%v: %x, want %x", err, got, want)
	}
}

// TestOwnerFields: the bodies that have an owner are those of CRIU's own description.
func TestOwnerFields(t *testing.T) {
	want := make(map[uint32]uint32)
	owner := (&criufown.FownEntry{}).ProtoReflect().Descriptor().FullName()
	bodies := (&criufdinfo.FileEntry{}).ProtoReflect().Descriptor().Fields()
	for i := range bodies.Len() {
		body := bodies.Get(i)
		if body.Message() == nil {
			continue
		}
		for j := range body.Message().Fields().Len() {
			if f := body.Message().Fields().Get(j); f.Message() != nil && f.Message().FullName() == owner {
				want[uint32(body.Number())] = uint32(f.Number())
			}
		}
	}
	if !maps.Equal(ownerFields, want) {
		t.Errorf("%v, want %v", ownerFields, want)
	}
}

// equalEntries reports whether two files.img say the same.
func equalEntries(t *testing.T, one, other []byte) bool {
	t.Helper()
	read := func(img []byte) (list []*criufdinfo.FileEntry) {
		err := kindFiles.each(img, func(_ int, m message) error {
			e := &criufdinfo.FileEntry{}
			list = append(list, e)
			return proto.UnmarshalOptions{AllowPartial: true}.Unmarshal(m.append(nil), e)
		})
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	a, b := read(one), read(other)
	for i := range a {
		if i >= len(b) || !proto.Equal(a[i], b[i]) {
			return false
		}
	}
	return len(a) == len(b)
}
