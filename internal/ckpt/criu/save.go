package criu

import (
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

// saveFiles puts the files that the request wants into the context. To be called
// while the tree is frozen, after lookAgain.
func (c *checkpoint) saveFiles() error {
	r := c.request
	if !r.SaveExe && !r.SavePrivate && !r.SaveShared {
		return nil
	}
	s := &saver{request: r, writer: c.writer, known: make(map[fileID]*images.SavedFile), stored: make(map[fileID]*images.SavedFile)}
	for _, pid := range c.scope.tree {
		if ended(pid) {
			continue
		}
		if err := s.process(pid); err != nil {
			return err
		}
	}
	return contextError(s.writer.Bytes(images.SavedFilesName, images.EncodeSavedFiles(s.files)))
}

// saver saves files of many processes, each file once.
type saver struct {
	request *ckpt.CheckpointRequest
	writer  interface {
		Bytes(name string, data []byte) error
		File(name string, r io.Reader) error
	}
	files  []*images.SavedFile
	known  map[fileID]*images.SavedFile // nil for those that are not to be saved
	stored map[fileID]*images.SavedFile // without names
}

// fileID is a file, under one name or under any.
type fileID struct {
	dev, ino uint64
	name     string
}

// process saves files of one process.
func (s *saver) process(pid int) error {
	link := proc.ExecutableLink(pid)
	exe, err := os.Readlink(link)
	if err == nil && s.request.SaveExe {
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
		wanted := s.request.SavePrivate
		if m.Shared {
			wanted = s.request.SaveShared
		}
		isExe := m.Path == exe || m.Dev == st.Dev && m.Ino == st.Ino
		if !wanted || isExe {
			continue
		}
		// Its own way of writing names is the better one.
		name, err := os.Readlink(m.Link(pid))
		if err != nil {
			name = strings.ReplaceAll(m.Path, `\012`, "\n")
		}
		if err := s.add(mapped{link: m.Link(pid), name: name, shared: m.Shared, id: fileID{m.Dev, m.Ino, name}}); err != nil {
			return readError(name, err)
		}
	}
	return nil
}

// mapped is a file that a process has mapped.
type mapped struct {
	link   string // in /proc, where it is whatever has become of its name
	name   string
	shared bool
	id     fileID // what /proc says it is; none where it does not say
}

// add saves a file. The name of an error's object is left to the caller.
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

// save saves a file that was not seen in a mapping before; none if it is not
// one to be saved.
func (s *saver) save(m mapped) (*images.SavedFile, error) {
	path, err := m.look()
	if path == "" || err != nil {
		return nil, err
	}
	// Should it be another one by now it might be something that waits.
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

// look returns where a file can be opened, "" if it is none to be saved: it has
// lost its name, and criu saves it, or is something else than a regular file.
func (m *mapped) look() (path string, err error) {
	if !strings.HasPrefix(m.name, "/") {
		return "", nil
	}
	var st unix.Stat_t
	path = m.link
	err = unix.Stat(path, &st)
	if err == unix.EPERM || err == unix.EACCES {
		// Only with special rights may one follow the link to a mapped file.
		var named unix.Stat_t
		if unix.Stat(m.name, &named) == nil && named.Dev == m.id.dev && named.Ino == m.id.ino {
			path, st, err = m.name, named, nil
		} else if strings.HasSuffix(m.name, deletedMark) {
			return "", nil
		}
	}
	if err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return "", err
	}
	if strings.HasSuffix(m.name, deletedMark) {
		var named unix.Stat_t
		if unix.Lstat(m.name, &named) != nil || named.Dev != st.Dev || named.Ino != st.Ino {
			return "", nil
		}
	}
	return path, nil
}

// deletedMark is what the kernel puts behind a name that is no longer there.
const deletedMark = " (deleted)"

// store writes a file's data into the context.
func (s *saver) store(f *images.SavedFile, file *os.File) error {
	var err error
	if f.Data, err = pieces(file, f.Size); err != nil {
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
	err = contextError(s.writer.File(f.Member, data))
	if data.err != nil {
		return data.err
	}
	return err
}

// fileData is read into the context. The context's error would not tell which
// of the two is at fault, so it notes its own.
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

// errShorter is of a file that somebody else has cut meanwhile.
var errShorter = errors.New("somebody has made it shorter meanwhile")

// pieces finds the data between a file's holes. Small holes count as data, for
// a list of all of them might be longer than they are.
func pieces(file *os.File, size int64) ([]images.Extent, error) {
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
		if errors.Is(err, unix.EINVAL) { // a file system that does not tell
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

// readError is for a file that was to be saved and cannot be read.
func readError(name string, err error) error {
	var e *ckpt.Error
	if errors.As(err, &e) {
		return err // the context's
	}
	errno := errnoOf(err)
	text := ckpt.Strerror(errno)
	if err == errShorter {
		errno, text = syscall.EBUSY, err.Error()
	}
	return &ckpt.Error{Op: "read", Object: name, Errno: errno, Detail: []string{fmt.Sprintf("cannot save %s: %s", show.Name(name), text)}}
}
