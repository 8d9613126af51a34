package ctxfile

import (
	"math"
	"os"

	"golang.org/x/sys/unix"
)

// spool copies the context that comes out of fd into a file without a name, and
// leaves alone what follows it, if the context says where it ends: one that was
// streamed when it was written does not.
func spool(fd int) (file int, err error) {
	// Whatever is no context is to be refused at once, and if possible still
	// be there for somebody else.
	if k, err := Sniff(fd); err == nil && k != Ours {
		return -1, refuse(k)
	}
	page := make([]byte, pageSize)
	n, err := readFull(fd, page)
	if err != nil {
		return -1, fail("read", "", err)
	}
	_, _, trailer, err := checkPage(page[:n])
	if err != nil {
		return -1, err
	}
	limit := int64(math.MaxInt64)
	if trailer != 0 && trailer < math.MaxInt64-trailerLen {
		limit = int64(trailer) + trailerLen
	}
	if file, err = nameless(); err != nil {
		return -1, fail("open", os.TempDir(), err)
	}
	if err = spoolInto(file, fd, page, limit); err != nil {
		unix.Close(file)
		return -1, err
	}
	return file, nil
}

func spoolInto(file, fd int, page []byte, limit int64) error {
	out := output{fd: file}
	if err := out.writeAt(page, 0); err != nil {
		return fail("write", os.TempDir(), err)
	}
	var buf *[bufferSize]byte
	defer func() {
		if buf != nil {
			putBuffer(buf)
		}
	}()
	enlarge(fd)
	for at := int64(len(page)); at < limit; {
		var n int64
		var err error
		if buf == nil {
			offset := at
			n, err = splice(fd, nil, file, &offset, int(min(limit-at, pipeSize)))
			if err == unix.EINVAL { // not a pipe
				buf = getBuffer()
				continue
			}
			if err == unix.EAGAIN {
				if err = waitToRead(fd); err != nil {
					return fail("read", "", err)
				}
				continue
			}
			if err != nil {
				return fail("write", os.TempDir(), err)
			}
		} else {
			var m int
			if m, err = readSome(fd, buf[:min(limit-at, bufferSize)]); err != nil {
				return fail("read", "", err)
			}
			if err = out.writeAt(buf[:m], at); err != nil {
				return fail("write", os.TempDir(), err)
			}
			n = int64(m)
		}
		if n == 0 {
			break
		}
		at += n
	}
	return nil
}

// nameless makes a file that is gone when it is closed: on disk if possible.
func nameless() (int, error) {
	fd, err := unix.Open(os.TempDir(), unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err == nil {
		return fd, nil
	}
	if fd, err := unix.MemfdCreate("context", unix.MFD_CLOEXEC); err == nil {
		return fd, nil
	}
	return -1, err
}

// readFull reads all of b, or less at the end.
func readFull(fd int, b []byte) (int, error) {
	done := 0
	for done < len(b) {
		n, err := readSome(fd, b[done:])
		if err != nil || n == 0 {
			return done, err
		}
		done += n
	}
	return done, nil
}

// readSome reads at least one byte, except at the end, and waits for it even
// if the descriptor is non-blocking.
func readSome(fd int, b []byte) (int, error) {
	for {
		n, err := unix.Read(fd, b)
		switch err {
		case unix.EINTR:
		case unix.EAGAIN:
			if err := waitToRead(fd); err != nil {
				return 0, err
			}
		default:
			return max(n, 0), err
		}
	}
}

func waitToRead(fd int) error {
	for {
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
		if err != unix.EINTR {
			return err
		}
	}
}

// checkPage reads the first page of a context, or less of it.
func checkPage(page []byte) (h Header, id [idLen]byte, trailer uint64, err error) {
	if k, _ := sniff(page); k != Ours {
		return h, id, 0, refuse(k)
	}
	if len(page) < pageSize {
		return h, id, 0, invalid("", "truncated: the header is incomplete")
	}
	return parseHeader(page)
}
