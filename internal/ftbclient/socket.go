package ftbclient

import (
	"errors"
	"io"
	"time"

	"golang.org/x/sys/unix"
)

// errDeadline is what a socket's methods return when time is up.
var errDeadline = errors.New("deadline passed")

// socket is a non-blocking socket, closed on exec, and waited for by poll(2)
// only. Its errors are syscall.Errnos, errDeadline and io.EOF.
type socket struct {
	fd       int
	deadline time.Time // zero: none
}

// connectTCP makes a connection.
func connectTCP(to endpoint, deadline time.Time) (socket, error) {
	return connect(unix.SOCK_STREAM, to, deadline)
}

// connectUDP makes a socket that sends to, and receives from, one address only,
// and hears that nobody is there.
func connectUDP(to endpoint, deadline time.Time) (socket, error) {
	return connect(unix.SOCK_DGRAM, to, deadline)
}

func connect(kind int, to endpoint, deadline time.Time) (socket, error) {
	if expired(deadline) {
		return socket{}, errDeadline
	}
	fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return socket{}, err
	}
	s := socket{fd, deadline}
	if kind == unix.SOCK_STREAM {
		// Best effort: without it a second message waits for the first one's ACK.
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	}
	switch err = unix.Connect(fd, sockaddr(to)); err {
	case unix.EINPROGRESS, unix.EINTR:
		err = s.connected()
	}
	if err == nil && kind == unix.SOCK_STREAM && s.selfConnected() {
		err = unix.ECONNREFUSED
	}
	if err != nil {
		s.close()
		return socket{}, err
	}
	return s, nil
}

// connected waits for the outcome of a connect.
func (s socket) connected() error {
	if err := s.wait(unix.POLLOUT); err != nil {
		return err
	}
	errno, err := unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	// A reset is that of a connection which had been made; else it is a refusal.
	// Whoever uses the socket will find out.
	if e := unix.Errno(errno); err == nil && e != 0 && e != unix.ECONNRESET && e != unix.EPIPE {
		err = e
	}
	return err
}

// selfConnected reports whether the socket is at both ends: when nobody listens
// on a port that the kernel gives to clients, it may give that very port to the
// one that wants to connect to it.
func (s socket) selfConnected() bool {
	local, err1 := unix.Getsockname(s.fd)
	peer, err2 := unix.Getpeername(s.fd)
	if err1 != nil || err2 != nil {
		return false
	}
	l, ok1 := local.(*unix.SockaddrInet4)
	p, ok2 := peer.(*unix.SockaddrInet4)
	return ok1 && ok2 && l.Port == p.Port && l.Addr == p.Addr
}

// send sends all of b, in one write unless the socket's buffer is full.
func (s socket) send(b []byte) error {
	for len(b) > 0 {
		// MSG_NOSIGNAL: the end of the connection is an error like others.
		n, err := unix.SendmsgN(s.fd, b, nil, nil, unix.MSG_NOSIGNAL)
		switch err {
		case nil:
			b = b[n:]
		case unix.EINTR:
		case unix.EAGAIN:
			if err := s.wait(unix.POLLOUT); err != nil {
				return err
			}
		default:
			return err
		}
	}
	return nil
}

// receive waits for something and puts it into b, as much as is there.
func (s socket) receive(b []byte) (int, error) {
	for {
		n, err := s.poll(b)
		if err != unix.EAGAIN {
			return n, err
		}
		if err := s.wait(unix.POLLIN); err != nil {
			return 0, err
		}
	}
}

// receiveFull fills b. The end within it is io.ErrUnexpectedEOF.
func (s socket) receiveFull(b []byte) error {
	for done := 0; done < len(b); {
		n, err := s.receive(b[done:])
		if err == io.EOF {
			return io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
		done += n
	}
	return nil
}

// alive reads and forgets what has come, and returns io.EOF, or an error, if
// the peer is gone. It does not wait.
func (s socket) alive() error {
	var b [4096]byte
	for {
		if _, err := s.poll(b[:]); err == unix.EAGAIN {
			return nil
		} else if err != nil {
			return err
		}
		// Somebody who sends without end is not to keep us for ever.
		if expired(s.deadline) {
			return errDeadline
		}
	}
}

// poll receives without waiting: EAGAIN if there is nothing.
func (s socket) poll(b []byte) (int, error) {
	n, err := ignoringEINTR(func() (int, error) {
		return unix.Read(s.fd, b)
	})
	if err != nil {
		return 0, err
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// wait waits until one of the events, or an error, is there.
func (s socket) wait(events int16) error {
	for {
		timeout := -1
		if !s.deadline.IsZero() {
			left := time.Until(s.deadline)
			if left <= 0 {
				return errDeadline
			}
			// Rounded up; not more than fits everywhere.
			timeout = int(min(left, time.Hour)/time.Millisecond) + 1
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(s.fd), Events: events}}, timeout)
		if n > 0 {
			return nil
		}
		if err != nil && err != unix.EINTR {
			return err
		}
	}
}

func (s socket) close() {
	_ = unix.Close(s.fd)
}

func expired(deadline time.Time) bool {
	return !deadline.IsZero() && time.Until(deadline) <= 0
}

func ignoringEINTR(f func() (int, error)) (int, error) {
	for {
		if n, err := f(); err != unix.EINTR {
			return n, err
		}
	}
}
