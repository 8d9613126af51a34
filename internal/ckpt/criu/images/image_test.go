package images

import (
	"bytes"
	"encoding/binary"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	criufdinfo "github.com/checkpoint-restore/go-criu/v8/crit/images/fdinfo"
	criupstree "github.com/checkpoint-restore/go-criu/v8/crit/images/pstree"
	criutty "github.com/checkpoint-restore/go-criu/v8/crit/images/tty"
	"google.golang.org/protobuf/proto"

	"blcr-cli/internal/ckpt"
)

// What testdata/README describes.
const (
	rootPID  = 11582
	shellSID = 11581
	ownGroup = 11584
	ownSess  = 11585
	pipe     = 24235871
)

func read(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name+".img"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// must is for calls that cannot fail.
func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// decode reads all entries of an image with CRIU's own types, which also asks
// for every required field.
func decode[T proto.Message](t *testing.T, img []byte, empty func() T) []T {
	t.Helper()
	var all []T
	for img = img[8:]; len(img) > 0; {
		n := binary.LittleEndian.Uint32(img)
		m := empty()
		if err := proto.Unmarshal(img[4:4+n], m); err != nil {
			t.Fatal(err)
		}
		all = append(all, m)
		img = img[4+n:]
	}
	return all
}

// image makes an image of entries.
func image(k kind, entries ...message) []byte {
	var b []byte
	if k != kindInventory {
		b = binary.LittleEndian.AppendUint32(b, commonMagic)
	}
	b = binary.LittleEndian.AppendUint32(b, k.magic)
	for _, m := range entries {
		payload := m.encode()
		b = binary.LittleEndian.AppendUint32(b, uint32(len(payload)))
		b = append(b, payload...)
	}
	return b
}

// pstree makes a pstree.img.
func pstree(tasks ...Task) []byte {
	var all []message
	for _, t := range tasks {
		m := message{
			numberField(1, uint64(t.PID)), numberField(2, uint64(t.PPID)),
			numberField(3, uint64(t.PGID)), numberField(4, uint64(t.SID)),
		}
		for _, id := range t.Threads {
			m = append(m, numberField(5, uint64(id)))
		}
		all = append(all, m)
	}
	return image(kindPstree, all...)
}

func TestRead(t *testing.T) {
	tasks := must[[]Task](t)(Tasks(read(t, "pstree")))
	want := []Task{
		{11582, 0, shellSID, shellSID, []int32{11582}},
		{11583, rootPID, shellSID, shellSID, []int32{11583}},
		{11584, rootPID, ownGroup, shellSID, []int32{11584}},
		{11585, rootPID, ownSess, ownSess, []int32{11585}},
		{11586, ownSess, ownSess, ownSess, []int32{11586}},
	}
	if !reflect.DeepEqual(tasks, want) {
		t.Errorf("tasks %+v", tasks)
	}
	if ids := must[IDs](t)(TaskIDs(read(t, "ids-root"))); ids.Files != 2 || ids.Time != 5 {
		t.Errorf("ids %+v", ids)
	}
	core := must[Core](t)(ReadCore(read(t, "core-root")))
	if core.Comm != "tree" || !core.Leader || core.State != StateStopped {
		t.Errorf("core %+v", core)
	}
	if inv := must[Inventory](t)(ReadInventory(read(t, "inventory"))); inv.Version != 2 || !inv.FDInfoPerID || inv.Root.Files != 1 {
		t.Errorf("inventory %+v", inv)
	}
	remaps := must[[]Remap](t)(Remaps(read(t, "remap-fpath")))
	if !slices.Equal(remaps, []Remap{{6, 1, RemapGhost}}) {
		t.Errorf("remaps %+v", remaps)
	}
	data := must[[]PipeData](t)(PipesData(read(t, "pipes-data")))
	if len(data) != 1 || data[0].PipeID != pipe || string(data[0].Data) != "pending" || data[0].Size != 65536 {
		t.Errorf("pipes-data %+v", data)
	}

	names := make(map[uint32]string)
	for _, f := range must[[]File](t)(Files(read(t, "files"))) {
		names[f.ID] = f.Name
	}
	dirs := must[Dirs](t)(TaskDirs(read(t, "fs-root")))
	if names[dirs.Cwd] != "/tmp/job" || names[dirs.Root] != "/" {
		t.Errorf("dirs %+v", dirs)
	}
	mem := must[Memory](t)(TaskMemory(read(t, "mm-root")))
	if names[mem.Exe] != "/tmp/job/tree" || len(mem.Mappings) != 6 {
		t.Errorf("memory %+v", mem)
	}
	for _, m := range mem.Mappings {
		if m.Shared != (names[m.File] == "/tmp/job/data") {
			t.Errorf("mapping %+v of %s", m, names[m.File])
		}
	}
}

func TestAdoptTasks(t *testing.T) {
	type ids struct{ sid, pgid int32 }
	us := ids{400, 500}
	for _, test := range []struct {
		name      string
		sid, pgid bool
		want      []ids
		missing   []int32
	}{
		{"default", false, false, []ids{us, us, us, us, us}, nil},
		{
			"restore-pgid", false, true,
			[]ids{{400, shellSID}, {400, shellSID}, {400, ownGroup}, {400, ownSess}, {400, ownSess}},
			[]int32{shellSID},
		},
		{"restore-sid", true, false, []ids{us, us, us, {ownSess, ownSess}, {ownSess, ownSess}}, nil},
		{
			"both", true, true,
			[]ids{{400, shellSID}, {400, shellSID}, {400, ownGroup}, {ownSess, ownSess}, {ownSess, ownSess}},
			[]int32{shellSID},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			in := read(t, "pstree")
			out, done, err := AdoptTasks(in, Adoption{SID: 400, PGID: 500, KeepSID: test.sid, KeepPGID: test.pgid})
			if err != nil {
				t.Fatal(err)
			}
			var got []ids
			entries := decode(t, out, func() *criupstree.PstreeEntry { return new(criupstree.PstreeEntry) })
			for i, e := range entries {
				got = append(got, ids{int32(e.GetSid()), int32(e.GetPgid())})
				if e.GetPid() != uint32(rootPID+i) || len(e.GetThreads()) != 1 {
					t.Errorf("entry %v", e)
				}
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("sid, pgid: got %v, want %v", got, test.want)
			}
			if !slices.Equal(done.MissingGroups, test.missing) || done.MissingSessions != nil {
				t.Errorf("missing groups %v, sessions %v", done.MissingGroups, done.MissingSessions)
			}
			if again := must[[]Task](t)(Tasks(out)); !reflect.DeepEqual(again, done.Tasks) {
				t.Errorf("tasks said %+v, are %+v", done.Tasks, again)
			}
		})
	}
}

func TestAdoptRootThatLeads(t *testing.T) {
	in := pstree(Task{70, 0, 70, 70, []int32{70, 71}}, Task{72, 70, 70, 70, nil})
	out, _, err := AdoptTasks(in, Adoption{SID: 400, PGID: 500, KeepSID: true})
	if err != nil || !bytes.Equal(in, out) {
		t.Errorf("its session was not kept: %v", err)
	}
	out, _, err = AdoptTasks(in, Adoption{})
	want := []Task{{70, 0, 0, 0, []int32{70, 71}}, {72, 70, 0, 0, nil}}
	if got := must[[]Task](t)(Tasks(out)); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("into a new pid namespace: %v, %v", got, err)
	}
}

func TestAdoptMissing(t *testing.T) {
	// The leader of session 60 has ended, and 0 was outside the namespace.
	in := pstree(Task{70, 0, 0, 0, nil}, Task{72, 70, 60, 60, nil})
	_, done, err := AdoptTasks(in, Adoption{SID: 400, PGID: 500, KeepSID: true, KeepPGID: true})
	want := []Task{{70, 0, 500, 400, nil}, {72, 70, 60, 60, nil}}
	if err != nil || !reflect.DeepEqual(done, Adopted{want, []int32{60}, []int32{60}}) {
		t.Errorf("%+v, %v", done, err)
	}
}

func TestAdoptInUse(t *testing.T) {
	in := pstree(Task{70, 0, 60, 60, []int32{70, 71}}, Task{72, 70, 60, 60, nil})
	for _, a := range []Adoption{{SID: 71, PGID: 9}, {SID: 9, PGID: 72}, {SID: 70, PGID: 70}} {
		if _, _, err := AdoptTasks(in, a); !errors.Is(err, ErrInUse) {
			t.Errorf("%+v: %v", a, err)
		}
	}
}

func TestTasksRefused(t *testing.T) {
	for name, img := range map[string][]byte{
		"none":         pstree(),
		"no root":      pstree(Task{70, 1, 70, 70, nil}),
		"two roots":    pstree(Task{70, 0, 70, 70, nil}, Task{71, 0, 70, 70, nil}),
		"twice":        pstree(Task{70, 0, 70, 70, nil}, Task{70, 70, 70, 70, nil}),
		"parent later": pstree(Task{70, 0, 70, 70, nil}, Task{72, 71, 70, 70, nil}, Task{71, 70, 70, 70, nil}),
		"pid 0":        pstree(Task{0, 0, 70, 70, nil}),
		"negative":     pstree(Task{70, 0, -1, 70, nil}),
		"incomplete":   image(kindPstree, message{numberField(1, 70)}),
		"other kind":   read(t, "files"),
		"empty":        nil,
		"no magic":     {1, 2, 3},
	} {
		if _, err := Tasks(img); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOutside(t *testing.T) {
	files := must[[]File](t)(Files(read(t, "files")))
	tables := map[uint32][]FD{2: must[[]FD](t)(FDs(read(t, "fdinfo-2")))}
	pipes := OutsidePipes(files, tables)
	if !reflect.DeepEqual(pipes, []Pipe{{pipe, false, []uint32{3}, []Ref{{2, 0}}}}) {
		t.Errorf("pipes %+v", pipes)
	}
	ttys := must[[]TTY](t)(TTYs(read(t, "tty-info")))
	outside := OutsideTTYs(files, ttys, tables)
	want := Terminal{TTY{Type: TTYPty, SID: shellSID, PGrp: shellSID, Rdev: 0x8800, Dev: 26}, []uint32{4}, []Ref{{2, 1}, {2, 2}}}
	if !reflect.DeepEqual(outside, []Terminal{want}) {
		t.Errorf("terminals %+v", outside)
	}

	// With its master it is inside, and so is /dev/tty in its session.
	ttys = append(ttys, TTY{ID: 1, Type: TTYPty, Master: true}, TTY{ID: 2, Type: TTYCurrent, SID: shellSID})
	files = append(files, File{ID: 50, Type: TypeTTY, TTYInfoID: 1}, File{ID: 51, Type: TypeTTY, TTYInfoID: 2})
	if outside := OutsideTTYs(files, ttys, tables); outside != nil {
		t.Errorf("terminals with master %+v", outside)
	}
	// With its other end the pipe is, too.
	files = append(files, File{ID: 52, Type: TypePipe, PipeID: pipe, Flags: 1})
	if pipes := OutsidePipes(files, tables); pipes != nil {
		t.Errorf("pipes with both ends %+v", pipes)
	}
	files[len(files)-1].PipeID++
	if pipes := OutsidePipes(files, nil); len(pipes) != 2 || !pipes[1].Write || pipes[1].ID != pipe+1 {
		t.Errorf("pipes %+v", pipes)
	}
}

func TestRedirect(t *testing.T) {
	keys := map[uint32]Keys{
		3: {Default: "stdin"},
		4: {Default: "terminal", FD: map[uint32]string{1: "stdout", 2: "stderr"}},
	}
	in := read(t, "files")
	out, r, err := Redirect(in, keys)
	if err != nil {
		t.Fatal(err)
	}
	fds, changed, err := r.FDs(read(t, "fdinfo-2"))
	if err != nil || !changed {
		t.Fatal(changed, err)
	}
	byID := make(map[uint32]*criufdinfo.FileEntry)
	for _, e := range decode(t, out, func() *criufdinfo.FileEntry { return new(criufdinfo.FileEntry) }) {
		if byID[e.GetId()] != nil {
			t.Errorf("two files %d", e.GetId())
		}
		byID[e.GetId()] = e
	}
	for _, id := range []uint32{3, 4, 18, 19} {
		e := byID[id]
		if e.GetType() != criufdinfo.FdTypes_REG || e.GetReg().GetId() != id || e.GetPipe() != nil || e.GetTty() != nil {
			t.Errorf("file %v", e)
		}
	}
	got := make(map[uint32]string)
	for _, fd := range decode(t, fds, func() *criufdinfo.FdinfoEntry { return new(criufdinfo.FdinfoEntry) }) {
		e := byID[fd.GetId()]
		got[fd.GetFd()] = e.GetReg().GetName()
		if fd.GetType() != e.GetType() {
			t.Errorf("descriptor %v of file %v", fd, e)
		}
	}
	want := map[uint32]string{0: "/stdin", 1: "/stdout", 2: "/stderr", 3: "/tmp/job/gone", 4: "/tmp/job/data"}
	if !maps.Equal(got, want) {
		t.Errorf("descriptors %v", got)
	}

	files := must[[]File](t)(Files(out))
	info, changed, err := PruneTTYInfo(read(t, "tty-info"), files)
	if err != nil || !changed || len(info) != 8 {
		t.Errorf("tty-info: %d bytes left, %v", len(info), err)
	}
	data := image(kindTTYData, message{numberField(1, 0), bytesField(2, []byte("typed"))})
	if data, changed, err = PruneTTYData(data, files); err != nil || !changed || len(data) != 8 {
		t.Errorf("tty-data: %d bytes left, %v", len(data), err)
	}
	if _, changed, err := PruneTTYInfo(read(t, "tty-info"), must[[]File](t)(Files(in))); changed || err != nil {
		t.Errorf("tty-info was pruned: %v", err)
	}
}

// Which new id a key gets must not hang on the order of a map.
func TestRedirectSame(t *testing.T) {
	keys := map[uint32]Keys{4: {Default: "a", FD: map[uint32]string{0: "b", 1: "c", 2: "d", 3: "e", 4: "b"}}}
	first, _, err := Redirect(read(t, "files"), keys)
	for range 20 {
		if again, _, _ := Redirect(read(t, "files"), keys); err != nil || !bytes.Equal(first, again) {
			t.Fatal("two results, or an error:", err)
		}
	}
}

func TestRedirectRefused(t *testing.T) {
	for name, keys := range map[string]map[uint32]Keys{
		"unknown file": {99: {Default: "x"}},
		"no key":       {3: {}},
		"NUL":          {3: {Default: "x", FD: map[uint32]string{0: "a\x00b"}}},
	} {
		if _, _, err := Redirect(read(t, "files"), keys); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestReleaseTTYs(t *testing.T) {
	in := read(t, "tty-info")
	tasks := []Task{{PID: shellSID, SID: shellSID}}
	if _, changed, err := ReleaseTTYs(in, tasks); changed || err != nil {
		t.Error("its session has a leader:", err)
	}
	out, changed, err := ReleaseTTYs(in, must[[]Task](t)(Tasks(read(t, "pstree"))))
	if !changed || err != nil {
		t.Fatal(changed, err)
	}
	entries := decode(t, out, func() *criutty.TtyInfoEntry { return new(criutty.TtyInfoEntry) })
	if len(entries) != 1 || entries[0].GetSid() != 0 || entries[0].GetPgrp() != 0 || entries[0].GetRdev() != 0x8800 {
		t.Errorf("%v", entries)
	}
}

func TestRelocate(t *testing.T) {
	out, changed, err := Relocate(read(t, "files"), []ckpt.Relocation{
		{Old: "/tmp/job/da", New: "/part"}, {Old: "/tmp/job/tree", New: "/bin/tree"},
		{Old: "/tmp/job", New: "/home/job"}, {Old: "/tmp", New: "/wrong"},
	})
	if err != nil || !changed {
		t.Fatal(changed, err)
	}
	got := make(map[string]int)
	for _, e := range decode(t, out, func() *criufdinfo.FileEntry { return new(criufdinfo.FileEntry) }) {
		if e.Reg == nil {
			continue
		}
		name := e.Reg.GetName()
		got[name]++
		if moved := name != "/" && name != "/dev/pts/0"; moved == (e.Reg.Mode != nil) || moved && e.Reg.Size != nil {
			t.Errorf("validation of %v", e.Reg)
		}
	}
	want := map[string]int{"/": 5, "/dev/pts/0": 1, "/bin/tree": 1, "/home/job": 5, "/home/job/data": 2, "/home/job/gone": 1}
	if !maps.Equal(got, want) {
		t.Errorf("names %v", got)
	}
	if _, changed, err := Relocate(read(t, "files"), []ckpt.Relocation{{Old: "/tm", New: "/x"}}); changed || err != nil {
		t.Error("changed for a part of a component:", err)
	}
}

func TestRelocated(t *testing.T) {
	for _, test := range []struct{ name, old, new, want string }{
		{"/a/b", "/a", "/c", "/c/b"},
		{"/a", "/a", "/c", "/c"},
		{"/ab", "/a", "/c", "/ab"},
		{"/a/b", "/", "/c", "/c/a/b"},
		{"/", "/", "/c", "/c"},
		{"/a/b", "/a", "/", "/b"},
		{"/a", "/a", "/", "/"},
		{"/", "/a", "/c", "/"},
		{"/a/b", "/a/b/c", "/d", "/a/b"},
	} {
		if got := Relocated(test.name, []ckpt.Relocation{{Old: test.old, New: test.new}}); got != test.want {
			t.Errorf("%s by %s=%s: %s, want %s", test.name, test.old, test.new, got, test.want)
		}
	}
}

func TestDropValidation(t *testing.T) {
	out, changed, err := DropValidation(read(t, "files"), func(f File) bool { return f.ID != 1 })
	if err != nil || !changed {
		t.Fatal(changed, err)
	}
	for _, e := range decode(t, out, func() *criufdinfo.FileEntry { return new(criufdinfo.FileEntry) }) {
		if e.Reg == nil {
			continue
		}
		if spared := e.GetId() == 1; spared != (e.Reg.Size != nil) || spared != (e.Reg.Mode != nil) {
			t.Errorf("%v", e.Reg)
		}
	}
	if _, changed, err = DropValidation(out, func(f File) bool { return f.ID != 1 }); changed || err != nil {
		t.Error("the second time it changed as well:", err)
	}
}

// What a newer criu may add has to survive.
func TestUnknownFields(t *testing.T) {
	odd := []field{
		bytesField(900, []byte("later")), numberField(901, 1<<40),
		{raw: []byte{0x91, 0x38, 1, 2, 3, 4, 5, 6, 7, 8}},      // 898, 8 bytes
		{raw: []byte{0x95, 0x38, 1, 2, 3, 4}},                  // 898, 4 bytes
		{raw: []byte{0xa0, 0x38, 0x81, 0x80, 0x80, 0x80, 0x0}}, // 900, 1 in 5 bytes
	}
	in := image(kindPstree, append(message{
		numberField(1, 70), numberField(2, 0), odd[0], numberField(3, 60), odd[1], numberField(4, 60),
	}, odd[2:]...))
	out, _, err := AdoptTasks(in, Adoption{SID: 400, PGID: 500})
	want := image(kindPstree, append(message{
		numberField(1, 70), numberField(2, 0), odd[0], numberField(3, 500), odd[1], numberField(4, 400),
	}, odd[2:]...))
	if err != nil || !bytes.Equal(out, want) {
		t.Errorf("%v\n% x\n% x", err, out, want)
	}
}

// Of an image that is cut off anywhere, all that can be read is whole entries.
func TestCutOff(t *testing.T) {
	for _, name := range []string{"pstree", "files", "fdinfo-2", "ids-root", "fs-root", "mm-root", "core-root", "tty-info", "remap-fpath", "pipes-data", "inventory"} {
		img := read(t, name)
		for n := range img {
			all(img[:n:n])
		}
	}
	if _, err := Files(read(t, "files")[:100]); !errors.Is(err, ErrMalformed) {
		t.Error(err)
	}
	if _, err := PipesData(read(t, "pipes-data")[:29]); !errors.Is(err, ErrMalformed) {
		t.Error(err)
	}
}

// all calls everything that takes an image, and returns the patched ones.
func all(img []byte) (patched [][]byte) {
	add := func(b []byte, _ bool, err error) {
		if err == nil {
			patched = append(patched, b)
		}
	}
	_, _ = TaskIDs(img)
	_, _ = ReadClocks(img)
	moved, err := PutTime(img, 7)
	add(moved, true, err)
	_, _ = TaskDirs(img)
	_, _ = TaskMemory(img)
	_, _ = ReadCore(img)
	_, _ = ReadInventory(img)
	_, _ = Remaps(img)
	_, _ = PipesData(img)
	tasks, _ := Tasks(img)
	files, _ := Files(img)
	fds, _ := FDs(img)
	ttys, _ := TTYs(img)
	tables := map[uint32][]FD{1: fds}
	OutsidePipes(files, tables)
	OutsideTTYs(files, ttys, tables)
	var out []byte
	out, _, err = AdoptTasks(img, Adoption{SID: 400, PGID: 500, KeepPGID: true})
	add(out, false, err)
	keys := make(map[uint32]Keys)
	for _, f := range files {
		keys[f.ID] = Keys{Default: "x", FD: map[uint32]string{1: "y"}}
	}
	out, r, err := Redirect(img, keys)
	add(out, false, err)
	if r == nil {
		r = &Redirection{files: map[uint32]bool{3: true}}
	}
	add(r.FDs(img))
	add(Relocate(img, []ckpt.Relocation{{Old: "/", New: "/x"}}))
	add(DropValidation(img, nil))
	add(ReleaseTTYs(img, tasks))
	add(PruneTTYInfo(img, files))
	add(PruneTTYData(img, files))
	return patched
}

// FuzzImage checks that no image makes anything panic, and that what comes out
// of one operation can go into the next.
func FuzzImage(f *testing.F) {
	names, _ := filepath.Glob("testdata/*.img")
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, img []byte) {
		before := bytes.Clone(img)
		for _, out := range all(img) {
			k := kind{magic: binary.LittleEndian.Uint32(out[4:])}
			if err := k.each(out, func(message) error { return nil }); err != nil {
				t.Errorf("a patched image cannot be read: %v", err)
			}
		}
		if !bytes.Equal(before, img) {
			t.Error("the image that went in was changed")
		}
	})
}
