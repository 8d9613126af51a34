package main

import (
	"context"
	"syscall"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt/criu/inspect"
	"blcr-cli/internal/ckpt/kernel/header"
	"blcr-cli/internal/cli"
	"blcr-cli/internal/ctxfile"
	"blcr-cli/internal/entry"
)

// report is the result for one FILE.
type report struct {
	file string

	// At most one of these is set. If neither is, err has the reason.
	criu *inspect.Info
	blcr *blcrContext

	// err is also set for a context that can be reported on but is incomplete.
	err error

	verified *verification // nil without --verify
	checked  *check        // nil without --check, or if there is nothing to be checked

	newest bool // of the directory that was given, and nothing is wrong with it
}

// blcrContext is a context of BLCR's module.
type blcrContext struct {
	*header.Header
	size int64 // of the file, -1 if it is not a regular file

	ended, endKnown bool
}

// complete reports whether the context is complete, as far as that is known.
func (r *report) complete() (complete, known bool) {
	switch {
	case r.criu != nil:
		return r.criu.Missing == "", true
	case r.blcr != nil:
		return r.blcr.ended, r.blcr.endKnown
	}
	return false, false
}

// examine examines one FILE.
func (s *settings) examine(file string, con *cli.Console) *report {
	r := &report{file: file}
	fd := 0
	if file == "-" {
		if entry.Closed(0) {
			// Descriptor 0 is now /dev/null, which the Go runtime has opened.
			r.err = syscall.EBADF
			return r
		}
	} else {
		var err error
		if fd, err = open(file); err != nil {
			r.err = err
			return r
		}
		defer unix.Close(fd)
	}
	r.read(fd, s, con)
	return r
}

func open(file string) (fd int, err error) {
	for {
		fd, err = unix.Open(file, unix.O_RDONLY|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// read examines the file that is open as fd.
func (r *report) read(fd int, s *settings, con *cli.Console) {
	var st unix.Stat_t
	if r.err = unix.Fstat(fd, &st); r.err != nil {
		return
	}
	start, _ := unix.Seek(fd, 0, unix.SEEK_CUR)
	directory := st.Mode&unix.S_IFMT == unix.S_IFDIR
	if !directory {
		// ctxfile.Open handles what cannot be examined without consuming it.
		if kind, err := ctxfile.Sniff(fd); err == nil && kind == ctxfile.BLCR {
			if r.readBLCR(fd, &st); s.check && r.blcr != nil {
				r.check(fd, start, false)
			}
			if s.verify && r.blcr != nil {
				r.verified = &verification{unknown: max(r.blcr.size, 1), why: "data without checksums, as in all contexts of BLCR's module"}
			}
			return
		}
	}
	if directory {
		if r.criu, r.err = inspect.Directory(fd); s.verify && r.err == nil {
			r.verified = &verification{unknown: r.criu.Sizes.Total(), why: "images without checksums, as in all directories of CRIU's"}
		}
	} else {
		c, err := ctxfile.Open(context.Background(), fd)
		if err != nil {
			r.err = err
			return
		}
		defer c.Close()
		if r.criu, r.err = inspect.Context(c); s.verify {
			r.verify(c, con)
		}
	}
	if s.check && r.criu != nil {
		r.check(fd, start, directory)
	}
	if r.err == nil && r.criu != nil && r.criu.Missing != "" {
		r.err = notContext("incomplete: " + r.criu.Missing)
	}
}

// readBLCR reads a context of BLCR's module.
func (r *report) readBLCR(fd int, st *unix.Stat_t) {
	h, err := header.Read(cli.FD(fd))
	switch err {
	case nil:
	case header.ErrForeign, header.ErrTruncated:
		r.err = notContext(err.Error())
		return
	default:
		r.err = err
		return
	}
	r.blcr = &blcrContext{Header: h, size: -1}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return
	}
	r.blcr.size, r.blcr.endKnown = st.Size, true
	if r.blcr.ended, r.err = header.Ends(header.FD(fd), st.Size); r.err == nil && !r.blcr.ended {
		r.err = notContext("incomplete: it has no end: truncated, or something follows it")
	}
}
