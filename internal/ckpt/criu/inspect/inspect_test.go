package inspect

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	criucore "github.com/checkpoint-restore/go-criu/v8/crit/images/criu-core"
	criufdinfo "github.com/checkpoint-restore/go-criu/v8/crit/images/fdinfo"
	criufown "github.com/checkpoint-restore/go-criu/v8/crit/images/fown"
	criufs "github.com/checkpoint-restore/go-criu/v8/crit/images/fs"
	criuinventory "github.com/checkpoint-restore/go-criu/v8/crit/images/inventory"
	criumm "github.com/checkpoint-restore/go-criu/v8/crit/images/mm"
	criupagemap "github.com/checkpoint-restore/go-criu/v8/crit/images/pagemap"
	criupipe "github.com/checkpoint-restore/go-criu/v8/crit/images/pipe"
	criupstree "github.com/checkpoint-restore/go-criu/v8/crit/images/pstree"
	criureg "github.com/checkpoint-restore/go-criu/v8/crit/images/regfile"
	criuremap "github.com/checkpoint-restore/go-criu/v8/crit/images/remap-file-path"
	criuunix "github.com/checkpoint-restore/go-criu/v8/crit/images/sk-unix"
	criuvma "github.com/checkpoint-restore/go-criu/v8/crit/images/vma"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"blcr-cli/internal/ckpt/criu/images"
	"blcr-cli/internal/ctxfile"
	"blcr-cli/test/harness"
)

// encode makes an image of CRIU's own types.
func encode(magic uint32, entries ...proto.Message) string {
	var b []byte
	if magic != 0x58313116 { // inventory
		b = binary.LittleEndian.AppendUint32(b, 0x54564319)
	}
	b = binary.LittleEndian.AppendUint32(b, magic)
	for _, m := range entries {
		payload, err := proto.MarshalOptions{AllowPartial: true}.Marshal(m)
		if err != nil {
			panic(err)
		}
		b = binary.LittleEndian.AppendUint32(b, uint32(len(payload)))
		b = append(b, payload...)
	}
	return string(b)
}

func pstree(pid, ppid, pgid, sid uint32, threads ...uint32) proto.Message {
	return &criupstree.PstreeEntry{Pid: new(pid), Ppid: new(ppid), Pgid: new(pgid), Sid: new(sid), Threads: append([]uint32{pid}, threads...)}
}

func core(comm string, state, code uint32) string {
	return encode(0x55053847, &criucore.CoreEntry{
		Mtype:      criucore.CoreEntryMarch(1).Enum(),
		Tc:         &criucore.TaskCoreEntry{TaskState: new(state), ExitCode: new(code), Comm: new(comm)},
		ThreadCore: &criucore.ThreadCoreEntry{Creds: nil, Comm: new(comm)},
	})
}

func ids(files uint32) string {
	return encode(0x54432030, &criucore.TaskKobjIdsEntry{VmId: new(uint32(1)), FilesId: new(files), FsId: new(uint32(1)), SighandId: new(uint32(1))})
}

func reg(id uint32, name string, pos uint64, flags, mode uint32) proto.Message {
	return &criufdinfo.FileEntry{Type: criufdinfo.FdTypes_REG.Enum(), Id: new(id), Reg: &criureg.RegFileEntry{
		Id: new(id), Flags: new(flags), Pos: new(pos), Fown: &criufown.FownEntry{}, Name: new(name), Mode: new(mode),
	}}
}

func pipeEnd(id, inode, flags uint32) proto.Message {
	return &criufdinfo.FileEntry{Type: criufdinfo.FdTypes_PIPE.Enum(), Id: new(id), Pipe: &criupipe.PipeEntry{
		Id: new(id), PipeId: new(inode), Flags: new(flags), Fown: &criufown.FownEntry{},
	}}
}

func socket(id, inode, peer uint32, name string, external bool) proto.Message {
	uflags := uint32(0)
	if external {
		uflags = 1
	}
	return &criufdinfo.FileEntry{Type: criufdinfo.FdTypes_UNIXSK.Enum(), Id: new(id), Usk: &criuunix.UnixSkEntry{
		Id: new(id), Ino: new(inode), Type: new(uint32(1)), State: new(uint32(1)), Flags: new(uint32(2)), Uflags: new(uflags),
		Backlog: new(uint32(0)), Peer: new(peer), Name: []byte(name), NameDir: new("/run/"),
	}}
}

func fd(n, file uint32, typ criufdinfo.FdTypes) proto.Message {
	return &criufdinfo.FdinfoEntry{Id: new(file), Flags: new(n % 2), Type: typ.Enum(), Fd: new(n)}
}

// sample is a job of three processes, the second of which shares the descriptors
// of the first, and the third of which has ended.
func sample() map[string]string {
	mm := encode(0x57492820, &criumm.MmEntry{ExeFileId: new(uint32(1)), Vmas: []*criuvma.VmaEntry{
		{Start: new(uint64(0x1000)), End: new(uint64(0x5000)), Status: new(uint32(1))},
		{Start: new(uint64(1) << 60), End: new(uint64(1)<<60 + 0x1000), Status: new(uint32(1 | 4))},
	}})
	pagemap := func(pages uint32) string {
		return encode(0x56084025, &criupagemap.PagemapHead{PagesId: new(pages)},
			&criupagemap.PagemapEntry{Vaddr: new(uint64(0x1000)), CompatNrPages: new(uint32(2)), Flags: new(uint32(4))})
	}
	dirs := encode(0x51403912, &criufs.FsEntry{CwdId: new(uint32(2)), RootId: new(uint32(3))})
	const read, write, both = 0, 1, 2
	return map[string]string{
		images.InventoryName: encode(0x58313116, &criuinventory.InventoryEntry{ImgVersion: new(uint32(2)), FdinfoPerId: new(true)}),
		"pstree.img": encode(0x50273030,
			pstree(10, 0, 10, 5, 12), pstree(11, 10, 10, 5), pstree(13, 10, 10, 5)),
		"core-10.img": core("root\x1b[2J", 1, 0), "core-11.img": core("child", 3, 0), "core-13.img": core("dead", 2, 7<<8),
		"core-12.img": encode(0x55053847, &criucore.CoreEntry{ThreadCore: &criucore.ThreadCoreEntry{Comm: new("thread")}}),
		"mm-10.img":   mm, "mm-11.img": mm, "fs-10.img": dirs, "fs-11.img": dirs, "ids-10.img": ids(2), "ids-11.img": ids(2),
		"pagemap-10.img": pagemap(1), "pagemap-11.img": pagemap(2), "pages-1.img": strings.Repeat("1", 8192), "pages-2.img": strings.Repeat("2", 8192),
		"files.img": encode(0x56303138,
			reg(1, "/bin/prog", 0, read, unix.S_IFREG), reg(2, "/home", 0, read, unix.S_IFDIR), reg(3, "/", 0, read, unix.S_IFDIR),
			reg(4, "/tmp/gone", 17, both, unix.S_IFREG), reg(5, "/dev/null", 0, write, unix.S_IFCHR),
			pipeEnd(6, 1000, read), pipeEnd(7, 1001, read), pipeEnd(8, 1001, write), pipeEnd(9, 1002, write),
			socket(10, 2000, 2001, "", false), socket(11, 2001, 0, "log\x00", true), socket(12, 2002, 2003, "\x00abstract", false), socket(13, 2003, 2002, "", false),
			reg(14, "/tmp/link_remap.1", 0, read, unix.S_IFREG), reg(15, "/tmp/linked", 3, read, unix.S_IFREG),
		),
		"remap-fpath.img": encode(0x59133954,
			&criuremap.RemapFilePathEntry{OrigId: new(uint32(4)), RemapId: new(uint32(26)), RemapType: criuremap.RemapType_GHOST.Enum()},
			&criuremap.RemapFilePathEntry{OrigId: new(uint32(15)), RemapId: new(uint32(14)), RemapType: criuremap.RemapType_LINKED.Enum()}),
		"ghost-file-1a.img": "ghost",
		"fdinfo-2.img": encode(0x56213732,
			fd(9, 13, criufdinfo.FdTypes_UNIXSK),
			fd(0, 6, criufdinfo.FdTypes_PIPE), fd(1, 7, criufdinfo.FdTypes_PIPE), fd(2, 8, criufdinfo.FdTypes_PIPE), fd(3, 9, criufdinfo.FdTypes_PIPE),
			fd(4, 4, criufdinfo.FdTypes_REG), fd(5, 5, criufdinfo.FdTypes_REG), fd(6, 6, criufdinfo.FdTypes_PIPE),
			fd(7, 10, criufdinfo.FdTypes_UNIXSK), fd(8, 12, criufdinfo.FdTypes_UNIXSK), fd(100, 99, criufdinfo.FdTypes_EVENTFD)),
		images.ExternalPipesName: "1000\n",
		images.SavedFilesName:    "blcr-cli saved files 1\n" + "\"/bin/prog\" 10000 0 0755 0 0 private file-1 0+10\n",
		"file-1":                 "0123456789",
	}
}

// fromFile inspects a context file.
func fromFile(fd int) (*Info, error) {
	c, err := ctxfile.Open(context.Background(), fd)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return Context(c)
}

// contextOf makes a context of images, and returns it open at its beginning.
func contextOf(t testing.TB, images map[string]string) int {
	t.Helper()
	fd, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	w, err := ctxfile.NewWriter(fd, ctxfile.Header{
		Engine: "criu 4.2", Created: time.Unix(1e9, 0), Host: "h", Kernel: "6.1", Machine: "m", Command: []string{"a", "b c"}, PIDs: []int{10, 11, 13},
	}, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range slices.Sorted(maps.Keys(images)) {
		if err := w.Bytes(name, []byte(images[name])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Seek(fd, 0, 0); err != nil {
		t.Fatal(err)
	}
	return fd
}

// imageDir makes a directory of images and opens it.
func imageDir(t *testing.T, images map[string]string) (fd int, dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, content := range images {
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

func TestInspect(t *testing.T) {
	fd := contextOf(t, sample())
	info, err := fromFile(fd)
	if err != nil {
		t.Fatal(err)
	}
	if info.Missing != "" || info.Directory || info.Header.Engine != "criu 4.2" || !info.Header.Created.Equal(time.Unix(1e9, 0)) {
		t.Errorf("%+v", info)
	}
	end, _ := unix.Seek(fd, 0, 1)
	if s := info.Sizes; s.Total() != end || s.Pages != 16384 || s.Removed != 5 || s.Saved != 10 || s.Rest < 4096 {
		t.Errorf("%+v, and the context has %d bytes", s, end)
	}
	if want := []SavedFile{{"/bin/prog", 10000, 10, false}}; !reflect.DeepEqual(info.Saved, want) {
		t.Errorf("saved: %+v", info.Saved)
	}
	if want := []RemovedFile{{Path: "/tmp/gone", Stored: 5}, {Path: "/tmp/linked", To: "/tmp/link_remap.1"}}; !reflect.DeepEqual(info.Removed, want) {
		t.Errorf("removed: %+v", info.Removed)
	}
	if len(info.Processes) != 3 {
		t.Fatalf("%+v", info.Processes)
	}
	p := info.Processes[0]
	if p.PID != 10 || p.PPID != 0 || p.PGID != 10 || p.SID != 5 || p.Name != "root\x1b[2J" || p.State != images.StateAlive ||
		p.Mapped != 0x4000 || p.Saved != 8192 || p.Exe != "/bin/prog" || p.Cwd != "/home" || p.Root != "/" {
		t.Errorf("%+v", p)
	}
	if want := []Thread{{10, "root\x1b[2J"}, {12, "thread"}}; !reflect.DeepEqual(p.Threads, want) {
		t.Errorf("threads: %+v", p.Threads)
	}
	want := []File{
		{FD: 0, Kind: "pipe", Offset: -1, Access: "read", Inode: 1000, External: true},
		{FD: 1, Kind: "pipe", Offset: -1, Access: "read", Inode: 1001},
		{FD: 2, Kind: "pipe", Offset: -1, Access: "write", Inode: 1001},
		{FD: 3, Kind: "pipe", Offset: -1, Access: "write", Inode: 1002}, // closed at its other end
		{FD: 4, Kind: "file", Path: "/tmp/gone", Offset: 17, Access: "read_write", Removed: true},
		{FD: 5, Kind: "device", Path: "/dev/null", Access: "write"},
		{FD: 6, Kind: "pipe", Offset: -1, Access: "read", Inode: 1000, External: true},
		{FD: 7, Kind: "unix_socket", Offset: -1, Inode: 2000, PeerInode: 2001, Peer: "/run/log", External: true},
		{FD: 8, Kind: "unix_socket", Offset: -1, Inode: 2002, Path: "@abstract", PeerInode: 2003},
		{FD: 9, Kind: "unix_socket", Offset: -1, Inode: 2003, PeerInode: 2002, Peer: "@abstract"},
		{FD: 100, Kind: "eventfd", Offset: -1},
	}
	for i := range want {
		want[i].CloseOnExec = want[i].FD%2 == 1
	}
	if !reflect.DeepEqual(p.Files, want) {
		t.Errorf("files:\n%+v, want\n%+v", p.Files, want)
	}
	if p := info.Processes[1]; p.FilesOf != 10 || p.Files != nil || p.State != images.StateStopped || p.PPID != 10 {
		t.Errorf("%+v", p)
	}
	if p := info.Processes[2]; p.State != images.StateDead || p.Status.ExitStatus() != 7 || p.Files != nil || p.Mapped != 0 {
		t.Errorf("%+v", p)
	}
	if len(info.External) != 2 || !reflect.DeepEqual(info.External[0].FDs, []Descriptor{{10, 0}, {10, 6}}) || !reflect.DeepEqual(info.External[1].FDs, []Descriptor{{10, 7}}) {
		t.Errorf("external: %+v", info.External)
	}

	// A directory of the same.
	dirFD, dir := imageDir(t, sample())
	written := time.Unix(1.5e9, 0)
	if err := os.Chtimes(filepath.Join(dir, images.InventoryName), written, written); err != nil {
		t.Fatal(err)
	}
	// What is in there besides does not count.
	for _, name := range []string{"notes.txt", "core-10.img.orig"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("other"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	same, err := Directory(dirFD)
	if err != nil {
		t.Fatal(err)
	}
	if !same.Directory || !same.Header.Created.Equal(written) || same.Header.Machine != "x86_64" || !slices.Equal(same.Header.PIDs, []int{10, 11, 13}) {
		t.Errorf("%+v", same)
	}
	if s := same.Sizes; s.Rest != 0 || s.Total() != info.Sizes.Total()-info.Sizes.Rest {
		t.Errorf("%+v", s)
	}
	same.Header, same.Directory, same.Sizes = info.Header, false, info.Sizes
	if !reflect.DeepEqual(same, info) {
		t.Errorf("%+v\nthe context says\n%+v", same, info)
	}
}

// Without the note all pipes of one end may lead external.
func TestInspectWithoutNote(t *testing.T) {
	files := sample()
	delete(files, images.ExternalPipesName)
	info, err := fromFile(contextOf(t, files))
	if err != nil || info.Missing != "" || !info.Processes[0].Files[3].External || info.Processes[0].Files[1].External {
		t.Errorf("%v: %+v", err, info)
	}
}

// Each image that is missing is told, but for those that need not be there.
func TestInspectMissing(t *testing.T) {
	for name := range sample() {
		files := sample()
		delete(files, name)
		info, err := fromFile(contextOf(t, files))
		switch name {
		case images.InventoryName, "pstree.img", "file-1":
			if detail(err) == "" {
				t.Errorf("without %s: %v", name, err)
			}
		case "remap-fpath.img", images.ExternalPipesName, images.SavedFilesName:
			if err != nil || info.Missing != "" {
				t.Errorf("without %s: %v, %+v", name, err, info)
			}
		case "fdinfo-2.img": // a process with nothing open has none
			if err != nil || info.Missing != "" {
				t.Errorf("without %s: %v, %+v", name, err, info)
			}
			fd, _ := imageDir(t, files)
			if info, err := Directory(fd); err != nil || info.Missing != name+" is missing" {
				t.Errorf("a directory without %s: %v, %+v", name, err, info)
			}
		default:
			if err != nil || info.Missing != name+" is missing" {
				t.Errorf("without %s: %v, %+v", name, err, info)
			}
		}
	}
	short := sample()
	short["pages-1.img"] = short["pages-1.img"][:8191]
	fd, dir := imageDir(t, short)
	if info, err := Directory(fd); err != nil || info.Missing != "pages-1.img is truncated" {
		t.Errorf("%v: %+v", err, info)
	}
	if err := os.Symlink("..", dir+"/parent"); err != nil {
		t.Fatal(err)
	}
	if info, err := Directory(fd); err != nil || !strings.Contains(info.Missing, "earlier dump") {
		t.Errorf("%v: %+v", err, info)
	}
}

// detail is what is wrong with the images, "" if that is not what err is about.
func detail(err error) string {
	var file *ctxfile.Error
	if err == nil || errors.As(err, &file) || errors.Is(err, syscall.EBADF) {
		return ""
	}
	return err.Error()
}

// Images that are cut off or other ones are errors that name them, and nothing
// worse.
func TestInspectDamaged(t *testing.T) {
	for name, content := range sample() {
		switch {
		case strings.HasPrefix(name, "pages-"), strings.HasPrefix(name, "ghost-"), name == "file-1", name == images.ExternalPipesName:
			continue
		}
		for _, damage := range []string{"", content[:len(content)-1], "junk" + content} {
			files := sample()
			files[name] = damage
			_, err := fromFile(contextOf(t, files))
			if text := detail(err); !strings.Contains(text, name) {
				t.Errorf("%s of %d bytes: %v", name, len(damage), err)
			}
		}
	}
}

// A context that claims to have more than is read of one is refused.
func TestInspectTooLarge(t *testing.T) {
	before := maxRead
	defer func() { maxRead = before }()
	maxRead = 4 << 20
	files := sample()
	files["pstree.img"] = encode(0x50273030, pstree(10, 0, 10, 5), pstree(11, 10, 10, 5), pstree(13, 10, 10, 5), pstree(14, 10, 10, 5))
	for _, name := range []string{"core-11.img", "core-13.img", "core-14.img"} {
		files[name] = core("x", 2, 0) + strings.Repeat("\x00", 1500<<10)
	}
	fd, _ := imageDir(t, files)
	if _, err := Directory(fd); err == nil || !strings.Contains(err.Error(), "too large") {
		t.Error(err)
	}
	maxRead = 5 << 20
	if info, err := Directory(fd); err != nil || len(info.Processes) != 4 {
		t.Error(err)
	}
}

// Many processes and descriptors are done in time, and no image is read twice
// for those that share it.
func TestInspectMany(t *testing.T) {
	all := sample()
	tree := []proto.Message{pstree(10, 0, 10, 5)}
	var files, fds []proto.Message
	for i := uint32(1); i < 3000; i++ {
		tree = append(tree, pstree(10+i, 10, 10, 5))
		for _, name := range []string{"core", "mm", "fs", "ids", "pagemap"} {
			all[fmt.Sprintf("%s-%d.img", name, 10+i)] = all[name+"-11.img"]
		}
	}
	for i := uint32(1); i < 50000; i++ {
		files = append(files, pipeEnd(i, 5000+i, 0))
		fds = append(fds, fd(i, i, criufdinfo.FdTypes_PIPE))
	}
	all["pstree.img"] = encode(0x50273030, tree...)
	all["files.img"] = encode(0x56303138, files...)
	all["fdinfo-2.img"] = encode(0x56213732, fds...)
	delete(all, images.ExternalPipesName)
	delete(all, "remap-fpath.img")
	context := contextOf(t, all)
	start := time.Now()
	info, err := fromFile(context)
	if err != nil || len(info.Processes) != 3000 || len(info.External) != 49999 {
		t.Fatalf("%v: %d", err, len(info.Processes))
	}
	if d := time.Since(start); d > harness.Patience {
		t.Errorf("it took %v", d)
	}
}

func TestInspectErrors(t *testing.T) {
	fd, _ := imageDir(t, map[string]string{"core-1.img": "x"})
	if _, err := Directory(fd); !strings.Contains(detail(err), "there is no inventory.img in it") {
		t.Error(err)
	}
	if _, err := fromFile(-1); !errors.Is(err, syscall.EBADF) {
		t.Error(err)
	}
	if _, err := Directory(-1); !errors.Is(err, syscall.EBADF) {
		t.Error(err)
	}
	null, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(null)
	_, err = fromFile(null)
	if e, ok := errors.AsType[*ctxfile.Error](err); !ok || e.Reason != "empty" {
		t.Error(err)
	}
}

// memory is a source in memory.
type memory map[string]string

func (m memory) Has(name string) bool              { _, ok := m[name]; return ok }
func (m memory) Bytes(name string) ([]byte, error) { return []byte(m[name]), nil }
func (m memory) Names() []string                   { return slices.Collect(maps.Keys(m)) }
func (m memory) Stored(name string) int64          { return m.Size(name) }

func (m memory) Size(name string) int64 {
	if !m.Has(name) {
		return -1
	}
	return int64(len(m[name]))
}

// FuzzInspect puts bytes in the place of one image. The seeds are the images of
// sample, and real ones.
func FuzzInspect(f *testing.F) {
	all := sample()
	names := slices.Sorted(maps.Keys(all))
	real, err := filepath.Glob("../images/testdata/*.img")
	if err != nil || len(real) == 0 {
		f.Fatal(real, err)
	}
	for i, name := range names {
		f.Add(uint(i), []byte(all[name]))
		kind, _, _ := strings.Cut(strings.TrimSuffix(name, ".img"), "-")
		for _, path := range real {
			if strings.HasPrefix(filepath.Base(path), kind) {
				b, err := os.ReadFile(path)
				if err != nil {
					f.Fatal(err)
				}
				f.Add(uint(i), b)
			}
		}
	}
	f.Fuzz(func(t *testing.T, i uint, b []byte) {
		files := maps.Clone(all)
		files[names[i%uint(len(names))]] = string(b)
		in := &inspection{from: memory(files), info: new(Info)}
		if err := in.run(); err == nil && len(in.info.Processes) == 0 {
			t.Error("no processes")
		}
	})
}
