package ctxfile

import (
	"context"
	"math"
	"os"

	"golang.org/x/sys/unix"
)

// copyToTemp copies the context that comes out of a stream into a file without a
// name, and returns that. It leaves alone what follows the context, if the context
// says where it ends: one that was itself streamed when it was written does not.
func copyToTemp(ctx context.Context, fd int) (file int, err error) {
	// A file of another kind is refused at once, and if possible not consumed.
	if k, maybe, err := sniff(ctx, fd); err == nil && k != Ours && !maybe {
		return -1, refuse(k)
	}
	page := make([]byte, pageSize)
	n, err := readFull(ctx, fd, page)
	if err != nil {
		return -1, fail("read", "", err)
	}
	h, err := parsePage(page[:n])
	if err != nil {
		return -1, err
	}
	length := int64(math.MaxInt64)
	if h.trailer != 0 {
		if !goodTrailerOffset(h.trailer) {
			return -1, errTrailer()
		}
		length = int64(h.trailer) + trailerLen
	}
	if file, err = openTemp(); err != nil {
		return -1, fail("open", os.TempDir(), err)
	}
	if h.trailer != 0 {
		err = fits(file, length)
	}
	if err == nil {
		err = copyStream(ctx, file, fd, page, length)
	}
	if err != nil {
		unix.Close(file)
		return -1, err
	}
	return file, nil
}

// openTemp makes a file that is gone when it is closed: on disk if possible.
func openTemp() (int, error) {
	fd, err := unix.Open(os.TempDir(), unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err == nil {
		return fd, nil
	}
	if fd, err := unix.MemfdCreate("context", unix.MFD_CLOEXEC); err == nil {
		return fd, nil
	}
	return -1, err
}

// fits fails with ENOSPC if a context of that length cannot fit where the
// temporary file is, before anything is written there.
func fits(file int, length int64) error {
	var st unix.Statfs_t
	if unix.Fstatfs(file, &st) != nil || st.Blocks == 0 { // memory without a limit
		return nil
	}
	if uint64(length)/uint64(st.Bsize) > st.Bfree {
		return fail("write", os.TempDir(), unix.ENOSPC)
	}
	return nil
}

// copyStream writes page, and what follows it in the stream fd, to file, up to
// length bytes in all.
func copyStream(ctx context.Context, file, fd int, page []byte, length int64) error {
	if err := writeAt(file, page, 0); err != nil {
		return fail("write", os.TempDir(), err)
	}
	var buf *[bufferSize]byte // nil while splice works
	defer func() {
		if buf != nil {
			putBuffer(buf)
		}
	}()
	enlarge(fd)
	for at := int64(len(page)); at < length; {
		var n int64
		var err error
		if buf == nil {
			offset := at
			n, err = splice(fd, nil, file, &offset, int(min(length-at, largePipe)))
			if err == unix.EINVAL { // not a pipe
				buf = getBuffer()
				continue
			}
			if err == unix.EAGAIN {
				if _, err = poll(ctx, fd, unix.POLLIN); err != nil {
					return fail("read", "", err)
				}
				continue
			}
			if err != nil {
				return fail("write", os.TempDir(), err)
			}
		} else {
			var m int
			if m, err = readSome(ctx, fd, buf[:min(length-at, bufferSize)]); err != nil {
				return fail("read", "", err)
			}
			if err = writeAt(file, buf[:m], at); err != nil {
				return fail("write", os.TempDir(), err)
			}
			n = int64(m)
		}
		if n == 0 {
			break
		}
		if ctx.Err() != nil {
			return fail("read", "", unix.ECANCELED)
		}
		at += n
	}
	return nil
}
