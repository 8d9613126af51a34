package cli

import (
	"io"

	"golang.org/x/sys/unix"
)

// FD is an open descriptor as an io.Reader and io.Writer. Unlike os.File it returns an
// error for a broken pipe instead of ending the program, which may have to clean up,
// and it does not start the runtime's poller for a non-blocking descriptor.
type FD int

// Read reads what is available. For a non-blocking descriptor it waits until there is
// something.
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

// Write writes all of p. For a non-blocking descriptor it waits until there is room.
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
