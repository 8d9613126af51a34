package stream

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/criu/tempdir"
)

// The streaming protocol: every message is a little-endian length of 4 bytes and
// a protobuf message. Criu names an image; in mode Serve it is told whether there
// is one. It then sends a byte of no meaning with one end of a pipe, which
// carries the image.

// socketNames are what criu connects to in its image directory.
var socketNames = [...]string{Files: "", Capture: "streamer-capture.sock", Serve: "streamer-serve.sock"}

// longestPath is what fits into a socket's address, less its NUL.
const longestPath = 107

// longestMessage is more than any request takes.
const longestMessage = 4096

// listenImages makes the socket that criu connects to for its images, in a
// directory of its own.
func (c *Criu) listenImages() error {
	if c.mode == Files && c.handler.Memory == nil {
		return nil
	}
	name := cmp.Or(socketNames[c.mode], lazySocket)
	var parents []string
	if dir, err := filepath.Abs(os.TempDir()); err == nil && len(dir)+tempdir.LongestName+len(name)+2 <= longestPath {
		parents = append(parents, dir)
	}
	// A socket takes no room, so any of these will do.
	var err error
	c.dir, err = tempdir.New(append(parents, "/tmp", "/var/tmp", "/dev/shm"))
	if err == nil && c.mode != Files {
		c.images, err = c.listen(name)
	}
	if err == nil && c.handler.Memory != nil {
		c.lazy, err = c.listen(lazySocket)
	}
	return err
}

// listen makes a socket in the directory.
func (c *Criu) listen(name string) (fd int, err error) {
	fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, ckpt.SystemError("socket", "", err)
	}
	path := filepath.Join(c.dir.Path, name)
	if err = unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err == nil {
		err = unix.Listen(fd, 1)
	}
	if err != nil {
		unix.Close(fd)
		return -1, ckpt.SystemError("bind", path, err)
	}
	return fd, nil
}

// accept takes criu's only connection to a listener, which is closed then.
func (c *Criu) accept(listener, conn *int) {
	fd := c.acceptOn(*listener)
	if fd < 0 {
		return
	}
	*conn = fd
	unix.Close(*listener)
	*listener = -1
	c.connected()
}

// connected removes the directory once it is not needed any more: nothing of it is
// left behind if this process is killed.
func (c *Criu) connected() {
	if c.images < 0 && c.lazy < 0 {
		c.removeDir()
	}
}

// message takes one message of criu's, by receive, and closes the connection if criu
// has.
func (c *Criu) message(conn *int, receive func() error) {
	switch err := receive(); err {
	case nil, errStopped:
	case errHungUp:
		unix.Close(*conn)
		*conn = -1
	default:
		c.Fail(err)
	}
}

var (
	// errHungUp is for a connection that has ended: criu needs no more images,
	// or has failed and will say why.
	errHungUp = errors.New("criu has hung up")

	// errStopped is for a message that was not waited for to its end.
	errStopped = errors.New("criu is being stopped")
)

// request reads and answers a request for an image.
func (c *Criu) request() error {
	name, err := c.readName()
	if err != nil {
		return err
	}
	defer c.endLoan() // which can wait; what Memories does cannot
	c.mu.Lock()
	c.named = true
	c.mu.Unlock()
	if c.mode == Serve {
		there := c.handler.Offer(name)
		if err := c.reply(there); err != nil || !there {
			return err
		}
	}
	pipe, err := c.readDescriptor(c.conn)
	if err != nil {
		return err
	}
	if c.handler.Small != nil {
		if image, small := c.handler.Small(name); small {
			if done, err := fits(pipe, image); done || err != nil {
				unix.Close(pipe)
				return err
			}
		}
	}
	moved := c.pipes.image(pipe)
	memory := c.handler.Memories != nil && c.handler.Memories(name)
	if memory {
		c.pipes.keep(c.PID())
	}
	c.moving.Add(1)
	go func() {
		defer c.moving.Done()
		defer moved()
		defer unix.Close(pipe)
		if memory {
			c.pipes.keepMore(c.PID(), pipe, c.Stopped)
		}
		if err := c.handler.Image(name, pipe); err != nil {
			c.Fail(err)
		}
	}()
	return nil
}

// fits writes an image into an empty pipe if there is room for it. That criu does not
// want it is no error.
func fits(pipe int, image []byte) (bool, error) {
	room, err := unix.FcntlInt(uintptr(pipe), unix.F_GETPIPE_SZ, 0)
	if err != nil || room < len(image) || unix.SetNonblock(pipe, true) != nil {
		return false, nil
	}
	switch n, err := unix.Write(pipe, image); {
	case err == unix.EPIPE, err == nil && n == len(image):
		return true, nil
	case err == nil:
		return false, ckpt.SystemError("write to", "criu", unix.ENOMEM)
	}
	_ = unix.SetNonblock(pipe, false) // nothing is in it
	return false, nil
}

// readName reads which image criu asks for.
func (c *Criu) readName() (string, error) {
	var head [4]byte
	n, err := c.readFull(c.conn, head[:])
	if err != nil {
		return "", err
	}
	if n < len(head) { // also where criu was killed in the middle
		return "", errHungUp
	}
	length := binary.LittleEndian.Uint32(head[:])
	if length > longestMessage {
		return "", protocolError("a message of %d bytes", length)
	}
	body := make([]byte, length)
	if n, err := c.readFull(c.conn, body); err != nil {
		return "", err
	} else if n < len(body) {
		return "", errHungUp
	}
	// The only field: number 1, a string.
	if len(body) < 2 || body[0] != 1<<3|2 || body[1] >= 0x80 || int(body[1]) != len(body)-2 || body[1] == 0 {
		return "", protocolError("the message % x", body)
	}
	return string(body[2:]), nil
}

// reply says whether there is an image of the name that criu has asked for.
func (c *Criu) reply(there bool) error {
	message := []byte{2, 0, 0, 0, 1 << 3, 0}
	if there {
		message[5] = 1
	}
	switch err := unix.Sendto(c.conn, message, unix.MSG_NOSIGNAL, nil); err {
	case nil:
		return nil
	case unix.EPIPE, unix.ECONNRESET:
		return errHungUp
	default:
		return ckpt.SystemError("send", "criu", err)
	}
}

// readDescriptor receives a descriptor, such as the end of an image's pipe.
func (c *Criu) readDescriptor(conn int) (int, error) {
	data, control := make([]byte, 1), make([]byte, unix.CmsgSpace(4))
	for {
		n, oobn, flags, _, err := unix.Recvmsg(conn, data, control, unix.MSG_CMSG_CLOEXEC)
		if err == unix.EINTR {
			continue
		}
		if err == unix.EAGAIN {
			if err := c.await(conn); err != nil {
				return -1, err
			}
			continue
		}
		if err == nil && flags&unix.MSG_CTRUNC != 0 {
			// There was a descriptor, and this process has no number left for it.
			return -1, ckpt.SystemError("receive a descriptor from", "criu", unix.EMFILE)
		}
		if err != nil || n == 0 {
			return -1, errHungUp
		}
		messages, err := unix.ParseSocketControlMessage(control[:oobn])
		if err != nil || len(messages) != 1 {
			return -1, protocolError("no descriptor")
		}
		fds, err := unix.ParseUnixRights(&messages[0])
		if err != nil || len(fds) != 1 {
			return -1, protocolError("no descriptor")
		}
		return fds[0], nil
	}
}

// readFull reads from a connection of criu's until b is full or the connection ends.
func (c *Criu) readFull(conn int, b []byte) (n int, err error) {
	for n < len(b) {
		m, err := unix.Read(conn, b[n:])
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			if err := c.await(conn); err != nil {
				return n, err
			}
		case err == unix.ECONNRESET:
			return n, errHungUp
		case err != nil:
			return n, ckpt.SystemError("read from", "criu", err)
		case m == 0:
			return n, nil
		}
		n += max(m, 0)
	}
	return n, nil
}

// await returns when there is something to read on a connection of criu's. There is no
// time limit, since criu may have been stopped by a signal in the middle of a
// message; but it ends with errStopped when Stop is called, and with errHungUp
// when criu has ended, even if processes that it has made keep the connection.
func (c *Criu) await(conn int) error {
	for {
		fds := []unix.PollFd{{Fd: int32(conn), Events: unix.POLLIN}, {Fd: int32(c.wake[0]), Events: unix.POLLIN}}
		_, err := unix.Poll(fds, -1)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return ckpt.SystemError("poll", "", err)
		case c.Stopped():
			return errStopped
		case fds[0].Revents != 0:
			return nil
		default:
			return errHungUp
		}
	}
}

// protocolError is for what criu should not have sent.
func protocolError(format string, args ...any) error {
	return &ckpt.Error{Op: "talk to", Object: "criu", Errno: syscall.EPROTO, Detail: []string{"criu sent " + fmt.Sprintf(format, args...)}}
}
