package cli

import (
	"io"

	"golang.org/x/sys/unix"
)

// FD is an open descriptor as an io.Reader and io.Writer, without what os.File adds:
// a broken pipe is an error like others and does not end the program, which may have
// something to clean up, and a non-blocking descriptor starts no poller.
type FD int

// Read reads what there is, waiting where the descriptor does not block.
func (fd FD) Read(p []byte) (n int, err error) {
	for {
		n, err = unix.Read(int(fd), p)
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			fd.wait(unix.POLLIN)
		case err != nil:
			return 0, err
		case n == 0 && len(p) > 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

func (fd FD) wait(events int16) {
	_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: events}}, -1)
}

// Write writes all of p, waiting where the descriptor does not block.
func (fd FD) Write(p []byte) (n int, err error) {
	for n < len(p) {
		m, err := unix.Write(int(fd), p[n:])
		switch err {
		case nil:
			n += m
		case unix.EINTR:
		case unix.EAGAIN:
			fd.wait(unix.POLLOUT)
		default:
			return n, err
		}
	}
	return n, nil
}
