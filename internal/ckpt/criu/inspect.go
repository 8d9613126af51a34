package criu

import (
	"context"
	"cmp"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt/criu/images"
	"blcr-cli/internal/ctxfile"
)

// Inspect tells what is in a context, for people. It needs no criu, restores
// nothing, and reads no memory of processes: the header, the index and the small
// images only, whose sizes are limited, so that it costs the same for any context.

// Info is what a context tells of itself. What is not known is the zero value.
// Names may hold anything: quote them before printing.
type Info struct {
	// Header is the context's. Of a directory there are only Created, which is
	// when its inventory was written, Machine and PIDs.
	Header    ctxfile.Header
	Directory bool

	// Missing says why the context cannot be restored although it is sound as
	// far as it goes, "" if nothing is missing.
	Missing string

	Processes []ProcessInfo // parents before their children, the root first
	Outside   []OutsideInfo
	Removed   []RemovedFile
	Saved     []SavedFile
	Sizes     Sizes
}

// ProcessInfo is a process that was saved.
type ProcessInfo struct {
	images.Task // PPID is 0 for the root

	Name     string
	State    images.State
	End      unix.WaitStatus // of one that had ended
	UID, GID uint32
	Threads  []ThreadInfo // the leader first

	Mapped uint64 // bytes of address space
	Saved  uint64 // bytes of these that are in the context

	// Names of files.
	Exe, Cwd, Root string

	// Files are what it had open, by descriptor. It shares them with the
	// process FilesOf if that is not 0, and then they are only there.
	Files   []FileInfo
	FilesOf int32
}

// ThreadInfo is a thread.
type ThreadInfo struct {
	TID  int32
	Name string
}

// FileInfo is an open descriptor.
type FileInfo struct {
	FD   uint32
	Kind string // see kinds

	// Path is the name of what has one in the file system; "@" begins that of
	// a socket that has not. A memfd has its own.
	Path string
	// Offset is -1 for what has none.
	Offset int64
	Access string // "read", "write", "read_write"; "" if it is not known
	Inode  uint32 // of a pipe or socket, 0 if it has none

	// Local and Peer are a socket's addresses, or a peer's path, or PeerInode
	// is the peer's.
	Local, Peer string
	PeerInode   uint32
	Listening   bool

	CloseOnExec bool
	Removed     bool // the file had lost its name, and travels in the context
	Outside     bool // it leads to somebody who was not saved
}

// OutsideInfo is one thing that leads to somebody who was not saved.
type OutsideInfo struct {
	FileInfo // of one of the descriptors
	FDs      []Descriptor
}

// Descriptor is one of a process.
type Descriptor struct {
	PID int32
	FD  uint32
}

// RemovedFile is a file that had no name any more. Stored is what its image
// takes, or 0 if it has none: then it is under the name To, or was in /proc.
type RemovedFile struct {
	Path   string
	To     string
	Stored int64
}

// SavedFile is a file that travels along, under one of its names.
type SavedFile struct {
	Path   string
	Size   int64
	Stored int64 // without its holes
	Shared bool  // a process may write into it through its memory
}

// Sizes is how many bytes the parts of a context take.
type Sizes struct {
	Pages   int64 // memory of processes
	Removed int64 // files that had no name any more
	Saved   int64 // files that travel along
	Images  int64 // all others
	Rest    int64 // header, index, and what is between images
}

// Total is what the context takes.
func (s Sizes) Total() int64 { return s.Pages + s.Removed + s.Saved + s.Images + s.Rest }

// catalog is a source that knows what is in it.
type catalog interface {
	Has(name string) bool
	Bytes(name string) ([]byte, error)
	Names() []string
	Size(name string) int64
	Stored(name string) int64 // what it takes, which compression makes less
	Close() error
}

// Inspect reads the context that is open as fd, a directory of images if
// directory. The descriptor remains the caller's.
//
// Errors: what is no context, or is damaged, is EINVAL with one line of Detail
// that says why; all others are the system's.
func Inspect(fd int, directory bool) (*Info, error) {
	// Images may be large, and of many contexts.
	debug.SetGCPercent(100)
	if directory {
		return inspectDir(fd)
	}
	c, err := ctxfile.Open(context.Background(), fd)
	if err != nil {
		return nil, contextError(err)
	}
	defer c.Close()
	in := &inspection{from: c, info: &Info{Header: c.Header()}}
	if err := in.read(); err != nil {
		return nil, err
	}
	s := &in.info.Sizes
	s.Rest = max(c.Length()-s.Total(), 0)
	return in.info, nil
}

func inspectDir(fd int) (*Info, error) {
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, sysError("open", "", err)
	}
	c := &dirCatalog{dirSource: dirSource{fd: dup, name: "directory", waiting: make(map[*os.File]bool)}}
	defer c.Close()
	if err := c.list(); err != nil {
		return nil, err
	}
	if !c.Has(Inventory) {
		return nil, c.invalid(syscall.EINVAL, "not a directory of images: there is no "+Inventory+" in it")
	}
	in := &inspection{from: c, info: &Info{Directory: true}}
	in.info.Header.Created = c.written
	if err := in.read(); err != nil {
		return nil, err
	}
	if c.parent {
		in.info.Missing = "it only holds what has changed since an earlier dump"
	}
	for _, t := range in.info.Processes {
		in.info.Header.PIDs = append(in.info.Header.PIDs, int(t.PID))
	}
	return in.info, nil
}

// dirCatalog is a directory of images with a list of them.
type dirCatalog struct {
	dirSource
	names   []string
	sizes   map[string]int64
	written time.Time // the inventory
	parent  bool
}

// list reads the directory.
func (c *dirCatalog) list() error {
	fd, err := unix.Openat(c.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return sysError("open", c.name, err)
	}
	dir := os.NewFile(uintptr(fd), c.name)
	defer dir.Close()
	c.sizes = make(map[string]int64)
	for {
		names, err := dir.Readdirnames(1000)
		for _, name := range names {
			var st unix.Stat_t
			if !IsImage(name) || unix.Fstatat(c.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
				continue
			}
			c.parent = c.parent || name == "parent"
			if st.Mode&unix.S_IFMT != unix.S_IFREG {
				continue
			}
			if name == Inventory {
				c.written = time.Unix(st.Mtim.Unix()).UTC().Truncate(time.Second)
			}
			c.names = append(c.names, name)
			c.sizes[name] = st.Size
		}
		switch {
		case err == io.EOF:
			slices.Sort(c.names)
			return nil
		case err != nil:
			return sysError("read", c.name, err)
		}
	}
}

func (c *dirCatalog) Names() []string { return c.names }

func (c *dirCatalog) Stored(name string) int64 { return c.Size(name) }

func (c *dirCatalog) Size(name string) int64 {
	if size, ok := c.sizes[name]; ok {
		return size
	}
	return -1
}

// mostRead is how many bytes of images are read of one context. A context of
// thousands of processes has less, but one that was made up may claim anything.
const mostRead = 1 << 30

// inspection is one context that is being read.
type inspection struct {
	from catalog
	info *Info
	left int64 // of mostRead

	inventory images.Inventory
	files     map[uint32]images.File // by id
	removed   map[uint32]bool        // ids of those without a name
	memfds    map[uint32]string
	outside   map[uint32]bool // ids
	tables    map[uint32]int32
	byOutside map[outsideKey]int // index in info.Outside

	socketNames map[uint32]string // see peers
}

// outsideKey is what leads outside: the same pipe, socket or terminal.
type outsideKey struct {
	kind, path    string
	inode, fileID uint32
}

// bytes returns an image; nil and no error if it is missing, which is noted.
func (in *inspection) bytes(name string) ([]byte, error) {
	if !in.from.Has(name) {
		if in.info.Missing == "" {
			in.info.Missing = name + " is missing"
		}
		return nil, nil
	}
	return in.optional(name)
}

// optional is bytes for an image that need not be there.
func (in *inspection) optional(name string) ([]byte, error) {
	if !in.from.Has(name) {
		return nil, nil
	}
	if in.left -= in.from.Size(name); in.left < 0 {
		return nil, damaged("the images are too large to be looked at")
	}
	b, err := in.from.Bytes(name)
	if err != nil {
		return nil, contextError(err)
	}
	return b, nil
}

// damaged is an error of a context that is not as it should be.
func damaged(format string, args ...any) error { return imageError(fmt.Errorf(format, args...)) }

// about names an image in the error of what was read from it.
func about(name string, err error) error {
	if err == nil {
		return nil
	}
	return damaged("%s: %w", name, err)
}

// read reads everything.
func (in *inspection) read() error {
	in.left = mostRead
	for _, step := range []func() error{in.addSizes, in.readInventory, in.readFiles, in.findOutside, in.readProcesses, in.readSaved, in.checkShared} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// addSizes adds up the sizes of the parts.
func (in *inspection) addSizes() error {
	s := &in.info.Sizes
	for _, name := range in.from.Names() {
		part := &s.Images
		switch {
		case strings.HasPrefix(name, "pages-"):
			part = &s.Pages
		case strings.HasPrefix(name, "ghost-file-"):
			part = &s.Removed
		case memberName().MatchString(name):
			part = &s.Saved
		}
		*part += in.from.Stored(name)
	}
	return nil
}

func (in *inspection) readInventory() error {
	b, err := in.optional(Inventory)
	if err != nil {
		return err
	}
	if b == nil {
		return damaged("there is no %s in it", Inventory)
	}
	in.inventory, err = images.ReadInventory(b)
	return about(Inventory, err)
}

// readFiles reads the files that processes refer to.
func (in *inspection) readFiles() error {
	in.files = make(map[uint32]images.File)
	in.removed = make(map[uint32]bool)
	const name, memfds, remap = "files.img", "memfd.img", "remap-fpath.img"
	b, err := in.bytes(name)
	if b == nil || err != nil {
		return err
	}
	files, err := images.Files(b)
	if err != nil {
		return about(name, err)
	}
	for _, f := range files {
		in.files[f.ID] = f
	}
	if b, err = in.optional(memfds); b != nil && err == nil {
		in.memfds, err = images.MemFDNames(b)
		err = about(memfds, err)
	}
	if err != nil {
		return err
	}
	if b, err = in.optional(remap); b == nil || err != nil {
		return err
	}
	remaps, err := images.Remaps(b)
	if err != nil {
		return about(remap, err)
	}
	for _, r := range remaps {
		in.removed[r.File] = true
		f := RemovedFile{Path: in.name(r.File)}
		switch r.Type {
		case images.RemapLinked:
			f.To = in.name(r.To)
		case images.RemapGhost:
			ghost := fmt.Sprintf("ghost-file-%x.img", r.To)
			if f.Stored = in.from.Size(ghost); f.Stored < 0 {
				f.Stored, in.info.Missing = 0, ghost+" is missing"
			}
		}
		in.info.Removed = append(in.info.Removed, f)
	}
	return nil
}

// name is the name of a file, "" if it has none.
func (in *inspection) name(id uint32) string { return in.files[id].Name }

// findOutside finds the files that lead outside.
func (in *inspection) findOutside() error {
	in.outside = make(map[uint32]bool)
	in.byOutside = make(map[outsideKey]int)
	note := func(ids ...uint32) {
		for _, id := range ids {
			in.outside[id] = true
		}
	}
	files := make([]images.File, 0, len(in.files))
	connected := make(map[[2]string]bool)
	for _, f := range in.files {
		files = append(files, f)
		if f.Type == images.TypeInet {
			connected[[2]string{f.Inet.Local.String(), f.Inet.Peer.String()}] = true
		}
	}
	for _, f := range files {
		switch {
		case f.Type == images.TypeExt:
			note(f.ID)
		case f.Type == images.TypeInet && f.State == tcpEstablished &&
			!connected[[2]string{f.Inet.Peer.String(), f.Inet.Local.String()}]:
			note(f.ID)
		}
	}
	text, err := in.optional(neighboursImage)
	if err != nil {
		return err
	}
	noted := make(map[uint32]bool)
	for _, inode := range numbers(string(text)) {
		noted[uint32(inode)] = true
	}
	// The descriptors are found by the files, so there are no tables here.
	for _, p := range images.OutsidePipes(files, nil) {
		if noted[p.ID] || !in.from.Has(neighboursImage) {
			note(p.Files...)
		}
	}
	for _, s := range images.OutsideSockets(files, nil) {
		note(s.Files...)
	}
	const name = "tty-info.img"
	b, err := in.optional(name)
	if b == nil || err != nil {
		return err
	}
	ttys, err := images.TTYs(b)
	if err != nil {
		return about(name, err)
	}
	for _, t := range images.OutsideTTYs(files, ttys, nil) {
		note(t.Files...)
	}
	return nil
}

// tcpEstablished is TCP_ESTABLISHED, and what a connected UDP socket has.
const (
	tcpEstablished = 1
	tcpListen      = 10
)

func (in *inspection) readProcesses() error {
	const name = "pstree.img"
	b, err := in.optional(name)
	if err != nil {
		return err
	}
	if b == nil {
		return damaged("there is no %s in it", name)
	}
	tasks, err := images.Tasks(b)
	if err != nil {
		return about(name, err)
	}
	in.tables = make(map[uint32]int32)
	for _, task := range tasks {
		p, err := in.process(task)
		if err != nil {
			return err
		}
		in.info.Processes = append(in.info.Processes, *p)
	}
	return nil
}

// process reads what there is of one process.
func (in *inspection) process(task images.Task) (*ProcessInfo, error) {
	p := &ProcessInfo{Task: task}
	name := fmt.Sprintf("core-%d.img", task.PID)
	var core images.Core
	b, err := in.bytes(name)
	if err == nil && b != nil {
		core, err = images.ReadCore(b)
		err = about(name, err)
	}
	if err != nil {
		return nil, err
	}
	p.Name, p.State, p.UID, p.GID = core.Comm, core.State, core.UID, core.GID
	if in.info.Header.Machine == "" {
		in.info.Header.Machine = core.Machine
	}
	p.Threads = []ThreadInfo{{task.PID, core.Comm}}
	if p.State == images.StateDead || p.State == images.StateZombie {
		p.End = unix.WaitStatus(core.ExitCode)
		return p, nil
	}
	if err := in.threads(p); err != nil {
		return nil, err
	}
	if err := in.memory(p); err != nil {
		return nil, err
	}
	if err := in.directories(p); err != nil {
		return nil, err
	}
	name = fmt.Sprintf("ids-%d.img", task.PID)
	ids := core.IDs
	if ids.Files == 0 {
		if b, err = in.bytes(name); err == nil && b != nil {
			ids, err = images.TaskIDs(b)
			err = about(name, err)
		}
		if err != nil {
			return nil, err
		}
	}
	table := ids.Files
	if !in.inventory.FDInfoPerID {
		table = uint32(task.PID)
	}
	if table == 0 {
		return p, nil
	}
	return p, in.table(p, table)
}

// threads reads the threads besides the leader.
func (in *inspection) threads(p *ProcessInfo) error {
	for _, tid := range p.Task.Threads {
		if tid == p.PID {
			continue
		}
		name := fmt.Sprintf("core-%d.img", tid)
		b, err := in.bytes(name)
		if err != nil {
			return err
		}
		t := ThreadInfo{TID: tid}
		if b != nil {
			core, err := images.ReadCore(b)
			if err != nil {
				return about(name, err)
			}
			t.Name = core.Comm
		}
		p.Threads = append(p.Threads, t)
	}
	return nil
}

// memory reads what a process has mapped, and how much of it was saved.
func (in *inspection) memory(p *ProcessInfo) error {
	name := fmt.Sprintf("mm-%d.img", p.PID)
	b, err := in.bytes(name)
	if err != nil {
		return err
	}
	if b != nil {
		memory, err := images.TaskMemory(b)
		if err != nil {
			return about(name, err)
		}
		p.Mapped, p.Exe = memory.Size, in.name(memory.Exe)
	}
	p.Saved, err = in.pages(fmt.Sprintf("pagemap-%d.img", p.PID))
	return err
}

// pageSize is the smallest page of any machine that criu is for.
const pageSize = 4096

// pages is how many bytes of memory a pagemap says that there are.
func (in *inspection) pages(name string) (uint64, error) {
	b, err := in.bytes(name)
	if b == nil || err != nil {
		return 0, err
	}
	m, err := images.ReadPagemap(b)
	if err != nil {
		return 0, about(name, err)
	}
	pages := fmt.Sprintf("pages-%d.img", m.PagesID)
	size := in.from.Size(pages)
	if m.Saved > 0 && in.info.Missing == "" {
		if size < 0 {
			in.info.Missing = pages + " is missing"
		} else if in.info.Directory && uint64(size) < m.Saved*pageSize {
			in.info.Missing = pages + " is truncated"
		}
	}
	// Some machines have larger ones, which no image says.
	if n := uint64(max(size, 0)) / max(m.Saved, 1); (n == 16<<10 || n == 64<<10) && n*m.Saved == uint64(size) {
		return uint64(size), nil
	}
	return m.Saved * pageSize, nil
}

// checkShared looks whether there are the pages of memory that is shared.
func (in *inspection) checkShared() error {
	for _, name := range in.from.Names() {
		if strings.HasPrefix(name, "pagemap-shmem-") {
			if _, err := in.pages(name); err != nil {
				return err
			}
		}
	}
	return nil
}

func (in *inspection) directories(p *ProcessInfo) error {
	name := fmt.Sprintf("fs-%d.img", p.PID)
	b, err := in.bytes(name)
	if b == nil || err != nil {
		return err
	}
	dirs, err := images.TaskDirs(b)
	if err != nil {
		return about(name, err)
	}
	p.Cwd, p.Root = in.name(dirs.Cwd), in.name(dirs.Root)
	return nil
}

// table reads a table of descriptors, unless it was read for another process.
func (in *inspection) table(p *ProcessInfo, n uint32) error {
	if other, ok := in.tables[n]; ok {
		p.FilesOf = other
		return nil
	}
	in.tables[n] = p.PID
	name := tableName(n)
	b, err := in.bytes(name)
	if b == nil || err != nil {
		return err
	}
	fds, err := images.FDs(b)
	if err != nil {
		return about(name, err)
	}
	slices.SortStableFunc(fds, func(a, b images.FD) int { return cmp.Compare(a.FD, b.FD) })
	for _, fd := range fds {
		f := in.file(fd)
		p.Files = append(p.Files, f)
		if f.Outside {
			in.addOutside(p.PID, fd, f)
		}
	}
	return nil
}

// addOutside notes a descriptor that leads outside, with the others to the same.
func (in *inspection) addOutside(pid int32, fd images.FD, f FileInfo) {
	key := outsideKey{kind: f.Kind, path: f.Path, inode: f.Inode}
	if f.Inode == 0 && f.Path == "" {
		key.fileID = fd.FileID
	}
	i, ok := in.byOutside[key]
	if !ok {
		i = len(in.info.Outside)
		in.byOutside[key] = i
		in.info.Outside = append(in.info.Outside, OutsideInfo{FileInfo: f})
	}
	o := &in.info.Outside[i]
	o.FDs = append(o.FDs, Descriptor{pid, fd.FD})
}

// readSaved reads the list of files that travel along.
func (in *inspection) readSaved() error {
	b, err := in.optional(savedList)
	if b == nil || err != nil {
		return err
	}
	files, err := parseSaved(b)
	if err != nil {
		return imageError(err)
	}
	for _, f := range files {
		s := SavedFile{Path: f.name, Size: f.size, Shared: f.shared}
		if s.Stored = in.from.Size(f.member); s.Stored < 0 {
			return damaged("%w: there is no %s", errSaved, f.member)
		}
		in.info.Saved = append(in.info.Saved, s)
	}
	return nil
}
