package criu

import (
	"bytes"
	"io"
	"os"
	"runtime"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt/criu/stream"
	"blcr-cli/internal/ctxfile"
	"blcr-cli/internal/target"
)

// A request may be for a directory of images instead of a context: criu then
// writes there by itself, as it does for everybody, and any tool for its images
// can read it. What we have to add, such as saved files, become further files.
//
// There are no pipes that could be closed, so a checkpoint that is abandoned
// ends only when criu is done with writing: then the hook says no.

// Inventory is the image that every directory of images has.
const Inventory = "inventory.img"

// besides are the files that are found in such a directory besides images: what
// criu leaves there of logs and statistics.
var besides = pattern(`^(parent|stats-(dump|restore)|(dump|restore)\.log)$`)

// isMember tells whether a member of a context is one that is ours and not
// criu's. All that are ever stored have to be known here.
func isMember(name string) bool {
	return name == savedList || name == neighboursImage || memberName().MatchString(name)
}

// IsImage tells whether a file of that name belongs into a directory of images.
func IsImage(name string) bool {
	return strings.HasSuffix(name, ".img") && name != ".img" || besides().MatchString(name) || isMember(name)
}

// store is what a context is written with: a *ctxfile.Writer or a *dirStore.
type store interface {
	// Bytes and File store a member that criu does not know of. They may be
	// called from many goroutines.
	Bytes(name string, data []byte) error
	File(name string, r io.Reader) error
	// Abort ends every call under way, with an error.
	Abort()
	// Close is the end of a complete context.
	Close() error
}

// prepare makes what the images go through.
func (c *checkpoint) prepare(e *engine) (err error) {
	if c.request.Dir != "" {
		c.writer = &dirStore{fd: int(c.request.FD)}
		c.criu, err = stream.New(stream.Files, c.handler(nil))
		return err
	}
	if c.request.Compress != 0 {
		runtime.GOMAXPROCS(ctxfile.Workers())
	}
	w, err := ctxfile.NewWriter(int(c.request.FD), c.header(e), c.request.Compress)
	if err != nil {
		return contextError(err)
	}
	c.writer = w
	e.measured(func() (done, all int64) { return w.Stored(), 0 })
	c.criu, err = stream.New(stream.Capture, c.handler(func(name string, pipe int) error {
		return contextError(w.Pipe(name, pipe, strings.HasPrefix(name, "pages-")))
	}))
	return err
}

// handler is what criu is answered with.
func (c *checkpoint) handler(image func(name string, pipe int) error) stream.Handler {
	return stream.Handler{Image: image, Stage: func(s *stream.Stage) { s.Answer(c.asked(s)) }}
}

// destination is criu's options for where the images go, and the descriptors
// that they number from 3 on. A directory is reached by its descriptor: criu may
// have to run in another mount namespace, where its name is another's.
func (c *checkpoint) destination() (options []string, inherited []int) {
	if c.request.Dir != "" {
		return []string{"-D", "/proc/self/fd/3"}, []int{int(c.request.FD)}
	}
	return nil, nil
}

// flush makes sure that the context is on disk, if it is in files.
func (c *checkpoint) flush() error {
	fd := int(c.request.FD)
	var err error
	if c.request.Dir != "" {
		err = target.SyncFiles(fd)
	} else {
		err = unix.Fdatasync(fd)
	}
	switch errno := errnoOf(err); {
	case err == nil:
	case errno == unix.EINVAL, errno == unix.EROFS, errno == unix.ENOSYS, errno == unix.EINTR: // nothing that could be synced
	default:
		return sysError("write", "context", err)
	}
	return nil
}

// dirStore puts members beside the images of a directory.
type dirStore struct {
	fd      int // the directory; the caller's
	aborted atomic.Bool
}

func (s *dirStore) Bytes(name string, data []byte) error { return s.File(name, bytes.NewReader(data)) }

func (s *dirStore) File(name string, r io.Reader) error {
	if !isMember(name) {
		// It would make the directory one that is never replaced again.
		return sysError("create", name, unix.EINVAL)
	}
	fd, err := unix.Openat(s.fd, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return sysError("create", name, err)
	}
	file := os.NewFile(uintptr(fd), name)
	_, err = io.Copy(file, &abortable{r, &s.aborted})
	if e := file.Close(); err == nil {
		err = e
	}
	if err != nil {
		return sysError("write", name, err)
	}
	return nil
}

func (s *dirStore) Abort()       { s.aborted.Store(true) }
func (s *dirStore) Close() error { return nil }

// abortable is a reader that can be told to give up.
type abortable struct {
	r       io.Reader
	aborted *atomic.Bool
}

func (a *abortable) Read(b []byte) (int, error) {
	if a.aborted.Load() {
		return 0, unix.ECANCELED
	}
	return a.r.Read(b)
}
