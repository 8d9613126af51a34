package criu

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/criu/images"
	"blcr-cli/internal/ckpt/criu/tempdir"
	"blcr-cli/internal/show"
)

// Files that came with the context are used where those of their names are
// missing or others: then criu is told another name, of a copy in a directory of
// ours. The copies lose their names as soon as the processes have them open, or
// will never have. What is left is a deleted file, which the next checkpoint
// takes along without being asked.

// extractSaved provides the files that came with the context where those of
// their names are missing or others, and returns the relocations that lead to
// them, and the given ones.
func (p *plan) extractSaved(source source, relocations []ckpt.Relocation) ([]ckpt.Relocation, error) {
	if !source.Has(images.SavedFilesName) {
		return relocations, nil
	}
	files, err := images.Read(source, images.SavedFilesName, images.ParseSavedFiles)
	if err != nil {
		return nil, err
	}
	var extracted []ckpt.Relocation
	for i, f := range files {
		if !source.Has(f.Member) {
			return nil, fmt.Errorf("%w: there is no %s", images.ErrSavedFiles, f.Member)
		}
		there, err := isAt(f, ckpt.Relocate(f.Name, relocations), source)
		if err != nil {
			return nil, err
		}
		if there {
			continue
		}
		if p.copies == "" {
			parents := copiesParents()
			if p.scratch, err = tempdir.New(parents); err != nil {
				return nil, extractError(f, parents[0], err)
			}
			p.copies = p.scratch.Path
		}
		// Each in a directory of its own, so that it can keep its name.
		to := filepath.Join(p.copies, itoa(i+1), filepath.Base(f.Name))
		if err := extract(f, to, source); err != nil {
			return nil, extractError(f, filepath.Dir(p.copies), err)
		}
		extracted = append(extracted, ckpt.Relocation{Old: f.Name, New: to})
	}
	return append(extracted, relocations...), nil
}

// copiesParents are where the copies may go: criu must be able to make programs
// of them. Where that is forbidden everywhere, criu will say so.
func copiesParents() []string {
	var parents []string
	for _, dir := range []string{os.TempDir(), "/var/tmp", "/tmp"} {
		var st unix.Statfs_t
		if filepath.IsAbs(dir) && unix.Statfs(dir, &st) == nil && st.Flags&unix.ST_NOEXEC == 0 {
			parents = append(parents, dir)
		}
	}
	return append(parents, "/tmp")
}

// extractError is for a file that cannot be put below a directory.
func extractError(f *images.SavedFile, dir string, err error) error {
	var c *contextFailure
	if errors.As(err, &c) {
		return c.error
	}
	errno := errnoOf(err)
	return &ckpt.Error{Op: "write", Object: dir, Errno: errno, Detail: []string{
		fmt.Sprintf("%s, which came with the context, cannot be put into %s: %s", show.Name(f.Name), show.Name(dir), ckpt.Strerror(errno)),
	}}
}

// contextFailure is an error of the context's, not of where a file goes.
type contextFailure struct{ error }

func (c *contextFailure) Unwrap() error { return c.error }

// isAt tells whether the file is still there under a name. What cannot be looked
// at cannot be used either. An error is the context's.
func isAt(f *images.SavedFile, name string, source source) (bool, error) {
	var st unix.Stat_t
	// Criu insists on the mode as well.
	if unix.Stat(name, &st) != nil || st.Mode != unix.S_IFREG|f.Mode || st.Size != f.Size {
		return false, nil
	}
	if st.Mtim.Nano() == f.MTime && !f.Shared {
		// What is written through memory may not have changed the time yet.
		return true, nil
	}
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return false, nil
	}
	file := os.NewFile(uintptr(fd), name)
	defer file.Close()
	m, err := openMember(source, f.Member)
	if err != nil {
		return false, err
	}
	defer m.close()
	equal, at := true, int64(0)
	for _, d := range slices.Concat(f.Data, []images.Extent{{Offset: f.Size}}) {
		begin, holeErr := file.Seek(at, unix.SEEK_DATA)
		if errors.Is(holeErr, unix.EINVAL) { // a file system that does not tell
			begin, holeErr = at, nil
		}
		if holeErr == nil && begin < d.Offset {
			equal, err = equalData(zeros{}, file, begin, d.Offset-begin)
		}
		if equal && err == nil {
			equal, err = equalData(m, file, d.Offset, d.Length)
		}
		if !equal || err != nil {
			break
		}
		at = d.Offset + d.Length
	}
	var c *contextFailure
	if errors.As(err, &c) {
		return false, c.error
	}
	return equal && err == nil, nil
}

// zeros is what is in a hole.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// equalData compares what comes from r with a part of a file.
func equalData(r io.Reader, file *os.File, offset, length int64) (bool, error) {
	const most = 128 << 10
	one, two := make([]byte, min(most, length)), make([]byte, min(most, length))
	for length > 0 {
		one, two = one[:min(most, length)], two[:min(most, length)]
		if _, err := io.ReadFull(r, one); err != nil {
			return false, err
		}
		if _, err := file.ReadAt(two, offset); err != nil {
			return false, err
		}
		if !bytes.Equal(one, two) {
			return false, nil
		}
		offset += int64(len(one))
		length -= int64(len(one))
	}
	return true, nil
}

// extract makes a copy, in a directory that it makes, too.
func extract(f *images.SavedFile, to string, source source) error {
	if err := os.Mkdir(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	file, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	m, err := openMember(source, f.Member)
	if err != nil {
		return &contextFailure{err}
	}
	defer m.close()
	buffer := make([]byte, 128<<10)
	for _, d := range f.Data {
		if _, err := file.Seek(d.Offset, io.SeekStart); err != nil {
			return err
		}
		n, err := io.CopyBuffer(struct{ io.Writer }{file}, io.LimitReader(m, d.Length), buffer)
		if err == nil && n < d.Length {
			err = &contextFailure{fmt.Errorf("%w: %s is too short", images.ErrSavedFiles, f.Member)}
		}
		if err != nil {
			return err
		}
	}
	if err := file.Truncate(f.Size); err != nil {
		return err
	}
	// The owner first: a new one takes away the right to be another user, which
	// is not to be had for a file that cannot have its old owner.
	mode := f.Mode
	if err := file.Chown(int(f.UID), int(f.GID)); err != nil {
		mode &^= unix.S_ISUID | unix.S_ISGID
	}
	fd := int(file.Fd())
	if err := unix.Fchmod(fd, mode); err != nil {
		return err
	}
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, unix.NsecToTimespec(f.MTime)}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, to, times, 0); err != nil {
		return err
	}
	return file.Close()
}

// member is one of the context's that is being read.
type member struct {
	io.ReadCloser
	served chan error
	err    error
}

// openMember begins to read one.
func openMember(source source, name string) (*member, error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, sysError("pipe", "", err)
	}
	// The end that is read from does not keep a thread.
	_ = unix.SetNonblock(fds[0], true)
	m := &member{ReadCloser: os.NewFile(uintptr(fds[0]), name), served: make(chan error, 1)}
	go func() {
		err := source.Serve(name, fds[1])
		unix.Close(fds[1])
		m.served <- err
	}()
	return m, nil
}

// Read reads; errors are the context's.
func (m *member) Read(b []byte) (int, error) {
	n, err := m.ReadCloser.Read(b)
	if err == io.EOF && m.err == nil && m.served != nil {
		m.err, m.served = contextError(<-m.served), nil
	}
	if m.err != nil {
		err = &contextFailure{m.err}
	}
	return n, err
}

// close gives back what is needed for reading.
func (m *member) close() {
	m.Close()
	if m.served != nil {
		<-m.served
	}
}

// removeCopies takes the copies' names away.
func (p *plan) removeCopies() {
	if p.copies != "" {
		p.scratch.Remove()
		p.copies = ""
	}
}
