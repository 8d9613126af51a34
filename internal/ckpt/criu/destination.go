package criu

import (
	"io"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/criu/binary"
	"blcr-cli/internal/ckpt/criu/imagedir"
	"blcr-cli/internal/ckpt/criu/images"
	"blcr-cli/internal/ckpt/criu/stream"
	"blcr-cli/internal/ctxfile"
)

// A request may be for a directory of images instead of a context. Criu then
// writes its images there itself, and any tool for CRIU's images can read them.
// Members that are not CRIU's, such as saved files, become further files.
//
// Such a dump has no pipes that could be closed. If it is given up it ends only
// when criu has written its images and asks by its action script.

// store is what a context is written with: a *ctxfile.Writer or an
// *imagedir.Writer.
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
func (c *capture) prepare(e *engine) (err error) {
	if c.request.Dir != "" {
		c.writer = imagedir.NewWriter(int(c.request.FD))
		c.criu, err = stream.New(stream.Files, c.handler(nil))
		return err
	}
	// A thread that waits in a system call keeps its processor, as the runtime counts
	// them, for up to 10 ms. Compression uses as many as it has itself.
	runtime.GOMAXPROCS(max(4, ctxfile.Workers()))
	w, err := ctxfile.NewWriter(int(c.request.FD), c.header(e), c.request.Compress)
	if err != nil {
		return contextError(err)
	}
	c.writer = w
	switch {
	case c.request.Compress != 0:
		c.stage(w)
	case ckpt.RunsOn(c.request.Signal):
		c.aside(w)
	}
	if ckpt.Ends(c.request.Signal) {
		w.WriteEarly() // flush has to wait for the disk
	}
	e.measured(func() (done, all int64) { return w.Stored(), 0 })
	c.criu, err = stream.New(stream.Capture, c.handler(func(name string, pipe int) error {
		if inode, ok := images.TCPInode(name); ok {
			head, err := w.PipeKept(name, pipe, images.TCPHead)
			c.ends.add(inode, head)
			return contextError(err)
		}
		if images.IsPagemap(name) {
			pagemap, err := w.PipeKept(name, pipe, longestPagemap)
			c.memory.add(name, pagemap)
			return contextError(err)
		}
		if saysOwners(name) && binary.Unprivileged() {
			head, err := w.PipeKept(name, pipe, mostOwners)
			c.owners.add(name, head)
			return contextError(err)
		}
		if saysUnread(name) {
			img, err := w.PipeKept(name, pipe, mostTerminals)
			c.terminals.add(name, img)
			return contextError(err)
		}
		return contextError(w.Pipe(name, pipe, images.IsPages(name)))
	}))
	if err == nil {
		c.prepareFile(w)
	}
	return err
}

// handler is what criu is answered with.
func (c *capture) handler(image func(name string, pipe int) error) stream.Handler {
	looked := false
	reported := false
	dumped := sync.OnceFunc(func() { close(c.dumped) })
	memories := func(name string) bool {
		if !looked {
			// Criu has the processes now. It was given a number.
			if looked = true; !c.tree.Lives() {
				c.criu.Fail(&ckpt.Error{Op: "checkpoint", Object: "processes", Errno: syscall.ESRCH})
			}
			c.checkFaults(nil)
			go c.flagged()
		}
		if name == images.PstreeName {
			dumped() // that comes after all that criu saves of each process
		}
		return images.IsMemory(name)
	}
	return stream.Handler{Image: image, Memories: memories, Stage: func(s *stream.Stage) {
		switch {
		case s.Name != stream.PostDump:
			s.Answer(true)
		case reported: // another program's word for it
			s.Answer(false)
		default:
			reported = true
			c.frozen = s
			dumped()
			close(c.reported)
		}
	}}
}

// destination is criu's options for where the images go, and the descriptors
// that they number from 3 on. A directory is reached by its descriptor: criu may
// have to run in another mount namespace, where its name is another's.
func (c *capture) destination() (options []string, inherited []int) {
	if c.request.Dir != "" {
		return []string{"-D", "/proc/self/fd/3"}, []int{int(c.request.FD)}
	}
	return nil, nil
}

// flush makes sure that the context is on disk, if it is in files.
func (c *capture) flush() error {
	fd := int(c.request.FD)
	var err error
	if dir, ok := c.writer.(*imagedir.Writer); ok {
		err = dir.Sync()
	} else {
		err = unix.Fdatasync(fd)
	}
	switch errno := ckpt.ErrnoOf(err); {
	case err == nil:
	case errno == unix.EINVAL, errno == unix.EROFS, errno == unix.ENOSYS, errno == unix.EINTR: // nothing that could be synced
	default:
		return ckpt.SystemError("write", "context", err)
	}
	return nil
}

// readWritten calls add with those images that criu has written into the directory that is the
// destination. What cannot be read is left to the restart; the error is that of opening the
// directory.
func (c *capture) readWritten(add func(name string, img []byte), names ...string) error {
	dir, err := imagedir.Open(int(c.request.FD), c.request.Dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	for _, name := range names {
		if img, err := dir.Bytes(name); err == nil {
			add(name, img)
		}
	}
	return nil
}
