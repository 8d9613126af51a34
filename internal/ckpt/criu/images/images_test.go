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
	"strings"
	"testing"

	criufdinfo "github.com/checkpoint-restore/go-criu/v8/crit/images/fdinfo"
	criupstree "github.com/checkpoint-restore/go-criu/v8/crit/images/pstree"
	"golang.org/x/sys/unix"

	criutty "github.com/checkpoint-restore/go-criu/v8/crit/images/tty"
	"google.golang.org/protobuf/proto"
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

// entries reads all entries of an image with CRIU's own types, which also asks
// for every required field.
func entries[T proto.Message](t *testing.T, img []byte, empty func() T) []T {
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
func image(k kind, messages ...message) []byte {
	var b []byte
	if k != kindInventory {
		b = binary.LittleEndian.AppendUint32(b, commonMagic)
	}
	b = binary.LittleEndian.AppendUint32(b, k.magic)
	for _, m := range messages {
		b = appendEntry(b, m)
	}
	return b
}

// pstree makes a pstree.img.
func pstree(tasks ...Task) []byte {
	var all []message
	for _, t := range tasks {
		m := message{
			intField(1, uint64(t.PID)), intField(2, uint64(t.PPID)),
			intField(3, uint64(t.PGID)), intField(4, uint64(t.SID)),
		}
		for _, id := range t.Threads {
			m = append(m, intField(5, uint64(id)))
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
	if core.Comm != "tree" || core.State != StateStopped {
		t.Errorf("core %+v", core)
	}
	if inv := must[Inventory](t)(ReadInventory(read(t, "inventory"))); !inv.FDInfoPerID || inv.CRIU.Files != 1 {
		t.Errorf("inventory %+v", inv)
	}
	remaps := must[[]Remap](t)(Remaps(read(t, "remap-fpath")))
	if !slices.Equal(remaps, []Remap{{6, 1, RemapGhost}}) {
		t.Errorf("remaps %+v", remaps)
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
	if names[mem.Exe] != "/tmp/job/tree" || len(mem.Mapped) != 6 {
		t.Errorf("memory %+v", mem)
	}
	for _, id := range mem.Mapped {
		if name := names[id]; name != "/tmp/job/tree" && name != "/tmp/job/data" {
			t.Errorf("file %d, %q, is mapped", id, name)
		}
	}
}

func TestSetSessions(t *testing.T) {
	type ids struct{ sid, pgid int32 }
	us := ids{400, 500}
	for _, test := range []struct {
		name      string
		sid, pgid bool
		want      []ids
	}{
		{"default", false, false, []ids{us, us, us, us, us}},
		{"restore-pgid", false, true, []ids{{400, shellSID}, {400, shellSID}, {400, ownGroup}, {400, ownSess}, {400, ownSess}}},
		{"restore-sid", true, false, []ids{us, us, us, {ownSess, ownSess}, {ownSess, ownSess}}},
		{"both", true, true, []ids{{400, shellSID}, {400, shellSID}, {400, ownGroup}, {ownSess, ownSess}, {ownSess, ownSess}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			in := read(t, "pstree")
			out, tasks, err := SetSessions(in, SessionOptions{SID: 400, PGID: 500, RestoreSID: test.sid, RestorePGID: test.pgid})
			if err != nil {
				t.Fatal(err)
			}
			var got []ids
			entries := entries(t, out, func() *criupstree.PstreeEntry { return new(criupstree.PstreeEntry) })
			for i, e := range entries {
				got = append(got, ids{int32(e.GetSid()), int32(e.GetPgid())})
				if e.GetPid() != uint32(rootPID+i) || len(e.GetThreads()) != 1 {
					t.Errorf("entry %v", e)
				}
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("sid, pgid: got %v, want %v", got, test.want)
			}
			if again := must[[]Task](t)(Tasks(out)); !reflect.DeepEqual(again, tasks) {
				t.Errorf("returned %+v, wrote %+v", tasks, again)
			}
		})
	}
}

func TestSetSessionsOfLeader(t *testing.T) {
	in := pstree(Task{70, 0, 70, 70, []int32{70, 71}}, Task{72, 70, 70, 70, nil})
	for _, o := range []SessionOptions{{SID: 400, PGID: 500, RestoreSID: true}, {NewSession: true}} {
		out, _, err := SetSessions(in, o)
		if err != nil || !bytes.Equal(in, out) {
			t.Errorf("%+v: its session was not kept: %v", o, err)
		}
	}
	out, _, err := SetSessions(in, SessionOptions{})
	want := []Task{{70, 0, 0, 0, []int32{70, 71}}, {72, 70, 0, 0, nil}}
	if got := must[[]Task](t)(Tasks(out)); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("into a new pid namespace: %v, %v", got, err)
	}
}

// TestSetSessionsNot: sessions that criu cannot restore are an error where they are to be restored.
func TestSetSessionsNot(t *testing.T) {
	task := func(pid, ppid, sid int32) Task { return Task{PID: pid, PPID: ppid, PGID: sid, SID: sid} }
	in := pstree(task(70, 0, 60), task(71, 70, 71), task(72, 71, 60))
	for _, restore := range []bool{false, true} {
		if _, _, err := SetSessions(in, SessionOptions{SID: 400, PGID: 500, RestoreSID: restore}); (err == ErrSessions) != restore {
			t.Errorf("restored %v: %v", restore, err)
		}
	}
}

// TestSetSessionsKept: a session on a terminal of the job's own is kept with those below it,
// or it is not where criu could not restore that. The root is in a session from outside.
func TestSetSessionsKept(t *testing.T) {
	task := func(pid, ppid, sid int32) Task { return Task{PID: pid, PPID: ppid, PGID: sid, SID: sid} }
	for _, test := range []struct {
		name  string
		tasks []Task
		want  []int32
	}{
		{"alone", []Task{task(70, 0, 60), task(71, 70, 71)}, []int32{400, 71}},
		{"one more below", []Task{task(70, 0, 60), task(71, 70, 71), task(72, 71, 72), task(73, 72, 72)}, []int32{400, 71, 72, 72}},
		{"born before the second", []Task{task(70, 0, 60), task(71, 70, 71), task(72, 71, 72), task(73, 72, 71)}, []int32{400, 71, 72, 71}},
		{"another one beside it", []Task{task(70, 0, 60), task(71, 70, 71), task(72, 70, 72)}, []int32{400, 71, 400}},
		{"born before the first", []Task{task(70, 0, 60), task(71, 70, 71), task(72, 71, 60)}, []int32{400, 400, 400}},
		{"leader has ended", []Task{task(70, 0, 60), task(71, 70, 71), task(72, 71, 65)}, []int32{400, 400, 400}},
		{"adopted by the root", []Task{task(70, 0, 60), task(71, 70, 71), task(72, 70, 71)}, []int32{400, 71, 71}},
		{"the root leads", []Task{task(70, 0, 70), task(71, 70, 71), task(72, 71, 70)}, []int32{400, 400, 400}},
		{"born in two", []Task{task(70, 0, 60), task(71, 70, 71), task(72, 71, 72), task(73, 72, 73), task(74, 73, 71), task(75, 73, 72)}, []int32{400, 400, 400, 400, 400, 400}},
	} {
		_, tasks, err := SetSessions(pstree(test.tasks...), SessionOptions{SID: 400, PGID: 500, KeepSIDs: map[int32]bool{71: true}})
		var got []int32
		for _, t := range tasks {
			got = append(got, t.SID)
		}
		if err != nil || !slices.Equal(got, test.want) {
			t.Errorf("%s: got %v, want %v, %v", test.name, got, test.want, err)
		}
	}
}

func TestSetSessionsOfEndedLeader(t *testing.T) {
	// The leader of session 60 has ended, and 0 was outside the namespace.
	in := pstree(Task{70, 0, 0, 0, nil}, Task{72, 70, 60, 60, nil})
	_, tasks, err := SetSessions(in, SessionOptions{SID: 400, PGID: 500, RestoreSID: true, RestorePGID: true})
	want := []Task{{70, 0, 500, 400, nil}, {72, 70, 60, 60, nil}}
	if err != nil || !reflect.DeepEqual(tasks, want) {
		t.Errorf("%+v, %v", tasks, err)
	}
}

func TestSetSessionsInUse(t *testing.T) {
	in := pstree(Task{70, 0, 60, 60, []int32{70, 71}}, Task{72, 70, 60, 60, nil})
	for id, o := range map[int32]SessionOptions{71: {SID: 71, PGID: 9}, 72: {SID: 9, PGID: 72}, 70: {SID: 70, PGID: 70}} {
		_, _, err := SetSessions(in, o)
		if e, ok := errors.AsType[*InUseError](err); !ok || e.ID != id {
			t.Errorf("%+v: %v", o, err)
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
		"incomplete":   image(kindPstree, message{intField(1, 70)}),
		"other kind":   read(t, "files"),
		"empty":        nil,
		"no magic":     {1, 2, 3},
	} {
		if _, err := Tasks(img); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestExternal(t *testing.T) {
	files := must[[]File](t)(Files(read(t, "files")))
	tables := Tables{2: must[[]FD](t)(FDs(read(t, "fdinfo-2")))}
	if pipes := ExternalPipes(files, tables); !reflect.DeepEqual(pipes, []ExternalPipe{{External{[]uint32{3}, []uint32{0}}, pipe}}) {
		t.Errorf("pipes %+v", pipes)
	}
	ttys := must[[]TTY](t)(TTYs(read(t, "tty-info")))
	if len(ttys) != 1 || ttys[0].Modes == nil || ttys[0].Modes.Control[0] != 3 { // Ctrl-C
		t.Fatalf("terminals %+v", ttys)
	}
	if want := []TTY{{Type: TTYPty, SID: shellSID, PGrp: shellSID, Modes: ttys[0].Modes}}; !reflect.DeepEqual(ttys, want) {
		t.Errorf("terminals %+v", ttys)
	}
	external := ExternalTTYs(files, ttys, tables)
	if !reflect.DeepEqual(external, []ExternalTTY{{External{[]uint32{4}, []uint32{1, 2}}, ttys[0]}}) {
		t.Errorf("terminals %+v", external)
	}

	// A serial line that the job has opened itself, and that is no standard descriptor, is not.
	line := TTY{ID: 9, Type: TTYSerial}
	lines := append(slices.Clone(files), File{ID: 60, Type: TypeTTY, TTYInfoID: 9})
	for _, c := range []struct {
		fd, sid  int32
		external bool
	}{{5, 0, false}, {2, 0, true}, {5, shellSID, true}} {
		line.SID = c.sid
		got := ExternalTTYs(lines, []TTY{line}, Tables{2: {{FileID: 60, FD: uint32(c.fd), Type: TypeTTY}}})
		if (len(got) > 0) != c.external {
			t.Errorf("a serial line as descriptor %d, of session %d: %+v", c.fd, c.sid, got)
		}
	}

	// With its master it is internal, and so is /dev/tty in its session.
	ttys = append(ttys, TTY{ID: 1, Type: TTYPty, Master: true}, TTY{ID: 2, Type: TTYCurrent, SID: shellSID})
	files = append(files, File{ID: 50, Type: TypeTTY, TTYInfoID: 1}, File{ID: 51, Type: TypeTTY, TTYInfoID: 2})
	if external := ExternalTTYs(files, ttys, tables); external != nil {
		t.Errorf("terminals with master %+v", external)
	}
	// With its other end the pipe is, too.
	files = append(files, File{ID: 52, Type: TypePipe, PipeID: pipe, Flags: 1})
	if pipes := ExternalPipes(files, tables); pipes != nil {
		t.Errorf("pipes with both ends %+v", pipes)
	}
	files[len(files)-1].PipeID++
	if pipes := ExternalPipes(files, nil); len(pipes) != 2 || pipes[1].ID != pipe+1 || !slices.Equal(pipes[1].Files, []uint32{52}) {
		t.Errorf("pipes %+v", pipes)
	}
}

func TestExternalSockets(t *testing.T) {
	files := []File{
		{ID: 1, Type: TypeUnix, SocketType: 2, Inode: 10, Peer: 11},
		{ID: 2, Type: TypeUnix, Inode: 11, External: true, SocketName: "log\x00", Dir: "/dev"},
		{ID: 3, Type: TypeUnix, SocketType: 1, Inode: 12, Peer: 13},
		{ID: 4, Type: TypeUnix, Inode: 13, External: true},
		{ID: 5, Type: TypeUnix, Inode: 14, Peer: 15}, {ID: 6, Type: TypeUnix, Inode: 15, Peer: 14},
		{ID: 7, Type: TypeUnix, Inode: 16},
	}
	tables := Tables{2: {{FD: 9, FileID: 1, Type: TypeUnix}, {FD: 3, FileID: 1, Type: TypeUnix}}, 1: {{FD: 4, FileID: 1, Type: TypeUnix}, {FD: 5, FileID: 1}}}
	want := []ExternalSocket{
		{External{[]uint32{1}, []uint32{4, 3, 9}}, 2, "log\x00", "/dev"},
		{External{[]uint32{3}, nil}, 1, "", ""},
	}
	if got := ExternalSockets(files, tables); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestParseExternalPipes(t *testing.T) {
	if got := ParseExternalPipes([]byte("12\n4294967295\nx\n-1\n4294967296\n13")); !maps.Equal(got, map[uint32]bool{12: true, 1<<32 - 1: true, 13: true}) {
		t.Error(got)
	}
	if got := ParseExternalPipes(nil); got == nil || len(got) != 0 {
		t.Error(got)
	}
}

func TestInherit(t *testing.T) {
	keys := map[uint32]InheritKeys{
		3: {Default: "stdin"},
		4: {Default: "terminal", FD: map[uint32]string{1: "stdout", 2: "stderr"}},
	}
	in := read(t, "files")
	out, r, err := Inherit(in, keys)
	if err != nil {
		t.Fatal(err)
	}
	fds, err := r.FDInfo(read(t, "fdinfo-2"))
	if err != nil {
		t.Fatal(err)
	}
	byID := make(map[uint32]*criufdinfo.FileEntry)
	for _, e := range entries(t, out, func() *criufdinfo.FileEntry { return new(criufdinfo.FileEntry) }) {
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
	for _, fd := range entries(t, fds, func() *criufdinfo.FdinfoEntry { return new(criufdinfo.FdinfoEntry) }) {
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
	info, err := PruneTTYInfo(read(t, "tty-info"), files)
	if err != nil || len(info) != 8 {
		t.Errorf("tty-info: %d bytes left, %v", len(info), err)
	}
	data := image(kindTTYData, message{intField(1, 0), bytesField(2, []byte("typed"))})
	if data, err = PruneTTYData(data, files); err != nil || len(data) != 8 {
		t.Errorf("tty-data: %d bytes left, %v", len(data), err)
	}
	info, err = PruneTTYInfo(read(t, "tty-info"), must[[]File](t)(Files(in)))
	if err != nil || !bytes.Equal(info, read(t, "tty-info")) {
		t.Errorf("tty-info was pruned: %v", err)
	}
}

// TestUnread: what masters are to read is known of terminals that CRIU has read from, by
// either end, unless there was too much, or another byte before each packet.
func TestUnread(t *testing.T) {
	tty := func(id, index, rdev, packet uint64) message {
		return message{intField(ttyID, id), intField(ttyType, uint64(TTYPty)), intField(ttyPacket, packet), intField(ttySID, 0), intField(ttyPGrp, 0), intField(ttyRdev, rdev), bytesField(ttyPty, message{intField(ptyIndex, index)}.append(nil))}
	}
	data := func(id uint64, text string) message {
		return message{intField(ttyID, id), bytesField(ttyDataData, []byte(text))}
	}
	const master, slave = 5<<8 | 2, slaveMajor << 8
	info := image(kindTTYInfo, tty(1, 0, master, 0), tty(2, 0, slave, 0), tty(3, 7, slave, 0), tty(4, 8, master, 1), tty(5, 8, slave, 0), tty(6, 9, master, 0), tty(7, 10, master, 0), message{intField(ttyID, 8), intField(ttyType, uint64(TTYCurrent)), intField(ttySID, 0), intField(ttyPGrp, 0), intField(ttyRdev, 0)})
	got, err := Unread(info, image(kindTTYData, data(2, "typed"), data(1, "out"), data(3, "typed"), data(5, "x"), data(4, "y"), data(6, strings.Repeat("x", mostUnread)), data(8, "z"), data(99, "z")))
	want := map[uint32][]byte{0: []byte("out"), 7: {}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
}

// Which new id a key gets must not hang on the order of a map.
func TestInheritStable(t *testing.T) {
	keys := map[uint32]InheritKeys{4: {Default: "a", FD: map[uint32]string{0: "b", 1: "c", 2: "d", 3: "e", 4: "b"}}}
	first, _, err := Inherit(read(t, "files"), keys)
	for range 20 {
		if again, _, _ := Inherit(read(t, "files"), keys); err != nil || !bytes.Equal(first, again) {
			t.Fatal("two results, or an error:", err)
		}
	}
}

func TestInheritRefused(t *testing.T) {
	for name, keys := range map[string]map[uint32]InheritKeys{
		"unknown file": {99: {Default: "x"}},
		"no key":       {3: {}},
		"NUL":          {3: {Default: "x", FD: map[uint32]string{0: "a\x00b"}}},
	} {
		if _, _, err := Inherit(read(t, "files"), keys); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestDropControllingTTYs(t *testing.T) {
	in := read(t, "tty-info")
	out, err := DropControllingTTYs(in, []Task{{PID: shellSID, SID: shellSID}})
	if err != nil || !bytes.Equal(in, out) {
		t.Error("its session has a leader:", err)
	}
	out, err = DropControllingTTYs(in, must[[]Task](t)(Tasks(read(t, "pstree"))))
	if err != nil {
		t.Fatal(err)
	}
	entries := entries(t, out, func() *criutty.TtyInfoEntry { return new(criutty.TtyInfoEntry) })
	if len(entries) != 1 || entries[0].GetSid() != 0 || entries[0].GetPgrp() != 0 || entries[0].GetRdev() != 0x8800 {
		t.Errorf("%v", entries)
	}
}

// TestRenumberPTYs: the number, the device and the name of a slave change, all else stays.
func TestRenumberPTYs(t *testing.T) {
	inTTY, inFiles := read(t, "tty-info"), read(t, "files")
	const n = 70000
	tty, files, err := RenumberPTYs(inTTY, inFiles, map[uint32]uint32{0: n})
	if err != nil {
		t.Fatal(err)
	}
	if got := must[[]TTY](t)(TTYs(tty)); len(got) != 1 || got[0].Index != n || got[0].Master {
		t.Errorf("terminals %+v", got)
	}
	info := entries(t, tty, func() *criutty.TtyInfoEntry { return new(criutty.TtyInfoEntry) })[0]
	if want := uint32(unix.Mkdev(136, n)); info.GetRdev() != want {
		t.Errorf("device %#x, want %#x", info.GetRdev(), want)
	}
	named := 0
	for _, f := range must[[]File](t)(Files(files)) {
		if f.Name == "/dev/pts/70000" {
			named++
		}
	}
	if named != 1 {
		t.Errorf("%d files are named so", named)
	}
	tty, files, err = RenumberPTYs(tty, files, map[uint32]uint32{n: 0, 5: 6})
	if err != nil || !bytes.Equal(tty, inTTY) || !bytes.Equal(files, inFiles) {
		t.Error("and back again it is not the same:", err)
	}
}

func TestRelocate(t *testing.T) {
	in := read(t, "files")
	out, err := Relocate(in, func(name string) string {
		if rest, ok := strings.CutPrefix(name, "/tmp/job"); ok {
			return "/home/job" + rest
		}
		return name
	})
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]int)
	for _, e := range entries(t, out, func() *criufdinfo.FileEntry { return new(criufdinfo.FileEntry) }) {
		if e.Reg == nil {
			continue
		}
		name := e.Reg.GetName()
		got[name]++
		if moved := name != "/" && name != "/dev/pts/0"; moved == (e.Reg.Mode != nil) || moved && e.Reg.Size != nil {
			t.Errorf("validation of %v", e.Reg)
		}
	}
	want := map[string]int{"/": 5, "/dev/pts/0": 1, "/home/job/tree": 1, "/home/job": 5, "/home/job/data": 2, "/home/job/gone": 1}
	if !maps.Equal(got, want) {
		t.Errorf("names %v", got)
	}
	if out, err := Relocate(in, func(name string) string { return name }); err != nil || !bytes.Equal(in, out) {
		t.Error("without a relocation it changed:", err)
	}
}

func TestDropValidation(t *testing.T) {
	drop := func(f File) bool { return f.ID != 1 }
	out, err := DropValidation(read(t, "files"), drop)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries(t, out, func() *criufdinfo.FileEntry { return new(criufdinfo.FileEntry) }) {
		if e.Reg == nil {
			continue
		}
		if spared := e.GetId() == 1; spared != (e.Reg.Size != nil) || spared != (e.Reg.Mode != nil) {
			t.Errorf("%v", e.Reg)
		}
	}
	if again, err := DropValidation(out, drop); err != nil || !bytes.Equal(out, again) {
		t.Error("the second time it changed as well:", err)
	}
}

func TestIsImage(t *testing.T) {
	for name, want := range map[string]bool{
		"inventory.img": true, "pages-12.img": true, "core-1.img": true, "saved-files": true, "external-pipes": true, "file-12": true,
		"files.img": true, "ghost-file-1f.img": true, "tcp-stream-a0.img": true, "tmpfs-12.tar.gz.img": true, "pages-shmem-7.img": true,
		"disk.img": false, "boot-1.img": false, "core.img": false, "core-.img": false, "core-1f.img": false, "core-1x.img": false,
		"files-1.img": false, "inventory.img.img": false, "inventory": false, "inventory-1.img": false, "-1.img": false,
		"tmpfs-12.tar.gz": false, "ghost-file-1G.img": false, "core-1.img~": false, "pages-1-2.img": false,
		"stats-dump": true, "stats-restore": true, "dump.log": true, "parent": true, "file-999999999": true,
		".img": false, "letter": false, "photo.jpg": false, "file-": false, "file-0": false, "xdump.log": false, "": false,
		"file-1000000000": false, "file-01": false, "file-+1": false, "file--1": false,
	} {
		if got := IsImage(name); got != want {
			t.Errorf("%q: %t", name, got)
		}
	}
}

// What a newer criu may add has to survive.
func TestUnknownFields(t *testing.T) {
	odd := []field{
		bytesField(900, []byte("later")), intField(901, 1<<40),
		{raw: []byte{0x91, 0x38, 1, 2, 3, 4, 5, 6, 7, 8}},      // 898, 8 bytes
		{raw: []byte{0x95, 0x38, 1, 2, 3, 4}},                  // 898, 4 bytes
		{raw: []byte{0xa0, 0x38, 0x81, 0x80, 0x80, 0x80, 0x0}}, // 900, 1 in 5 bytes
	}
	in := image(kindPstree, append(message{
		intField(1, 70), intField(2, 0), odd[0], intField(3, 60), odd[1], intField(4, 60),
	}, odd[2:]...))
	out, _, err := SetSessions(in, SessionOptions{SID: 400, PGID: 500})
	want := image(kindPstree, append(message{
		intField(1, 70), intField(2, 0), odd[0], intField(3, 500), odd[1], intField(4, 400),
	}, odd[2:]...))
	if err != nil || !bytes.Equal(out, want) {
		t.Errorf("%v\n% x\n% x", err, out, want)
	}
}

// Of an image that is cut off anywhere, all that can be read is whole entries.
func TestCutOff(t *testing.T) {
	for _, name := range []string{"pstree", "files", "fdinfo-2", "ids-root", "fs-root", "mm-root", "core-root", "tty-info", "remap-fpath", "timens-0", "inventory"} {
		img := read(t, name)
		for n := range img {
			useAll(img[:n:n])
		}
	}
	if _, err := Files(read(t, "files")[:100]); !errors.Is(err, ErrMalformed) {
		t.Error(err)
	}
}

// useAll calls everything that takes an image, and returns the changed ones.
func useAll(img []byte) (changed [][]byte) {
	add := func(b []byte, err error) {
		if err == nil {
			changed = append(changed, b)
		}
	}
	_, _ = TaskIDs(img)
	_, _ = ReadClocks(img)
	add(SetTimeNamespace(img, 7))
	_, _ = TaskDirs(img)
	_, _ = TaskMemory(img)
	_, _ = ReadCore(img)
	_, _ = ReadInventory(img)
	_, _ = ReadPagemap(img)
	_, _ = ReadPages(img, 4096)
	add(NotLazy(img, 4096, Everywhere))
	_, _ = Mappings(img)
	_, _ = Remaps(img)
	_, _ = MemFDNames(img)
	tasks, _ := Tasks(img)
	files, _ := Files(img)
	fds, _ := FDs(img)
	ttys, _ := TTYs(img)
	tables := Tables{1: fds}
	ExternalPipes(files, tables)
	ExternalSockets(files, tables)
	ExternalTTYs(files, ttys, tables)
	out, _, err := SetSessions(img, SessionOptions{SID: 400, PGID: 500, RestorePGID: true})
	add(out, err)
	keys := make(map[uint32]InheritKeys)
	for _, f := range files {
		keys[f.ID] = InheritKeys{Default: "x", FD: map[uint32]string{1: "y"}}
	}
	out, h, err := Inherit(img, keys)
	add(out, err)
	if h == nil {
		h = &Inheritance{files: map[uint32]bool{3: true}}
	}
	add(h.FDInfo(img))
	add(SetThread(img, ThreadOptions{NoCgroups: true, Dropped: 5}))
	add(SetExecutable(img, 5))
	add(NotReserved(img, 1<<20))
	add(Advise(img, Everywhere, Everywhere))
	add(NameExternal(img, map[string]string{"file[1:2]": "/x"}))
	for _, f := range files {
		out, _, err := CopyFile(img, f.ID)
		add(out, err)
	}
	add(Relocate(img, func(name string) string { return "/x" + name }))
	add(DropValidation(img, nil))
	add(DropControllingTTYs(img, tasks))
	add(PruneTTYInfo(img, files))
	add(PruneTTYData(img, files))
	_, _ = Unread(img, img)
	return changed
}

// FuzzImage checks that no image makes anything panic, that what comes out of one
// operation can go into the next, and that an image that goes in is not written
// to.
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
		for _, out := range useAll(img) {
			k := kind{magic: binary.LittleEndian.Uint32(out[4:])}
			if err := k.each(out, func(int, message) error { return nil }); err != nil {
				t.Errorf("a changed image cannot be read: %v", err)
			}
		}
		if !bytes.Equal(before, img) {
			t.Error("the image that went in was changed")
		}
	})
}
