package header

import (
	"io"

	"golang.org/x/sys/unix"
)

// FD is an open file as an io.ReaderAt. One of package os would open an epoll descriptor,
// with which BLCR's module cannot save the process.
type FD int

// ReadAt reads until b is full, or to the end of the file. Other errors are errnos.
func (fd FD) ReadAt(b []byte, offset int64) (done int, err error) {
	for done < len(b) {
		n, err := unix.Pread(int(fd), b[done:], offset+int64(done))
		switch {
		case err == unix.EINTR:
		case err != nil:
			return done, err
		case n == 0:
			return done, io.EOF
		default:
			done += n
		}
	}
	return done, nil
}
