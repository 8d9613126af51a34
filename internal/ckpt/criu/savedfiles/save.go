package savedfiles

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/criu/images"
	"blcr-cli/internal/proc"
	"blcr-cli/internal/show"
)

// Which tells which of the files that are mapped into processes are saved.
type Which struct {
	Exe     bool // the executable
	Private bool // what is mapped with MAP_PRIVATE: libraries
	Shared  bool // what is mapped with MAP_SHARED
}

// Writer is a context that files are saved into.
type Writer interface {
	// Bytes and File add a member.
	Bytes(name string, data []byte) error
	File(name string, r io.Reader) error
}

// Save writes files of the processes into a context, each file once, and the list
// of them. The processes must be frozen. The error is the writer's, or a
// *ckpt.Error that names the file which cannot be read; EBUSY for one that becomes
// shorter meanwhile. A file that was removed under the name by which it is mapped has the one
// that otherName returns, if any.
func Save(w Writer, pids []int, which Which, otherName func(dev, ino uint64) string) error {
	s := newSaver(w, which)
	s.otherName = otherName
	for _, pid := range pids {
		if proc.Ended(pid) {
			continue
		}
		if err := s.process(pid); err != nil {
			return contextOr(err)
		}
	}
	return w.Bytes(images.SavedFilesName, images.EncodeSavedFiles(s.files))
}

// saver saves the files of processes.
type saver struct {
	writer    Writer
	which     Which
	otherName func(dev, ino uint64) string
	files     []*images.SavedFile
	known     map[fileID]*images.SavedFile // nil for a file that is not saved
	stored    map[fileID]*images.SavedFile // by fileID without a name
}

func newSaver(w Writer, which Which) *saver {
	return &saver{writer: w, which: which, known: make(map[fileID]*images.SavedFile), stored: make(map[fileID]*images.SavedFile)}
}

// fileID identifies a file, under one name or under any ("").
type fileID struct {
	dev, ino uint64
	name     string
}

// process saves files of one process.
func (s *saver) process(pid int) error {
	link := proc.ExecutableLink(pid)
	exe, err := os.Readlink(link)
	if err == nil && s.which.Exe {
		err = s.add(mapped{link: link, name: exe})
	}
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) {
		return nil // it has ended
	}
	if err != nil {
		return readError(exe, err)
	}
	var st unix.Stat_t
	_ = unix.Stat(link, &st)

	for m, err := range proc.Mappings(pid) {
		if err != nil {
			return readError(err.(*fs.PathError).Path, err)
		}
		wanted := s.which.Private
		if m.Shared {
			wanted = s.which.Shared
		}
		isExe := m.Path == exe || m.Dev == st.Dev && m.Ino == st.Ino
		if !wanted || isExe {
			continue
		}
		// The link has the name as it is; in maps a line feed is escaped.
		name, err := os.Readlink(m.Link(pid))
		if err != nil {
			name = strings.ReplaceAll(m.Path, `\012`, "\n")
		}
		if strings.HasSuffix(name, proc.Deleted) && s.otherName != nil {
			name = cmp.Or(s.otherName(m.Dev, m.Ino), name)
		}
		if err := s.add(mapped{link: m.Link(pid), name: name, shared: m.Shared, id: fileID{m.Dev, m.Ino, name}}); err != nil {
			return readError(name, err)
		}
	}
	return nil
}

// mapped is a file that a process has mapped.
type mapped struct {
	link   string // in /proc, which leads to the file also if it has lost its name
	name   string
	shared bool
	id     fileID // from /proc/PID/maps, the zero value if it is not from there
}

// add saves a file, unless it was seen before. The error does not name the file.
func (s *saver) add(m mapped) error {
	if f, known := s.known[m.id]; known && m.id != (fileID{}) {
		if f != nil && m.shared {
			f.Shared = true
		}
		return nil
	}
	f, err := s.save(m)
	if err == nil && m.id != (fileID{}) {
		s.known[m.id] = f
	}
	return err
}

// save saves a file that was not seen in a mapping before. It returns nil if the
// file is not one that is saved; see look.
func (s *saver) save(m mapped) (*images.SavedFile, error) {
	path, err := m.look()
	if path == "" || err != nil {
		return nil, err
	}
	// If it is another file by now, opening it must not block.
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), m.name)
	defer file.Close()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	f := &images.SavedFile{
		Name: m.name, Size: st.Size, MTime: st.Mtim.Nano(), Mode: st.Mode & 0o7777, UID: st.Uid, GID: st.Gid, Shared: m.shared,
	}
	id := fileID{st.Dev, st.Ino, m.name}
	if other := s.known[id]; other != nil { // as an executable
		other.Shared = other.Shared || m.shared
		return other, nil
	}
	anyName := fileID{dev: st.Dev, ino: st.Ino}
	if other := s.stored[anyName]; other != nil {
		f.Member, f.Data = other.Member, other.Data
	} else if err := s.store(f, file); err != nil {
		return nil, err
	} else {
		s.stored[anyName] = f
	}
	s.known[id] = f
	s.files = append(s.files, f)
	return f, nil
}

// look returns the path by which a file can be opened. It is "" if the file is not
// saved: because it has lost its name, so that criu saves it, or because it is no
// regular file.
func (m *mapped) look() (path string, err error) {
	if !strings.HasPrefix(m.name, "/") {
		return "", nil
	}
	var st unix.Stat_t
	path = m.link
	err = unix.Stat(path, &st)
	if err == unix.EPERM || err == unix.EACCES {
		// Following a link in map_files takes CAP_CHECKPOINT_RESTORE.
		var named unix.Stat_t
		if unix.Stat(m.name, &named) == nil && named.Dev == m.id.dev && named.Ino == m.id.ino {
			path, st, err = m.name, named, nil
		} else if strings.HasSuffix(m.name, proc.Deleted) {
			return "", nil
		}
	}
	if err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return "", err
	}
	if strings.HasSuffix(m.name, proc.Deleted) {
		var named unix.Stat_t
		if unix.Lstat(m.name, &named) != nil || named.Dev != st.Dev || named.Ino != st.Ino {
			return "", nil
		}
	}
	return path, nil
}

// store writes the data of a file into the context.
func (s *saver) store(f *images.SavedFile, file *os.File) error {
	var err error
	if f.Data, err = extents(file, f.Size); err != nil {
		return err
	}
	data := &fileData{}
	var readers []io.Reader
	for _, p := range f.Data {
		readers = append(readers, io.NewSectionReader(file, p.Offset, p.Length))
		data.left += p.Length
	}
	data.from = io.MultiReader(readers...)
	f.Member = images.SavedFileName(len(s.stored) + 1)
	err = s.writer.File(f.Member, data)
	switch {
	case data.err != nil:
		return data.err
	case err != nil:
		return &contextFailure{err}
	}
	return nil
}

// fileData reads the extents of a file. It keeps its error, because that of the
// writer would not tell whether the file or the context is at fault.
type fileData struct {
	from io.Reader
	left int64
	err  error
}

func (d *fileData) Read(b []byte) (int, error) {
	n, err := d.from.Read(b)
	d.left -= int64(n)
	if err == io.EOF && d.left > 0 {
		err = errShorter
	}
	if err != nil && err != io.EOF {
		d.err = err
	}
	return n, err
}

// errShorter is the error for a file that was truncated while it was read.
var errShorter = errors.New("somebody has made it shorter meanwhile")

// extents returns the parts of a file that are no holes. Small holes count as
// data: a list of all of them might be longer than they are.
func extents(file *os.File, size int64) ([]images.Extent, error) {
	smallest := max(64<<10, size>>12)
	var found []images.Extent
	for at := int64(0); at < size; {
		begin, err := file.Seek(at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break // nothing but a hole
		}
		end := size
		if err == nil {
			end, err = file.Seek(begin, unix.SEEK_HOLE)
		}
		if errors.Is(err, unix.EINVAL) { // the file system has no SEEK_DATA
			return []images.Extent{{Length: size}}, nil
		}
		if err != nil {
			return nil, err
		}
		if begin >= size {
			break
		}
		end = min(end, size) // it may have grown
		if last := len(found) - 1; last >= 0 && begin-found[last].Offset-found[last].Length < smallest {
			found[last].Length = end - found[last].Offset
		} else {
			found = append(found, images.Extent{Offset: begin, Length: end - begin})
		}
		at = end
	}
	return found, nil
}

// readError returns the error for a file that should be saved and cannot be read.
func readError(name string, err error) error {
	if _, ok := err.(*contextFailure); ok {
		return err
	}
	errno := ckpt.ErrnoOf(err)
	text := ckpt.Strerror(errno)
	if err == errShorter {
		errno, text = syscall.EBUSY, err.Error()
	}
	return &ckpt.Error{Op: "read", Object: name, Errno: errno, Detail: []string{fmt.Sprintf("cannot save %s: %s", show.Name(name), text)}}
}
