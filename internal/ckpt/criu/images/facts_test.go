package images

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"

	criufdinfo "github.com/checkpoint-restore/go-criu/v8/crit/images/fdinfo"
	criufown "github.com/checkpoint-restore/go-criu/v8/crit/images/fown"
	criumemfd "github.com/checkpoint-restore/go-criu/v8/crit/images/memfd"
	criumm "github.com/checkpoint-restore/go-criu/v8/crit/images/mm"
	criupagemap "github.com/checkpoint-restore/go-criu/v8/crit/images/pagemap"
	criuinet "github.com/checkpoint-restore/go-criu/v8/crit/images/sk-inet"
	criuskopts "github.com/checkpoint-restore/go-criu/v8/crit/images/sk-opts"
	"google.golang.org/protobuf/proto"
)

// encode makes an image of CRIU's own types.
func encode(t testing.TB, k kind, entries ...proto.Message) []byte {
	t.Helper()
	b := binary.LittleEndian.AppendUint32(nil, commonMagic)
	b = binary.LittleEndian.AppendUint32(b, k.magic)
	for _, m := range entries {
		payload, err := proto.MarshalOptions{AllowPartial: true}.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		b = binary.LittleEndian.AppendUint32(b, uint32(len(payload)))
		b = append(b, payload...)
	}
	return b
}

func TestPagemap(t *testing.T) {
	head := &criupagemap.PagemapHead{PagesId: new(uint32(7))}
	for name, test := range map[string]struct {
		entries []proto.Message
		want    Pagemap
		bad     bool
	}{
		"none":    {entries: []proto.Message{head}, want: Pagemap{PagesID: 7}},
		"no head": {bad: false},
		"present": {entries: []proto.Message{
			head,
			&criupagemap.PagemapEntry{Vaddr: new(uint64(0x1000)), CompatNrPages: new(uint32(3)), Flags: new(uint32(4))},
			&criupagemap.PagemapEntry{Vaddr: new(uint64(0x9000)), CompatNrPages: new(uint32(0)), NrPages: new(uint64(1 << 33)), Flags: new(uint32(6))},
		}, want: Pagemap{PagesID: 7, Saved: 1<<33 + 3}},
		"parent, lazy": {entries: []proto.Message{
			head,
			&criupagemap.PagemapEntry{Vaddr: new(uint64(0)), CompatNrPages: new(uint32(3)), Flags: new(uint32(1))},
			&criupagemap.PagemapEntry{Vaddr: new(uint64(0)), CompatNrPages: new(uint32(5)), Flags: new(uint32(2))},
		}, want: Pagemap{PagesID: 7, InParent: 3}},
		"old": {entries: []proto.Message{
			head,
			&criupagemap.PagemapEntry{Vaddr: new(uint64(0)), CompatNrPages: new(uint32(3))},
			&criupagemap.PagemapEntry{Vaddr: new(uint64(0)), CompatNrPages: new(uint32(5)), InParent: new(true)},
		}, want: Pagemap{PagesID: 7, Saved: 3, InParent: 5}},
		"impossible": {entries: []proto.Message{
			head, &criupagemap.PagemapEntry{Vaddr: new(uint64(0)), CompatNrPages: new(uint32(0)), NrPages: new(uint64(1 << 63)), Flags: new(uint32(4))},
		}, bad: true},
		"no count":   {entries: []proto.Message{head, &criupagemap.PagemapEntry{Vaddr: new(uint64(0))}}, bad: true},
		"other head": {entries: []proto.Message{&criupagemap.PagemapHead{}}, bad: true},
	} {
		got, err := ReadPagemap(encode(t, kindPagemap, test.entries...))
		if errors.Is(err, ErrMalformed) != test.bad || !test.bad && got != test.want {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	img := encode(t, kindPagemap, head)
	if _, err := ReadPagemap(img[:len(img)-1]); !errors.Is(err, ErrMalformed) {
		t.Errorf("cut off: %v", err)
	}
	if _, err := ReadPagemap(read(t, "files")); !errors.Is(err, ErrMalformed) {
		t.Errorf("another image: %v", err)
	}
}

// TestFindPage: the pages that were saved follow one another in their image, and others have
// no place in it.
func TestFindPage(t *testing.T) {
	size := uint64(os.Getpagesize())
	entry := func(page uint64, count, flags uint32) proto.Message {
		return &criupagemap.PagemapEntry{Vaddr: new(page * size), CompatNrPages: new(count), Flags: new(flags)}
	}
	img := encode(t, kindPagemap, &criupagemap.PagemapHead{PagesId: new(uint32(7))},
		entry(10, 3, 4), entry(20, 5, 1), entry(30, 5, 2), entry(40, 2, 6),
		&criupagemap.PagemapEntry{Vaddr: new(1000 * size), CompatNrPages: new(uint32(0)), NrPages: new(uint64(1 << 51)), Flags: new(uint32(4))})
	for page, want := range map[uint64]int64{9: -1, 10: 0, 12: 2, 13: -1, 20: -1, 30: -1, 40: 3, 41: 4, 42: -1, 1000: 5, 1 << 40: 5 + 1<<40 - 1000} {
		got, ok := FindPage(img, page*size+size/2)
		if ok != (want >= 0) || ok && got != uint64(want) {
			t.Errorf("page %d: %d, %v, want %d", page, got, ok, want)
		}
	}
	// The beginning of it.
	if got, ok := FindPage(img[:len(img)-1], 41*size); !ok || got != 4 {
		t.Errorf("of the beginning: %d, %v", got, ok)
	}
	if _, ok := FindPage(nil, 0); ok {
		t.Error("in nothing")
	}
}

// A large pagemap takes no memory to speak of.
func TestPagemapAllocations(t *testing.T) {
	entries := []proto.Message{&criupagemap.PagemapHead{PagesId: new(uint32(1))}}
	for range 10000 {
		entries = append(entries, &criupagemap.PagemapEntry{Vaddr: new(uint64(1 << 40)), CompatNrPages: new(uint32(1)), Flags: new(uint32(4))})
	}
	img := encode(t, kindPagemap, entries...)
	if n := testing.AllocsPerRun(10, func() { _, _ = ReadPagemap(img) }); n > 20 {
		t.Errorf("%v allocations", n)
	}
}

func TestInetSockets(t *testing.T) {
	words := func(s string) (all []uint32) {
		for b := netip.MustParseAddr(s).AsSlice(); len(b) > 0; b = b[4:] {
			all = append(all, binary.LittleEndian.Uint32(b))
		}
		return all
	}
	entry := func(id uint32, socket *criuinet.InetSkEntry) proto.Message {
		socket.Id, socket.Ino, socket.Family, socket.Flags, socket.Backlog = new(id), new(id+100), new(uint32(2)), new(uint32(2)), new(uint32(0))
		socket.Type, socket.Proto = new(uint32(1)), new(uint32(6))
		socket.Fown, socket.Opts = &criufown.FownEntry{}, &criuskopts.SkOptsEntry{}
		return &criufdinfo.FileEntry{Type: criufdinfo.FdTypes_INETSK.Enum(), Id: new(id), Isk: socket}
	}
	img := encode(t, kindFiles,
		entry(1, &criuinet.InetSkEntry{State: new(uint32(1)), SrcAddr: words("127.0.0.1"), SrcPort: new(uint32(80)), DstAddr: words("10.1.2.3"), DstPort: new(uint32(4000)), Shutdown: criuskopts.SkShutdown_WRITE.Enum()}),
		entry(2, &criuinet.InetSkEntry{State: new(uint32(10)), SrcAddr: words("fe80::1"), SrcPort: new(uint32(443)), DstAddr: words("::"), DstPort: new(uint32(0))}),
		entry(3, &criuinet.InetSkEntry{State: new(uint32(7)), SrcAddr: []uint32{1, 2}, SrcPort: new(uint32(1)), DstPort: new(uint32(0))}),
		&criufdinfo.FileEntry{Type: criufdinfo.FdTypes_MEMFD.Enum(), Id: new(uint32(4)), Memfd: &criumemfd.MemfdFileEntry{
			Id: new(uint32(4)), Flags: new(uint32(2)), Pos: new(uint64(12)), Fown: &criufown.FownEntry{}, InodeId: new(uint32(9)),
		}},
	)
	files := must[[]File](t)(Files(img))
	for i, want := range []InetSocket{
		{6, InetAddr{"\x7f\x00\x00\x01", 80}, InetAddr{"\x0a\x01\x02\x03", 4000}, 2},
		{6, InetAddr{"\xfe\x80" + strings.Repeat("\x00", 13) + "\x01", 443}, InetAddr{strings.Repeat("\x00", 16), 0}, 0},
		{6, InetAddr{"\x01\x00\x00\x00\x02\x00\x00\x00", 1}, InetAddr{}, 0},
	} {
		f := files[i]
		if f.Inet != want || f.Inode != f.ID+100 || f.SocketType != 1 || f.State != []uint32{1, 10, 7}[i] {
			t.Errorf("%+v, want %+v", f, want)
		}
	}
	opened := must[[]File](t)(Files(must[[]byte](t)(OpenConnections(img, map[uint32]bool{1: true, 3: true}))))
	for i, f := range opened {
		want := files[i]
		if i == 0 || i == 2 {
			want.State, want.Inet.Shutdown = 1, 0
		}
		if f.State != want.State || f.Inet != want.Inet {
			t.Errorf("%+v, want %+v", f, want)
		}
	}
	if f := files[3]; f.MemFD != 9 || f.Pos != 12 || f.Flags != 2 {
		t.Errorf("memfd: %+v", f)
	}
	names := must[map[uint32]string](t)(MemFDNames(encode(t, kindMemFD, &criumemfd.MemfdInodeEntry{
		Name: new("a\nname"), InodeId: new(uint64(9)),
	})))
	if names[9] != "a\nname" || len(names) != 1 {
		t.Errorf("names: %v", names)
	}
}

func TestOwnerAndMemory(t *testing.T) {
	core := must[Core](t)(ReadCore(read(t, "core-root")))
	if core.Machine != "x86_64" || core.UID != 0 || core.GID != 0 {
		t.Errorf("%+v", core)
	}
	memory := must[Memory](t)(TaskMemory(read(t, "mm-root")))
	var size uint64
	for _, v := range entries(t, read(t, "mm-root"), func() *criumm.MmEntry { return new(criumm.MmEntry) })[0].Vmas {
		if v.GetStatus()&(1<<2) == 0 {
			size += v.GetEnd() - v.GetStart()
		}
	}
	if memory.Size != size || size == 0 {
		t.Errorf("%d bytes are mapped, want %d", memory.Size, size)
	}
}

// A message cannot be made to take many times its size in memory.
func TestMaxFields(t *testing.T) {
	b := make([]byte, 0, 2*maxFields+2)
	for range maxFields {
		b = append(b, 8, 0)
	}
	if m, err := parseMessage(b); err != nil || len(m) != maxFields {
		t.Errorf("%d fields, %v", len(m), err)
	}
	if _, err := parseMessage(append(b, 8, 0)); !errors.Is(err, ErrMalformed) {
		t.Errorf("one more: %v", err)
	}
}
