// Package savedfiles saves files that are mapped into processes with the context
// (cr_checkpoint --save-exe and the like), and brings them back where they are
// missing or have changed.
//
// The format of the list of them belongs to package images. What is mapped at which
// address is in CRIU's images; this package knows none of them.
package savedfiles

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/criu/images"
	"blcr-cli/internal/ckpt/criu/tempdir"
	"blcr-cli/internal/show"
)

// Source is a context with saved files.
type Source interface {
	images.Source
	// Serve writes a member into a pipe. A reader that goes away is no error.
	Serve(name string, pipe int) error
}

// Copies are saved files that have been extracted into a temporary directory. The
// zero value is none.
//
// They are to be removed when the processes have them open and before they run, or when
// the restart has failed. The processes then have deleted files open, which every
// checkpoint saves.
type Copies struct {
	dir  tempdir.Dir
	made bool
}

// Remove unlinks the copies.
func (c *Copies) Remove() {
	if c.made {
		c.dir.Remove()
		c.made = false
	}
}

// Extract makes copies of the saved files that are missing under their names, as
// relocated, or have changed. It returns the relocations to the copies, followed by
// the given ones. The copies, also of an Extract that fails, are the caller's to
// remove. The error is the source's, images.ErrSavedFiles, or a *ckpt.Error that
// names the file.
func Extract(source Source, relocations []ckpt.Relocation) (*Copies, []ckpt.Relocation, error) {
	c := &Copies{}
	if !source.Has(images.SavedFilesName) {
		return c, relocations, nil
	}
	files, err := images.Read(source, images.SavedFilesName, images.ParseSavedFiles)
	if err != nil {
		return c, nil, err
	}
	var extracted []ckpt.Relocation
	for i, f := range files {
		if !source.Has(f.Member) {
			return c, nil, fmt.Errorf("%w: there is no %s", images.ErrSavedFiles, f.Member)
		}
		there, err := isAt(f, ckpt.Relocate(f.Name, relocations), source)
		if err != nil {
			return c, nil, err
		}
		if there {
			continue
		}
		if !c.made {
			parents := Parents()
			if c.dir, err = tempdir.New(parents); err != nil {
				return c, nil, extractError(f, parents[0], err)
			}
			c.made = true
		}
		// Each in a directory of its own, so that it can keep its name.
		to := filepath.Join(c.dir.Path, strconv.Itoa(i+1), filepath.Base(f.Name))
		if err := extract(f, to, source); err != nil {
			return c, nil, extractError(f, filepath.Dir(c.dir.Path), err)
		}
		extracted = append(extracted, ckpt.Relocation{Old: f.Name, New: to})
	}
	return c, append(extracted, relocations...), nil
}

// Parents returns directories for copies of what is mapped. They must be on file systems
// from which programs can be executed; where none is, /tmp is returned and criu's
// error tells the cause.
func Parents() []string {
	var parents []string
	for _, dir := range []string{os.TempDir(), "/var/tmp", "/tmp"} {
		var st unix.Statfs_t
		if filepath.IsAbs(dir) && unix.Statfs(dir, &st) == nil && st.Flags&unix.ST_NOEXEC == 0 {
			parents = append(parents, dir)
		}
	}
	return append(parents, "/tmp")
}

// extractError returns the error for a saved file that cannot be written below
// dir. An error of the context is returned as it is.
func extractError(f *images.SavedFile, dir string, err error) error {
	var c *contextFailure
	if errors.As(err, &c) {
		return c.error
	}
	errno := ckpt.ErrnoOf(err)
	return &ckpt.Error{Op: "write", Object: dir, Errno: errno, Detail: []string{
		fmt.Sprintf("%s, which came with the context, cannot be put into %s: %s", show.Name(f.Name), show.Name(dir), ckpt.Strerror(errno)),
	}}
}

// contextFailure is an error of reading or writing the context, in contrast to one
// of the file.
type contextFailure struct{ error }

func (c *contextFailure) Unwrap() error { return c.error }

// contextOr returns the context's error where err is one, otherwise err.
func contextOr(err error) error {
	var c *contextFailure
	if errors.As(err, &c) {
		return c.error
	}
	return err
}

// isAt reports whether the file is still there under a name. A file that cannot be
// read is not: it could not be used either. The error is one of reading the
// context.
func isAt(f *images.SavedFile, name string, source Source) (bool, error) {
	var st unix.Stat_t
	// criu requires the mode as well.
	if unix.Stat(name, &st) != nil || st.Mode != unix.S_IFREG|f.Mode || st.Size != f.Size {
		return false, nil
	}
	if st.Mtim.Nano() == f.MTime && !f.Shared {
		// A write through a shared mapping may not have changed the time yet.
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
		if errors.Is(holeErr, unix.EINVAL) { // the file system has no SEEK_DATA
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

// zeros reads as a hole does.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// equalData compares length bytes from r with a part of a file.
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

// extract writes the copy of a saved file, and makes its directory.
func extract(f *images.SavedFile, to string, source Source) error {
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
	// The owner comes first, since chown clears set-user-ID and set-group-ID.
	// A file that cannot have its former owner must not have them.
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

// member is a member of the context that is being read.
type member struct {
	io.ReadCloser
	served chan error
	err    error
}

// openMember begins to read a member.
func openMember(source Source, name string) (*member, error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, ckpt.SystemError("pipe", "", err)
	}
	// Non-blocking, so that a read waits in the poller and keeps no thread.
	_ = unix.SetNonblock(fds[0], true)
	m := &member{ReadCloser: os.NewFile(uintptr(fds[0]), name), served: make(chan error, 1)}
	go func() {
		err := source.Serve(name, fds[1])
		unix.Close(fds[1])
		m.served <- err
	}()
	return m, nil
}

// Read implements io.Reader. Errors are *contextFailure.
func (m *member) Read(b []byte) (int, error) {
	n, err := m.ReadCloser.Read(b)
	if err == io.EOF && m.err == nil && m.served != nil {
		m.err, m.served = <-m.served, nil
	}
	if m.err != nil {
		err = &contextFailure{m.err}
	}
	return n, err
}

// close ends the reading.
func (m *member) close() {
	m.Close()
	if m.served != nil {
		<-m.served
	}
}
