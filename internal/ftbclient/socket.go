package ftbclient

import (
	"errors"
	"io"
	"time"

	"golang.org/x/sys/unix"
)

// errDeadline is returned by a socket's methods when the deadline has passed.
var errDeadline = errors.New("deadline passed")

// socket is a non-blocking socket, close-on-exec, which waits by poll(2) only. Its
// errors are syscall.Errnos, errDeadline and io.EOF.
type socket struct {
	fd       int
	deadline time.Time // zero: none
}

// connectTCP connects to an agent.
func connectTCP(to endpoint, deadline time.Time) (socket, error) {
	return connect(unix.SOCK_STREAM, to, deadline)
}

// connectUDP returns a socket that sends to and receives from one address only, and
// gets an error if no process listens there.
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
		// An error is ignored: without the option a second message only waits for the
		// ACK of the first.
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

// connected waits for the result of a connect.
func (s socket) connected() error {
	if err := s.wait(unix.POLLOUT); err != nil {
		return err
	}
	errno, err := unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	// A reset means that the connection was made and then reset; otherwise it would
	// have been refused. Later calls on the socket will detect that.
	if e := unix.Errno(errno); err == nil && e != 0 && e != unix.ECONNRESET && e != unix.EPIPE {
		err = e
	}
	return err
}

// selfConnected reports whether the socket is connected to itself. If no process
// listens on a port in the range that the kernel assigns to clients, it may assign that
// port to the client that connects to it.
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
		// MSG_NOSIGNAL: a closed connection gives an error and no SIGPIPE.
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

// receive waits for data and reads what is available into b.
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

// receiveFull fills b. If the connection ends before that, it returns
// io.ErrUnexpectedEOF.
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

// alive reads and discards the data that has arrived. It returns io.EOF or an error if
// the peer has closed the connection. It does not wait.
func (s socket) alive() error {
	var b [4096]byte
	for {
		if _, err := s.poll(b[:]); err == unix.EAGAIN {
			return nil
		} else if err != nil {
			return err
		}
		// A peer that sends endlessly must not keep the caller busy for ever.
		if expired(s.deadline) {
			return errDeadline
		}
	}
}

// poll receives without waiting. It returns EAGAIN if there is no data.
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

// wait waits for one of the events, or an error.
func (s socket) wait(events int16) error {
	for {
		timeout := -1
		if !s.deadline.IsZero() {
			left := time.Until(s.deadline)
			if left <= 0 {
				return errDeadline
			}
			// Rounded up, and limited to a value that fits everywhere.
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

// earlier returns the deadline, or the end of the limit if that comes first.
func earlier(deadline time.Time, limit time.Duration) time.Time {
	t := time.Now().Add(limit)
	if !deadline.IsZero() && deadline.Before(t) {
		return deadline
	}
	return t
}

// rest waits until the time has come, by poll(2) as well.
func rest(until time.Time) {
	for !expired(until) {
		_, _ = unix.Poll(nil, int(time.Until(until)/time.Millisecond)+1)
	}
}

func ignoringEINTR(f func() (int, error)) (int, error) {
	for {
		if n, err := f(); err != unix.EINTR {
			return n, err
		}
	}
}
