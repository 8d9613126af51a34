package ctxfile

import (
	"context"
	"encoding/binary"

	"golang.org/x/sys/unix"
)

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
// pipe, a FIFO or a socket it waits until that can be told. The error, an *Error,
// is the system's: EISDIR for a directory, ESPIPE for a terminal or another device
// that cannot be looked at without reading it.
func Sniff(fd int) (Kind, error) {
	k, _, err := sniff(context.Background(), fd)
	return k, err
}

// sniff is Sniff that can be cancelled: ECANCELED. maybe is that of kindOf.
func sniff(ctx context.Context, fd int) (k Kind, maybe bool, err error) {
	var b [len(magicWords)]byte
	n, err := peek(ctx, fd, b[:])
	if err != nil {
		return Unknown, false, fail("read", "", err)
	}
	k, maybe = kindOf(b[:n])
	return k, maybe, nil
}

// kindOf tells from its beginning what a file is. maybe says that more bytes are
// needed to tell.
func kindOf(b []byte) (k Kind, maybe bool) {
	var blcr [8]byte // two ints, in the machine's order
	binary.NativeEndian.PutUint32(blcr[:], 'C')
	binary.NativeEndian.PutUint32(blcr[4:], 'R')
	for kind, magic := range map[Kind]string{Ours: magicWords, BLCR: string(blcr[:])} {
		n := min(len(b), len(magic))
		if string(b[:n]) != magic[:n] {
			continue
		}
		if n == len(magic) {
			return kind, false
		}
		maybe = true
	}
	return Unknown, maybe
}

// peek reads without consuming: all of b, or what tells the kind of file.
func peek(ctx context.Context, fd int, b []byte) (int, error) {
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
		return peekStream(ctx, fd, b, peekPipe)
	case unix.S_IFSOCK:
		return peekStream(ctx, fd, b, func(fd int, b []byte) (int, error) {
			n, _, err := unix.Recvfrom(fd, b, unix.MSG_PEEK|unix.MSG_DONTWAIT)
			return n, err
		})
	}
	return 0, unix.ESPIPE
}

// peekStream looks, with look, at data that may come in small pieces. The kernel
// can be waited for until there is something, but not until there is more.
func peekStream(ctx context.Context, fd int, b []byte, look func(int, []byte) (int, error)) (int, error) {
	const end = unix.POLLHUP | unix.POLLERR | unix.POLLRDHUP
	for pause := 1; ; pause = min(2*pause, 20) { // milliseconds
		events, err := poll(ctx, fd, unix.POLLIN|unix.POLLRDHUP)
		if err != nil {
			return 0, err
		}
		n, err := look(fd, b)
		if err == unix.EINTR || err == unix.EAGAIN && events&end == 0 {
			continue
		}
		if err == unix.EAGAIN { // nothing came before the end
			return 0, nil
		}
		_, more := kindOf(b[:max(n, 0)])
		if err != nil || !more || n == len(b) || events&end != 0 {
			return max(n, 0), err
		}
		// A timer would open an epoll descriptor for good, and BLCR's module cannot
		// save a process that has one.
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
