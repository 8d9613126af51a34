package stream

import (
	"bytes"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// log reads what criu prints. It keeps the errors and drops the rest.
type log struct {
	fd    int    // the reading end, non-blocking
	stop  [2]int // a pipe; closing its writing end has follow return
	ended chan struct{}

	mu     sync.Mutex
	errors []string
	rest   []byte // the beginning of a line
}

const (
	mostErrors  = 32       // that are kept; the first and the last tell the most
	longestLine = 64 << 10 // a longer one is dropped
)

// open makes the pipe that criu is to print to, and returns its writing end. The
// caller closes that, and calls close or follow.
func (l *log) open() (out int, err error) {
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
		return -1, err
	}
	if err := unix.Pipe2(l.stop[:], unix.O_CLOEXEC); err != nil {
		unix.Close(ends[0])
		unix.Close(ends[1])
		return -1, err
	}
	l.fd, l.ended = ends[0], make(chan struct{})
	_ = unix.SetNonblock(l.fd, true)
	return ends[1], nil
}

// close closes the pipe of a log that is not followed.
func (l *log) close() {
	unix.Close(l.stop[0])
	unix.Close(l.stop[1])
	unix.Close(l.fd)
}

// follow reads until the pipe ends or finish is called.
func (l *log) follow() {
	defer close(l.ended)
	buffer := make([]byte, 16<<10)
	for {
		n, err := unix.Read(l.fd, buffer)
		switch {
		case n > 0:
			l.add(buffer[:n])
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			fds := []unix.PollFd{{Fd: int32(l.fd), Events: unix.POLLIN}, {Fd: int32(l.stop[0]), Events: unix.POLLIN}}
			if _, err := unix.Poll(fds, -1); err == nil && fds[0].Revents == 0 {
				return
			}
		default:
			return
		}
	}
}

// finish has follow read what there is and return. It does not wait for the end
// of the pipe: restored processes may have its other end. The pipe stays open until
// release: criu's code in a process prints there, too, also when criu has been killed,
// and the process would get SIGPIPE.
func (l *log) finish() {
	unix.Close(l.stop[1])
	<-l.ended
	unix.Close(l.stop[0])
}

// release closes the pipe after finish. It may be called again.
func (l *log) release() {
	if l.fd >= 0 {
		unix.Close(l.fd)
		l.fd = -1
	}
}

func (l *log) add(text []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rest = append(l.rest, text...)
	for {
		line, rest, found := bytes.Cut(l.rest, []byte{'\n'})
		if !found {
			break
		}
		l.line(string(line))
		l.rest = rest
	}
	if len(l.rest) > longestLine {
		l.rest = nil
	}
}

func (l *log) line(line string) {
	// "(00.012345)  12: Error (criu/file.c:123): what: why". The time and the pid
	// are missing where criu does not know them.
	i := strings.Index(line, "Error (")
	if i < 0 {
		return
	}
	_, text, found := strings.Cut(line[i:], "): ")
	if !found || strings.Contains(text, "Can't setup RLIMIT_NOFILE") {
		return // the latter has no consequence
	}
	text = strings.TrimSpace(text)
	if len(l.errors) == mostErrors {
		l.errors = slices.Delete(l.errors, mostErrors/2, mostErrors/2+1)
	}
	l.errors = append(l.errors, text)
}

// Errors returns the texts of the errors so far.
func (l *log) Errors() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.errors)
}
