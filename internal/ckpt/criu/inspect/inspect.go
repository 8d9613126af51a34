// Package inspect tells what a context of the criu engine holds, for people: a
// context file or a directory of images. It needs no criu, restores nothing, and
// reads no memory of processes: the header, the index and the small images only,
// whose sizes are limited, so that it costs the same for any context.
//
// What an image contains belongs to package images, and how facts are printed to
// the command.
package inspect

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt/criu/imagedir"
	"blcr-cli/internal/ckpt/criu/images"
	"blcr-cli/internal/ctxfile"
)

// Info is what a context holds. What is not known is the zero value. Names may
// hold any bytes: quote them before printing.
type Info struct {
	// Header is that of the context file. Of a directory there are only Created,
	// which is when its inventory was written, Machine and PIDs.
	Header    ctxfile.Header
	Directory bool

	// Missing says why the context cannot be restored although it is sound as
	// far as it goes, "" if nothing is missing.
	Missing string

	Processes []Process // parents before their children, the root first
	External  []External
	Removed   []RemovedFile
	Saved     []SavedFile
	Sizes     Sizes
}

// Process is a process that was saved.
type Process struct {
	PID, PPID, PGID, SID int32 // as in images.Task

	Name     string
	State    images.State
	Status   unix.WaitStatus // if it had ended
	UID, GID uint32
	Threads  []Thread // the main thread first

	Mapped uint64 // bytes of address space
	Saved  uint64 // bytes of these that are in the context

	// Names of files.
	Exe, Cwd, Root string

	// Files are its open descriptors, in order. A process that shares them with
	// the process FilesOf, if that is not 0, has none here.
	Files   []File
	FilesOf int32
}

// Thread is a thread of a process.
type Thread struct {
	TID  int32
	Name string
}

// File is an open descriptor.
type File struct {
	FD   uint32
	Kind string // see kinds

	// Path is the name of a file in the file system, or of a memfd. That of a
	// socket which is not in the file system begins with "@".
	Path   string
	Offset int64  // -1 for a file that has none
	Access string // "read", "write", "read_write", "" if it is not known
	Inode  uint32 // of a pipe or socket, 0 if it has none

	// Local and Peer are the addresses of a socket; of a UNIX socket, Peer and
	// PeerInode are its peer's path and inode.
	Local, Peer string
	PeerInode   uint32
	Listening   bool

	CloseOnExec bool
	Removed     bool // the file had lost its name, and its content is in the context
	External    bool // its other end was not open in the tree
}

// External is a pipe, socket or terminal whose other end was not open in the
// tree.
type External struct {
	File // one of the descriptors
	FDs  []Descriptor
}

// Descriptor is a descriptor of a process.
type Descriptor struct {
	PID int32
	FD  uint32
}

// RemovedFile is a file that had lost its name.
type RemovedFile struct {
	Path   string
	To     string // another name that it still has
	Stored int64  // bytes of its image, 0 if it has none
}

// SavedFile is a file that was saved with the processes, under one of its names.
type SavedFile struct {
	Path   string
	Size   int64
	Stored int64 // without its holes
	Shared bool  // a process may write into it through its memory
}

// Sizes is how many bytes the parts of a context take.
type Sizes struct {
	Pages   int64 // memory of processes
	Removed int64 // files that had lost their names
	Saved   int64 // files that were saved with the processes
	Images  int64 // all other images
	Rest    int64 // header, index, and what is between images
}

// Total returns what the context takes.
func (s Sizes) Total() int64 { return s.Pages + s.Removed + s.Saved + s.Images + s.Rest }

// Context inspects a context file, which remains the caller's.
//
// The error is a *[ctxfile.Error] for what cannot be read or is damaged. The text of
// any other says what is wrong with the images.
func Context(c *ctxfile.Reader) (*Info, error) {
	moreGarbage()
	in := &inspection{from: c, info: &Info{Header: c.Header()}}
	if err := in.run(); err != nil {
		return nil, err
	}
	s := &in.info.Sizes
	s.Rest = max(c.Length()-s.Total(), 0)
	return in.info, nil
}

// Directory inspects the directory of images that is open as fd, which remains
// the caller's.
//
// The error is a *[ckpt.Error] for what cannot be read. The text of any other
// says what is wrong with the images.
func Directory(fd int) (*Info, error) {
	moreGarbage()
	dir, err := imagedir.Open(fd, "directory")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	list, err := dir.List()
	if err != nil {
		return nil, err
	}
	c := listedDir{dir, make(map[string]int64)}
	in := &inspection{from: c, info: &Info{Directory: true}}
	for _, image := range list {
		c.sizes[image.Name] = image.Size
		if image.Name == images.InventoryName {
			in.info.Header.Created = image.ModTime.UTC().Truncate(time.Second)
		}
	}
	if _, ok := c.sizes[images.InventoryName]; !ok {
		return nil, fmt.Errorf("no directory of contexts or images: there is no %s in it, and no context", images.InventoryName)
	}
	if err := in.run(); err != nil {
		return nil, err
	}
	if dir.Incremental() {
		in.info.Missing = "it only holds what has changed since an earlier dump"
	}
	for _, p := range in.info.Processes {
		in.info.Header.PIDs = append(in.info.Header.PIDs, int(p.PID))
	}
	return in.info, nil
}

// moreGarbage turns the garbage collector on, which package cli turns off: images
// may be large, and of many contexts.
func moreGarbage() { debug.SetGCPercent(100) }

// source is a context that is inspected.
type source interface {
	images.Source
	Names() []string
	Size(name string) int64   // -1 if there is none
	Stored(name string) int64 // bytes in the context, fewer than Size if it is compressed
}

// listedDir is a directory with the sizes of its images.
type listedDir struct {
	*imagedir.Dir
	sizes map[string]int64
}

func (d listedDir) Names() []string { return slices.Sorted(maps.Keys(d.sizes)) }

func (d listedDir) Size(name string) int64 {
	if size, ok := d.sizes[name]; ok {
		return size
	}
	return -1
}

func (d listedDir) Stored(name string) int64 { return d.Size(name) }

// maxRead is how many bytes of images are read of one context. A context of
// thousands of processes has less, but one that was made up may claim anything.
// Only tests change it.
var maxRead int64 = 1 << 30

// inspection is a context that is being read.
type inspection struct {
	from source
	info *Info
	left int64 // of maxRead

	inventory images.Inventory
	files     map[uint32]images.File // by File.ID, as the next four
	removed   map[uint32]bool
	external  map[uint32]bool
	memfds    map[uint32]string
	tables    map[uint32]int32    // the process that has a table of descriptors, by IDs.Files
	listed    map[externalKey]int // index in info.External

	socketNames map[uint32]string // see peers
}

// run reads everything.
func (in *inspection) run() error {
	in.left = maxRead
	in.addSizes()
	for _, step := range []func() error{in.readFiles, in.findExternal, in.readProcesses, in.readSaved, in.checkShared, in.checkOthers} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// checkOthers looks for ends that are missing of images that nothing here reads whole.
func (in *inspection) checkOthers() error {
	for _, name := range in.from.Names() {
		if !images.OnlyEntries(name) {
			continue
		}
		if _, _, err := load(in, name, images.CheckEntries); err != nil {
			return err
		}
	}
	return nil
}

// addSizes adds up the sizes of the parts.
func (in *inspection) addSizes() {
	s := &in.info.Sizes
	for _, name := range in.from.Names() {
		part := &s.Images
		switch {
		case images.IsPages(name):
			part = &s.Pages
		case images.IsGhost(name):
			part = &s.Removed
		case images.IsSavedFile(name):
			part = &s.Saved
		}
		*part += in.from.Stored(name)
	}
}

// note notes that something is missing, unless something else is.
func (in *inspection) note(missing string) {
	if in.info.Missing == "" {
		in.info.Missing = missing
	}
}

// load reads an image; ok is false if there is none, which is noted.
func load[T any](in *inspection, name string, read func([]byte) (T, error)) (t T, ok bool, err error) {
	if !in.from.Has(name) {
		in.note(name + " is missing")
		return t, false, nil
	}
	return optional(in, name, read)
}

// optional is load for an image that a context need not have.
func optional[T any](in *inspection, name string, read func([]byte) (T, error)) (t T, ok bool, err error) {
	if !in.from.Has(name) {
		return t, false, nil
	}
	if in.left -= in.from.Size(name); in.left < 0 {
		return t, false, errors.New("the images are too large to be looked at")
	}
	b, err := in.from.Bytes(name)
	if err != nil {
		return t, false, err
	}
	if t, err = read(b); err != nil {
		return t, false, fmt.Errorf("%s: %w", name, err)
	}
	return t, true, nil
}

// required is load for an image without which nothing can be said.
func required[T any](in *inspection, name string, read func([]byte) (T, error)) (T, error) {
	t, ok, err := optional(in, name, read)
	if !ok && err == nil {
		err = fmt.Errorf("there is no %s in it", name)
	}
	return t, err
}

// readFiles reads the inventory, and the files that processes refer to.
func (in *inspection) readFiles() (err error) {
	in.files = make(map[uint32]images.File)
	in.removed = make(map[uint32]bool)
	if in.inventory, err = required(in, images.InventoryName, images.ReadInventory); err != nil {
		return err
	}
	files, ok, err := load(in, images.FilesName, images.Files)
	if !ok {
		return err
	}
	for _, f := range files {
		in.files[f.ID] = f
	}
	if in.memfds, _, err = optional(in, images.MemFDName, images.MemFDNames); err != nil {
		return err
	}
	remaps, _, err := optional(in, images.RemapName, images.Remaps)
	if err != nil {
		return err
	}
	for _, r := range remaps {
		in.removed[r.File] = true
		f := RemovedFile{Path: in.name(r.File)}
		switch r.Type {
		case images.RemapLinked:
			f.To = in.name(r.To)
		case images.RemapGhost:
			ghost := images.GhostName(r.To)
			if f.Stored = in.from.Size(ghost); f.Stored < 0 {
				f.Stored, in.info.Missing = 0, ghost+" is missing"
			}
		}
		in.info.Removed = append(in.info.Removed, f)
	}
	return nil
}

// name returns the name of a file, "" if it has none.
func (in *inspection) name(id uint32) string { return in.files[id].Name }

// findExternal finds the files whose other end was not open in the tree.
func (in *inspection) findExternal() error {
	in.external = make(map[uint32]bool)
	in.listed = make(map[externalKey]int)
	add := func(ids ...uint32) {
		for _, id := range ids {
			in.external[id] = true
		}
	}
	files := slices.Collect(maps.Values(in.files))
	connected := make(map[[2]images.InetAddr]bool)
	for _, f := range files {
		connected[[2]images.InetAddr{f.Inet.Local, f.Inet.Peer}] = true
	}
	for _, f := range files {
		switch {
		case f.Type == images.TypeExt:
			add(f.ID)
		case f.Type == images.TypeInet && f.State == tcpEstablished && !connected[[2]images.InetAddr{f.Inet.Peer, f.Inet.Local}]:
			add(f.ID)
		}
	}
	noted, known, err := optional(in, images.ExternalPipesName, func(b []byte) (map[uint32]bool, error) {
		return images.ParseExternalPipes(b), nil
	})
	if err != nil {
		return err
	}
	// The descriptors are found by the files, so there are no tables here.
	for _, p := range images.ExternalPipes(files, nil) {
		if !known || noted[p.ID] {
			add(p.Files...)
		}
	}
	for _, s := range images.ExternalSockets(files, nil) {
		add(s.Files...)
	}
	ttys, _, err := optional(in, images.TTYInfoName, images.TTYs)
	for _, t := range images.ExternalTTYs(files, ttys, nil) {
		add(t.Files...)
	}
	return err
}

// readProcesses reads the processes.
func (in *inspection) readProcesses() error {
	tasks, err := required(in, images.PstreeName, images.Tasks)
	if err != nil {
		return err
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

// process reads one process.
func (in *inspection) process(task images.Task) (*Process, error) {
	core, _, err := load(in, images.Name("core", task.PID), images.ReadCore)
	if err != nil {
		return nil, err
	}
	p := &Process{
		PID: task.PID, PPID: task.PPID, PGID: task.PGID, SID: task.SID,
		Name: core.Comm, State: core.State, UID: core.UID, GID: core.GID, Threads: []Thread{{task.PID, core.Comm}},
	}
	if in.info.Header.Machine == "" {
		in.info.Header.Machine = core.Machine
	}
	if p.State.Ended() {
		p.Status = unix.WaitStatus(core.ExitCode)
		return p, nil
	}
	for _, tid := range task.Threads {
		if tid == task.PID {
			continue
		}
		thread, _, err := load(in, images.Name("core", tid), images.ReadCore)
		if err != nil {
			return nil, err
		}
		p.Threads = append(p.Threads, Thread{tid, thread.Comm})
	}
	memory, ok, err := load(in, images.Name("mm", p.PID), images.TaskMemory)
	if err != nil {
		return nil, err
	}
	if ok {
		p.Mapped, p.Exe = memory.Size, in.name(memory.Exe)
	}
	if p.Saved, err = in.pages(images.Name("pagemap", p.PID)); err != nil {
		return nil, err
	}
	dirs, ok, err := load(in, images.Name("fs", p.PID), images.TaskDirs)
	if err != nil {
		return nil, err
	}
	if ok {
		p.Cwd, p.Root = in.name(dirs.Cwd), in.name(dirs.Root)
	}
	ids := core.IDs
	if ids.Files == 0 {
		if ids, _, err = load(in, images.Name("ids", p.PID), images.TaskIDs); err != nil {
			return nil, err
		}
	}
	if !in.inventory.FDInfoPerID {
		ids.Files = uint32(p.PID)
	}
	if ids.Files == 0 {
		return p, nil
	}
	return p, in.table(p, ids.Files)
}

// pageSize is the smallest page of any machine that criu is for.
const pageSize = 4096

// pages returns how many bytes of memory a pagemap says that there are.
func (in *inspection) pages(name string) (uint64, error) {
	m, ok, err := load(in, name, images.ReadPagemap)
	if !ok {
		return 0, err
	}
	pages := images.Name("pages", m.PagesID)
	size := in.from.Size(pages)
	if m.Saved > 0 {
		if size < 0 {
			in.note(pages + " is missing")
		} else if in.info.Directory && uint64(size) < m.Saved*pageSize {
			in.note(pages + " is truncated")
		}
	}
	// Some machines have larger pages, which no image says.
	if n := uint64(max(size, 0)) / max(m.Saved, 1); (n == 16<<10 || n == 64<<10) && n*m.Saved == uint64(size) {
		return uint64(size), nil
	}
	return m.Saved * pageSize, nil
}

// checkShared checks that the pages of shared memory are there.
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

// table reads a table of descriptors, unless it was read for another process.
func (in *inspection) table(p *Process, n uint32) error {
	if other, ok := in.tables[n]; ok {
		p.FilesOf = other
		return nil
	}
	in.tables[n] = p.PID
	// That of a process with nothing open does not exist. Of a context nothing is lost, of
	// a directory a file may be.
	read := optional[[]images.FD]
	if in.info.Directory {
		read = load[[]images.FD]
	}
	fds, _, err := read(in, images.Name("fdinfo", n), images.FDs)
	slices.SortStableFunc(fds, func(a, b images.FD) int { return cmp.Compare(a.FD, b.FD) })
	for _, fd := range fds {
		f := in.file(fd)
		p.Files = append(p.Files, f)
		if f.External {
			in.addExternal(p.PID, fd, f)
		}
	}
	return err
}

// externalKey is the same for descriptors of the same pipe, socket or terminal.
type externalKey struct {
	kind, path    string
	inode, fileID uint32
}

// addExternal adds a descriptor to the others of the same external file.
func (in *inspection) addExternal(pid int32, fd images.FD, f File) {
	key := externalKey{kind: f.Kind, path: f.Path, inode: f.Inode}
	if f.Inode == 0 && f.Path == "" {
		key.fileID = fd.FileID
	}
	i, ok := in.listed[key]
	if !ok {
		i = len(in.info.External)
		in.listed[key] = i
		in.info.External = append(in.info.External, External{File: f})
	}
	e := &in.info.External[i]
	e.FDs = append(e.FDs, Descriptor{pid, fd.FD})
}

// readSaved reads the list of files that were saved with the processes.
func (in *inspection) readSaved() error {
	files, _, err := optional(in, images.SavedFilesName, images.ParseSavedFiles)
	for _, f := range files {
		s := SavedFile{Path: f.Name, Size: f.Size, Stored: in.from.Size(f.Member), Shared: f.Shared}
		if s.Stored < 0 {
			return fmt.Errorf("%w: there is no %s", images.ErrSavedFiles, f.Member)
		}
		in.info.Saved = append(in.info.Saved, s)
	}
	return err
}
