package cli

import "golang.org/x/sys/unix"

// FD is an open descriptor as an io.Writer, without what os.File adds: a broken
// pipe is an error like others and does not end the program, which may have
// something to clean up, and a non-blocking descriptor starts no poller.
type FD int

// Write writes all of p, waiting where the descriptor does not block.
func (fd FD) Write(p []byte) (n int, err error) {
	for n < len(p) {
		m, err := unix.Write(int(fd), p[n:])
		switch err {
		case nil:
			n += m
		case unix.EINTR:
		case unix.EAGAIN:
			_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, -1)
		default:
			return n, err
		}
	}
	return n, nil
}
