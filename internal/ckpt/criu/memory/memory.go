// Package memory moves images, which are memory of processes for the most part:
// into the pipes by which CRIU reads them, and into the processes themselves, by
// userfaultfd(2), which is faster.
//
// How large a pipe is, how it is waited for, how data is moved without being copied,
// and what happens to memory while it is filled belongs here. What images contain
// belongs to package images, and which memory is filled to the engine. A context file
// moves its members itself, see package ctxfile.
package memory

import (
	"context"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// smallPipe is what a pipe has room for unless it is enlarged.
	smallPipe = 64 << 10

	// largePipe is the most that every user may give a pipe, which is a quarter
	// faster. CRIU misbehaves with more than 4 MiB.
	largePipe = 1 << 20

	copySize = 256 << 10 // a piece, where the kernel cannot move data by itself
)

// Feed writes a file from its current offset on into a pipe: to its end, or as much
// as the pipe's reader wants. Size is roughly how much that is; the pipe is
// enlarged for a large file. Both descriptors remain the caller's, who closes the
// pipe to let the reader see the end. The pipe is non-blocking while Feed runs.
//
// The error is an errno: that of splice(2), read(2) or write(2), ECANCELED once ctx
// is cancelled. That the reader has gone away is no error.
func Feed(ctx context.Context, pipe, file int, size int64) error {
	if size > smallPipe {
		_, _ = unix.FcntlInt(uintptr(pipe), unix.F_SETPIPE_SZ, largePipe)
	}
	err := fill(ctx, pipe, splice(file))
	if err == unix.EINVAL { // the file system has no splice; nothing is in the pipe yet
		err = fill(ctx, pipe, copyFrom(file))
	}
	return unlessGone(err)
}

// FeedBytes is Feed for data in memory.
func FeedBytes(ctx context.Context, pipe int, data []byte) error {
	return unlessGone(fill(ctx, pipe, func(pipe int) (done bool, err error) {
		if len(data) == 0 {
			return true, nil
		}
		n, err := unix.Write(pipe, data)
		data = data[max(n, 0):]
		return false, err
	}))
}

// FeedPieces is Feed for pieces of an image of pages, in the order of their offsets;
// where they belong in a process does not matter.
func FeedPieces(ctx context.Context, pipe int, list []Piece, read Read) error {
	size := int64(0)
	for _, p := range list {
		size += p.Length
	}
	if size > smallPipe {
		_, _ = unix.FcntlInt(uintptr(pipe), unix.F_SETPIPE_SZ, largePipe)
	}
	f := &pieceFeeder{read: read, list: list}
	return unlessGone(fill(ctx, pipe, f.step))
}

// pieceFeeder reads an image in aligned parts, as what checks or decompresses it does.
type pieceFeeder struct {
	read   Read
	list   []Piece // those that are left
	buffer []byte  // has data of the image from begin on
	data   []byte
	begin  int64
}

func (f *pieceFeeder) step(pipe int) (done bool, err error) {
	for len(f.list) > 0 && f.list[0].Length == 0 {
		f.list = f.list[1:]
	}
	if len(f.list) == 0 {
		return true, nil
	}
	p := f.list[0]
	if p.Offset < f.begin || p.Offset >= f.begin+int64(len(f.data)) {
		if err := f.fetch(p.Offset); err != nil {
			return false, err
		}
	}
	here := p.cut(p.Offset, f.begin+int64(len(f.data)))
	n, err := unix.Write(pipe, f.data[here.Offset-f.begin:][:here.Length])
	if n > 0 {
		f.list = append([]Piece{p.cut(p.Offset+int64(n), p.Offset+p.Length)}, f.list[1:]...)
	}
	return false, err
}

// fetch reads what is needed of the part with an offset.
func (f *pieceFeeder) fetch(offset int64) error {
	if f.buffer == nil {
		f.buffer = make([]byte, copySize)
	}
	end := offset&^(copySize-1) + copySize
	last := offset
	for _, p := range f.list {
		if p.Offset >= end {
			break
		}
		last = min(p.Offset+p.Length, end)
	}
	f.begin, f.data = offset, f.buffer[:last-offset]
	return f.read(f.data, offset)
}

func unlessGone(err error) error {
	if err == unix.EPIPE {
		return nil
	}
	return err
}

// A step moves some data into a pipe. It is done when there is no more; the error
// is EAGAIN if the pipe is full.
type step func(pipe int) (done bool, err error)

// splice has the kernel move a file.
func splice(file int) step {
	return func(pipe int) (done bool, err error) {
		n, err := unix.Splice(file, nil, pipe, nil, largePipe, unix.SPLICE_F_NONBLOCK|unix.SPLICE_F_MOVE)
		return err == nil && n == 0, err
	}
}

// copyFrom reads and writes a file.
func copyFrom(file int) step {
	buffer := make([]byte, copySize)
	var rest []byte // of it, what is not in the pipe yet
	return func(pipe int) (done bool, err error) {
		if len(rest) == 0 {
			n, err := unix.Read(file, buffer)
			if err != nil || n == 0 {
				return err == nil, err
			}
			rest = buffer[:n]
		}
		n, err := unix.Write(pipe, rest)
		rest = rest[max(n, 0):]
		return false, err
	}
}

// fill repeats a step until it is done. It waits for the pipe by the runtime's
// poller: a goroutine in a blocking system call would keep its processor until the
// runtime's monitor takes notice, for up to 10 ms, and there may be only one.
func fill(ctx context.Context, pipe int, next step) error {
	flags, err := unix.FcntlInt(uintptr(pipe), unix.F_GETFL, 0)
	if err != nil {
		return err
	}
	dup, err := unix.FcntlInt(uintptr(pipe), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if flags&unix.O_NONBLOCK == 0 {
		// A flag of the open file, which both descriptors share.
		if err := unix.SetNonblock(dup, true); err != nil {
			unix.Close(dup)
			return err
		}
		defer func() { _ = unix.SetNonblock(pipe, false) }()
	}
	end := os.NewFile(uintptr(dup), "pipe")
	defer end.Close()
	unwatch := context.AfterFunc(ctx, func() { _ = end.SetDeadline(time.Unix(1, 0)) })
	defer unwatch()
	conn, err := end.SyscallConn()
	if err != nil {
		return err
	}
	var stepErr error
	waitErr := conn.Write(func(fd uintptr) bool {
		for ctx.Err() == nil {
			var done bool
			done, stepErr = next(int(fd))
			switch {
			case stepErr == unix.EINTR:
			case stepErr == unix.EAGAIN:
				return false
			case done || stepErr != nil:
				return true
			}
		}
		return true
	})
	switch {
	case ctx.Err() != nil:
		return unix.ECANCELED
	case waitErr != nil:
		return syscall.EIO // the descriptor cannot be polled
	}
	return stepErr
}
