package criu

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
)

// A session is one criu and what it is served with: the socket by which it
// streams images, and the one of its hooks. One goroutine serves both, so that
// what criu has said before it runs a hook is known when the hook asks.
//
// The streaming protocol: every message is a little-endian length and a
// protobuf message. Criu asks for an image by name; where it reads, it is told
// whether there is one. It then sends a byte of no meaning with one end of a
// pipe, which carries the image.

// The names that criu looks for in its image directory.
const (
	captureSocket = "streamer-capture.sock"
	serveSocket   = "streamer-serve.sock"
)

// longestPath is what fits into a socket's address, less its NUL.
const longestPath = 107

type session struct {
	*run

	dir    scratch // the image directory; gone as soon as criu has connected
	name   string  // of the images' socket in it
	hooks  int     // listening sockets
	images int
	conn   int // criu's connection, -1 before and after
	hook   string

	// Called by the serving goroutine. Request gets the descriptor of the
	// image's pipe, which it owns. Offer tells whether there is an image of
	// that name, and is nil where criu writes.
	offer   func(name string) bool
	request func(name string, pipe int)
	asked   func(h *hook) (yes bool)

	mu      sync.Mutex
	stopped bool
	wake    [2]int // a pipe; something to read says that criu ended or stop was called
	err     error  // the first thing that went wrong on our side
	ended   chan struct{}
}

// newSession makes the sockets, in a directory of our own. Without a name there
// is none for images, which criu then keeps in files.
func newSession(socketName string) (*session, error) {
	s := &session{dir: noScratch, name: socketName, hooks: -1, images: -1, conn: -1, wake: [2]int{-1, -1}, ended: make(chan struct{})}
	if err := s.open(); err != nil {
		s.closeAll()
		return nil, err
	}
	return s, nil
}

func (s *session) open() error {
	if err := unix.Pipe2(s.wake[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return sysError("pipe", "", err)
	}
	if s.name != "" {
		if err := s.listenImages(); err != nil {
			return err
		}
	}
	var err error
	s.hooks, s.hook, err = listenHooks()
	return err
}

// listenImages makes the socket that criu connects to for its images.
func (s *session) listenImages() error {
	var parents []string
	if dir, err := filepath.Abs(os.TempDir()); err == nil && len(dir)+longestScratch+len(s.name)+2 <= longestPath {
		parents = append(parents, dir)
	}
	// What goes there is small, and need not fail for want of a place.
	var err error
	if s.dir, err = newScratch(append(parents, "/tmp", "/var/tmp", "/dev/shm")); err != nil {
		return err
	}
	if s.images, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
		return sysError("socket", "", err)
	}
	path := filepath.Join(s.dir.path, s.name)
	if err = unix.Bind(s.images, &unix.SockaddrUnix{Name: path}); err == nil {
		err = unix.Listen(s.images, 1)
	}
	if err != nil {
		return sysError("bind", path, err)
	}
	return nil
}

// start starts criu and serves it until it has ended.
func (s *session) start(l command) error {
	l.env = environment(s.hook)
	run, err := start(l)
	if err != nil {
		s.closeAll()
		return err
	}
	s.mu.Lock()
	s.run = run
	s.mu.Unlock()
	go func() {
		<-run.done
		s.rouse()
	}()
	go func() {
		s.serve()
		s.closeAll()
		<-run.done
		close(s.ended)
	}()
	return nil
}

// stop makes criu fail, as soon as it notices that it is no longer served.
func (s *session) stop() {
	s.mu.Lock()
	s.stopped = true
	s.mu.Unlock()
	s.rouse()
}

// insist is for after stop. It sees to it that a criu that somebody has stopped
// by a signal goes on, and that one that hangs does not hang for ever, with
// frozen processes: after a moment where harmless says that killing it does no
// harm, else after a long time. It returns when ended is closed, or nothing is
// left to be done.
func (s *session) insist(ended <-chan struct{}, harmless func() bool) {
	s.send(unix.SIGCONT)
	for begin := time.Now(); ; {
		select {
		case <-ended:
			return
		case <-time.After(time.Second):
		}
		if harmless() || time.Since(begin) > 5*patience {
			s.send(unix.SIGKILL)
			return
		}
	}
}

// send sends criu a signal, if it runs.
func (s *session) send(sig syscall.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.run == nil {
		return
	}
	select {
	case <-s.run.done:
	default:
		_ = unix.Kill(s.run.whole, sig)
	}
}

func (s *session) isStopped() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopped
}

// fail notes the first thing that has gone wrong, and stops criu.
func (s *session) fail(err error) {
	s.mu.Lock()
	if s.err == nil {
		s.err = err
	}
	s.mu.Unlock()
	s.stop()
}

// failure is what fail has noted.
func (s *session) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func (s *session) rouse() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wake[1] >= 0 {
		_, _ = unix.Write(s.wake[1], []byte{0})
	}
}

// removeDir removes the directory with the socket in it.
func (s *session) removeDir() {
	if s.dir.path != "" {
		_ = unix.Unlink(filepath.Join(s.dir.path, s.name))
	}
	s.dir.remove()
}

// closeAll gives everything back.
func (s *session) closeAll() {
	s.removeDir()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, fd := range []*int{&s.images, &s.hooks, &s.conn, &s.wake[0], &s.wake[1]} {
		if *fd >= 0 {
			unix.Close(*fd)
			*fd = -1
		}
	}
}

// serve answers criu until it has ended or stop was called.
func (s *session) serve() {
	for {
		// What cannot be waited for any longer is -1, which poll ignores.
		fds := []unix.PollFd{
			{Fd: int32(s.wake[0]), Events: unix.POLLIN},
			{Fd: int32(s.conn), Events: unix.POLLIN},
			{Fd: int32(s.images), Events: unix.POLLIN},
			{Fd: int32(s.hooks), Events: unix.POLLIN},
		}
		if _, err := unix.Poll(fds, -1); err != nil {
			if err == unix.EINTR {
				continue
			}
			s.fail(sysError("poll", "", err))
			return
		}
		switch {
		case fds[1].Revents != 0: // before the hooks, which come after it
			s.message()
		case fds[2].Revents != 0:
			s.accept()
		case fds[3].Revents != 0:
			s.answer()
		case fds[0].Revents != 0:
			select {
			case <-s.run.done:
				return
			default:
			}
			if s.isStopped() {
				return
			}
		}
	}
}

// accept takes criu's connection. From then on the directory is needed no more,
// so that nothing remains of it whatever becomes of us.
func (s *session) accept() {
	conn, _, err := unix.Accept4(s.images, unix.SOCK_CLOEXEC)
	if err != nil {
		return
	}
	s.conn = conn
	unix.Close(s.images)
	s.images = -1
	s.removeDir()
}

// answer answers a hook.
func (s *session) answer() {
	if h := acceptHook(s.hooks); h != nil {
		h.answer(!s.isStopped() && s.asked(h))
	}
}

// message takes one request of criu's.
func (s *session) message() {
	name, err := s.readRequest()
	if err == nil && name == "" {
		// Criu needs no more images.
		unix.Close(s.conn)
		s.conn = -1
		return
	}
	if err == nil && s.offer != nil {
		there := s.offer(name)
		if err = s.reply(there); err == nil && !there {
			return
		}
	}
	var pipe int
	if err == nil {
		pipe, err = s.readDescriptor()
	}
	if err == errHungUp {
		unix.Close(s.conn)
		s.conn = -1
		return
	}
	if err != nil {
		s.fail(err)
		return
	}
	s.request(name, pipe)
}

// readRequest reads which image criu asks for; none where it has closed the
// connection.
func (s *session) readRequest() (name string, err error) {
	var head [4]byte
	n, err := readFull(s.conn, head[:])
	if err != nil || n == 0 {
		return "", err
	}
	length := binary.LittleEndian.Uint32(head[:])
	if n < len(head) || length > 4096 {
		return "", protocolError("a message of %d bytes", length)
	}
	body := make([]byte, length)
	if n, err := readFull(s.conn, body); err != nil || n < len(body) {
		return "", protocolError("a message that ends early")
	}
	// The only field: number 1, a string.
	if len(body) < 2 || body[0] != 1<<3|2 || body[1] >= 0x80 || int(body[1]) != len(body)-2 || body[1] == 0 {
		return "", protocolError("the message % x", body)
	}
	return string(body[2:]), nil
}

// reply says whether there is an image of that name.
func (s *session) reply(there bool) error {
	message := []byte{2, 0, 0, 0, 1 << 3, 0}
	if there {
		message[5] = 1
	}
	if err := unix.Sendto(s.conn, message, unix.MSG_NOSIGNAL, nil); err != nil {
		return sysError("send", "criu", err)
	}
	return nil
}

// errHungUp is for a connection that ends in the middle: criu has failed, and
// will say why.
var errHungUp = errors.New("criu has hung up")

// readDescriptor receives the end of the image's pipe.
func (s *session) readDescriptor() (int, error) {
	data, control := make([]byte, 1), make([]byte, unix.CmsgSpace(4))
	for {
		n, oobn, flags, _, err := unix.Recvmsg(s.conn, data, control, unix.MSG_CMSG_CLOEXEC)
		if err == unix.EINTR {
			continue
		}
		if err == nil && flags&unix.MSG_CTRUNC != 0 {
			// There was one, and no number for it.
			return -1, sysError("receive a descriptor from", "criu", unix.EMFILE)
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

// protocolError is for what criu should not have said.
func protocolError(format string, args ...any) error {
	return &ckpt.Error{Op: "talk to", Object: "criu", Errno: syscall.EPROTO, Detail: []string{"criu sent " + fmt.Sprintf(format, args...)}}
}

// readFull reads as much as there is up to the end.
func readFull(fd int, b []byte) (n int, err error) {
	for n < len(b) {
		m, err := unix.Read(fd, b[n:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return n, sysError("read from", "criu", err)
		}
		if m == 0 {
			break
		}
		n += m
	}
	return n, nil
}
