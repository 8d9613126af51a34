// Package generations finds the contexts of a directory and the newest good one, and says
// of a context whether it is one. In which order contexts were made is known by their
// names, which are package target's; the formats are those of packages ctxfile and header.
// The package knows no engine, no request and no message.
package generations

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt/kernel/header"
	"blcr-cli/internal/ctxfile"
	"blcr-cli/internal/target"
)

// A Fault is what is wrong with a context, as opposed to what is wrong with the machine.
type Fault struct {
	Name   string // of the file, with its directory; "" from Verify
	Reason string // a part of a sentence, without a line feed

	// Unreadable says that it may be good, and cannot be read here and now: for an error
	// of the disk or of the network, or because it has a later version of the format.
	Unreadable bool
}

func (f *Fault) Error() string {
	if f.Name == "" {
		return f.Reason
	}
	return f.Name + ": " + f.Reason
}

// ErrNone is the error of Open for a directory without contexts.
var ErrNone = errors.New("no context in this directory")

// Meter returns how many bytes have been verified, and of how many. It may be called at
// any time.
type Meter = func() (done, all int64)

// Watch, if not nil, is called when a context is about to be verified, and what it returns
// when that is over.
type Watch func(Meter) (over func())

// Open opens the newest good context in dir, close-on-exec and at its beginning. It
// verifies one after the other until one is good. skipped is called for each that is not.
// Files that are no contexts are ignored, unless their names say that they should be: a
// numbered backup, the file that it is one of, and "context.…".
//
// fd belongs to the caller, and name is that of the file, with its directory. The errors:
// ErrNone; the *Fault of the newest one if none is good; else that of the system, for
// opening or reading name.
func Open(ctx context.Context, dir string, skipped func(*Fault), watch Watch) (fd int, name string, err error) {
	var newest error = ErrNone
	// Where contexts are being saved their names change meanwhile.
	for range 3 {
		all, err := target.Newest(dir)
		if err != nil {
			return -1, dir, err
		}
		vanished := false
		backups := withBackups(all)
		for _, c := range all {
			name := filepath.Join(dir, c.Name)
			fd, err := open(name, backups[c.Base])
			switch err {
			case nil:
			case errOther:
				continue
			case unix.ENOENT, unix.ELOOP:
				vanished = true
				continue
			default:
				return -1, name, err
			}
			err = Verify(ctx, fd, watch)
			if err == nil {
				return fd, name, nil
			}
			unix.Close(fd)
			var fault *Fault
			if !errors.As(err, &fault) {
				return -1, name, err
			}
			fault.Name = name
			if newest == ErrNone {
				newest = fault
			}
			skipped(fault)
		}
		if !vanished || newest != ErrNone {
			break
		}
	}
	return -1, dir, newest
}

// Names returns the names of the contexts in dir, with the directory and the newest first:
// of the files that Open would verify, and of those that look as if they were to be opened
// and cannot be. None is verified. The error is that of reading the directory.
func Names(dir string) (names []string, err error) {
	all, err := target.Newest(dir)
	backups := withBackups(all)
	for _, c := range all {
		name := filepath.Join(dir, c.Name)
		fd, err := open(name, backups[c.Base])
		if err == nil {
			unix.Close(fd)
		}
		if err == nil || err == unix.EACCES && expected(name, backups[c.Base]) {
			names = append(names, name)
		}
	}
	return names, err
}

// withBackups returns the names of the files that have numbered backups.
func withBackups(all []target.Candidate) map[string]bool {
	names := make(map[string]bool)
	for _, c := range all {
		names[c.Base] = names[c.Base] || c.Number > 0
	}
	return names
}

// expected reports whether a file is taken for a context whatever is in it.
func expected(name string, backups bool) bool {
	return backups || strings.HasPrefix(filepath.Base(name), "context.")
}

// errOther is that a file is no context, and not expected to be one.
var errOther = errors.New("not a context")

// open opens a context, which has backups or not. The errors: errOther; ELOOP if it is no
// regular file any more; else that of the system.
func open(name string, backups bool) (fd int, err error) {
	for {
		fd, err = unix.Open(name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_LARGEFILE, 0)
		if err != unix.EINTR {
			break
		}
	}
	if err != nil {
		return -1, err
	}
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		err = unix.ELOOP
	}
	if err == nil && !expected(name, backups) {
		if kind, sniffed := ctxfile.Sniff(fd); sniffed == nil && kind == ctxfile.Unknown {
			err = errOther
		}
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// Verify reads all of the context that begins at the offset of fd, which is a file, and
// compares it with its checksums. Of a context of BLCR's module, which has none, it looks
// for beginning and end. The offset is unchanged afterwards.
//
// nil: nothing is wrong with it, as far as that can be known. The error is a *Fault if the
// context is not whole or not one; else that of the system.
func Verify(ctx context.Context, fd int, watch Watch) error {
	offset, err := unix.Seek(fd, 0, unix.SEEK_CUR)
	if err != nil {
		return err
	}
	defer unix.Seek(fd, offset, unix.SEEK_SET)
	if kind, err := ctxfile.Sniff(fd); err == nil && kind == ctxfile.BLCR {
		return verifyBLCR(fd, offset)
	}
	c, err := ctxfile.Open(ctx, fd)
	if err != nil {
		return judge(err)
	}
	defer c.Close()
	defer context.AfterFunc(ctx, c.Abort)()
	if watch != nil {
		defer watch(c.Served)()
	}
	var first *ctxfile.Damage
	if _, err := c.Verify(func(d ctxfile.Damage) {
		if first == nil {
			first = &d
		}
	}); err != nil {
		return judge(err)
	}
	if first == nil {
		return nil
	}
	err = judge(first.Err)
	var fault *Fault
	if errors.As(err, &fault) && first.Name != "" {
		fault.Reason = fmt.Sprintf("%s (bytes %d to %d)", fault.Reason, first.Offset, first.Offset+first.Length-1)
	}
	return err
}

// judge makes a Fault of an error of package ctxfile, if the file is to blame: it has the
// wrong content, or a part of it cannot be read.
func judge(err error) error {
	e, ok := errors.AsType[*ctxfile.Error](err)
	switch {
	case !ok:
		return err
	case e.Errno == syscall.EIO && e.Op == "read" && e.Reason == "":
		return &Fault{Reason: reason(e.Object, "input/output error"), Unreadable: true}
	case e.Reason != "":
		return &Fault{Reason: reason(e.Object, e.Reason), Unreadable: errors.Is(e, ctxfile.ErrVersion)}
	}
	return e.Errno
}

func reason(object, why string) string {
	if object == "" {
		return why
	}
	return object + ": " + why
}

// verifyBLCR is Verify for a context of BLCR's module.
func verifyBLCR(fd int, offset int64) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	file := io.NewSectionReader(header.FD(fd), offset, st.Size-offset)
	switch _, err := header.Read(file); err {
	case nil:
	case header.ErrForeign, header.ErrTruncated:
		return &Fault{Reason: err.Error()}
	default:
		return err
	}
	ended, err := header.Ends(file, st.Size-offset)
	if err == nil && !ended {
		return &Fault{Reason: "it has no end: truncated, or something follows it"}
	}
	return err
}
