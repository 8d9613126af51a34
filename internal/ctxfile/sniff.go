package ctxfile

import "golang.org/x/sys/unix"

// Kind is what a file is, by its first bytes.
type Kind int

const (
	// Unknown is no context.
	Unknown Kind = iota
	// Ours is a context of this package, perhaps of a later version.
	Ours
	// BLCR is a context of BLCR's module, which begins with the ints 'C', 'R'.
	BLCR
)

// Sniff tells what begins at the offset of fd, and consumes nothing of it. On a
// pipe, a FIFO or a socket it waits until that can be told. The error, an
// *Error, is that of the system: EISDIR for a directory, ESPIPE for a terminal
// or another device that cannot be looked at without reading it.
func Sniff(fd int) (Kind, error) {
	var b [len(magicWords)]byte
	n, err := peek(fd, b[:])
	if err != nil {
		return Unknown, fail("read", "", err)
	}
	k, _ := sniff(b[:n])
	return k, nil
}

// peek reads without consuming: all of b, or what tells the kind of file.
func peek(fd int, b []byte) (int, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0, err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG, unix.S_IFBLK:
		offset, err := unix.Seek(fd, 0, unix.SEEK_CUR)
		if err != nil {
			return 0, err
		}
		return readAt(fd, b, offset)
	case unix.S_IFDIR:
		return 0, unix.EISDIR
	case unix.S_IFIFO:
		return peekStream(fd, b, peekPipe)
	case unix.S_IFSOCK:
		return peekStream(fd, b, func(fd int, b []byte) (int, error) {
			n, _, err := unix.Recvfrom(fd, b, unix.MSG_PEEK|unix.MSG_DONTWAIT)
			return n, err
		})
	}
	return 0, unix.ESPIPE
}

// peekStream looks, with look, at what may come in small pieces. The kernel can
// be waited for until there is something, but not until there is more.
func peekStream(fd int, b []byte, look func(int, []byte) (int, error)) (int, error) {
	const end = unix.POLLHUP | unix.POLLERR | unix.POLLRDHUP
	for pause := 1; ; pause = min(2*pause, 20) { // milliseconds
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN | unix.POLLRDHUP}}
		if _, err := unix.Poll(fds, -1); err == unix.EINTR {
			continue
		} else if err != nil {
			return 0, err
		}
		n, err := look(fd, b)
		if err == unix.EINTR || err == unix.EAGAIN && fds[0].Revents&end == 0 {
			continue
		}
		if err == unix.EAGAIN { // nothing came before the end
			return 0, nil
		}
		_, more := sniff(b[:max(n, 0)])
		if err != nil || !more || n == len(b) || fds[0].Revents&end != 0 {
			return max(n, 0), err
		}
		// A timer would open an epoll descriptor, for good, and BLCR's module can
		// save no process that has one.
		_, _ = unix.Poll(nil, pause)
	}
}

// peekPipe has the kernel make a second pipe of what is in the first.
func peekPipe(fd int, b []byte) (int, error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return 0, err
	}
	defer unix.Close(p[0])
	defer unix.Close(p[1])
	n, err := unix.Tee(fd, p[1], len(b), unix.SPLICE_F_NONBLOCK)
	if err != nil || int32(n) == 0 { // on 386 package unix makes up the upper half
		return 0, err
	}
	return unix.Read(p[0], b)
}

// readAt reads at an offset of a file: less than all of b only at its end.
func readAt(fd int, b []byte, offset int64) (int, error) {
	done := 0
	for done < len(b) {
		n, err := unix.Pread(fd, b[done:], offset+int64(done))
		switch {
		case err == unix.EINTR:
		case err != nil:
			return done, err
		case n == 0:
			return done, nil
		default:
			done += n
		}
	}
	return done, nil
}
