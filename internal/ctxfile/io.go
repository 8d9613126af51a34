package ctxfile

import (
	"context"

	"golang.org/x/sys/unix"
)

// System calls that complete what they begin.

// readAt reads at an offset of a file. It reads less than all of b only at the
// end of the file.
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

// writeAt writes all of b at an offset of a file.
func writeAt(fd int, b []byte, offset int64) error {
	for len(b) > 0 {
		n, err := unix.Pwrite(fd, b, offset)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return err
		case n == 0:
			return unix.EIO
		}
		b = b[n:]
		offset += int64(n)
	}
	return nil
}

// readFull reads all of b from a stream. It reads less only at the end.
func readFull(ctx context.Context, fd int, b []byte) (int, error) {
	done := 0
	for done < len(b) {
		n, err := readSome(ctx, fd, b[done:])
		if err != nil || n == 0 {
			return done, err
		}
		done += n
	}
	return done, nil
}

// readSome reads at least one byte from a stream, except at its end. It waits for
// data even if the descriptor is non-blocking.
func readSome(ctx context.Context, fd int, b []byte) (int, error) {
	for {
		if _, err := poll(ctx, fd, unix.POLLIN); err != nil {
			return 0, err
		}
		n, err := unix.Read(fd, b)
		if err != unix.EINTR && err != unix.EAGAIN {
			return max(n, 0), err
		}
	}
}

// poll waits for one of events, an error or a hang-up, and returns what there is.
// It fails with ECANCELED if ctx is cancelled, for which it looks 20 times a
// second.
func poll(ctx context.Context, fd int, events int16) (int16, error) {
	timeout := -1
	if ctx.Done() != nil {
		timeout = 50 // milliseconds
	}
	fds := []unix.PollFd{{Fd: int32(fd), Events: events}}
	for ctx.Err() == nil {
		n, err := unix.Poll(fds, timeout)
		if err != nil && err != unix.EINTR {
			return 0, err
		}
		if n > 0 {
			return fds[0].Revents, nil
		}
	}
	return 0, unix.ECANCELED
}

// splice is splice(2) that does not wait for a pipe and is not interrupted.
func splice(from int, fromOffset *int64, to int, toOffset *int64, n int) (int64, error) {
	for {
		m, err := unix.Splice(from, fromOffset, to, toOffset, n, unix.SPLICE_F_NONBLOCK)
		if err == unix.EINTR {
			continue
		}
		return max(int64(m), 0), err
	}
}
