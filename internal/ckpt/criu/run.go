package criu

import (
	"bytes"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/signals"
)

// run is a criu at work.
type run struct {
	pid   int
	whole int // the same for kill(2), with its process group if that is its own

	// Valid when done is closed, which happens once it has ended.
	done   chan struct{}
	status unix.WaitStatus

	log logbook
}

// command is how to start a criu.
type command struct {
	path  string
	args  []string
	env   []string
	extra []int       // descriptors that it gets as 3, 4, …; they stay the caller's
	in    *namespaces // to run in, nil for ours

	// inSession says that it has to be in our session and process group, for
	// what it makes inherits them; else it gets a session of its own.
	inSession bool
}

// deaf is a shell's way to start a program that ignores the signals that are
// sent to a whole group. Criu gives those that it restores their own ways.
const deaf = `trap "" HUP INT QUIT TERM USR1 USR2 TSTP TTIN TTOU; exec "$@"`

// start starts criu with our standard input, by which it knows the terminal of a
// job. The calling thread becomes the parent of criu, and of what that restores;
// it has to outlive both, unless criu runs in other namespaces.
//
// Nothing that is meant for us may hit it or its hooks, such as a Ctrl-C: killed
// at the wrong moment it leaves a process behind with foreign code in it. It ends
// soon when we do, for want of its sockets.
func start(l command) (*run, error) {
	program, args, attr := l.path, append([]string{"criu"}, l.args...), &syscall.SysProcAttr{Setsid: true}
	if l.inSession {
		program, args, attr = "/bin/sh", append([]string{"sh", "-c", deaf, "criu", l.path}, l.args...), nil
	}
	var logPipe [2]int
	if err := unix.Pipe2(logPipe[:], unix.O_CLOEXEC); err != nil {
		return nil, sysError("pipe", "", err)
	}
	files := []uintptr{0, uintptr(logPipe[1]), uintptr(logPipe[1])}
	for _, fd := range l.extra {
		// One with a number near the limit leaves no room for those that
		// ForkExec needs beyond it.
		if low, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3); err == nil && low < fd {
			defer unix.Close(low)
			fd = low
		} else if err == nil {
			unix.Close(low)
		}
		files = append(files, uintptr(fd))
	}
	r := &run{done: make(chan struct{})}
	fork := func() error {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		mask, err := signals.BlockAll(unix.SIGCHLD, unix.SIGALRM)
		if err != nil {
			return err
		}
		defer signals.RestoreMask(mask)
		if l.in != nil {
			if err := l.in.enter(); err != nil {
				return err
			}
		}
		r.pid, err = syscall.ForkExec(program, args, &syscall.ProcAttr{Env: l.env, Files: files, Sys: attr})
		return err
	}
	var err error
	if l.in == nil {
		err = fork()
	} else {
		// A thread that has entered other namespaces is of no use for anything
		// else. It must not end, either: for the kernel it is the parent of
		// what it has started, which may ask to be told of its parent's death.
		forked := make(chan error)
		go func() {
			runtime.LockOSThread()
			forked <- fork()
			select {}
		}()
		err = <-forked
	}
	unix.Close(logPipe[1])
	if err != nil {
		unix.Close(logPipe[0])
		return nil, sysError("exec", program, err)
	}
	// It needs numbers beyond all that a job has; the job gets its own limit.
	var limit unix.Rlimit
	if unix.Prlimit(r.pid, unix.RLIMIT_NOFILE, nil, &limit) == nil && limit.Cur < limit.Max {
		limit.Cur = limit.Max
		_ = unix.Prlimit(r.pid, unix.RLIMIT_NOFILE, &limit, nil)
	}
	r.whole = r.pid
	if !l.inSession {
		r.whole = -r.pid
		// Killed while it is at work in a process it does harm; we can be.
		_ = os.WriteFile("/proc/"+itoa(r.pid)+"/oom_score_adj", []byte("-1000"), 0)
	}
	r.log.follow(logPipe[0])
	go func() {
		r.status = wait(r.pid)
		r.log.finish()
		close(r.done)
	}()
	return r, nil
}

// wait returns how a child ended.
func wait(pid int) unix.WaitStatus {
	for {
		var status unix.WaitStatus
		_, err := unix.Wait4(pid, &status, unix.WALL, nil)
		switch err {
		case nil:
			return status
		case unix.EINTR:
		default:
			// Nobody else waits for it, so this does not happen.
			return 0xff00
		}
	}
}

// logbook is what criu says: it keeps the errors, and reads the rest away.
type logbook struct {
	mu     sync.Mutex
	fd     int
	errors []string
	rest   []byte
	ended  chan struct{}
	stop   [2]int
}

// mostErrors is how many lines are kept; the first and the last tell the most.
const mostErrors = 32

// follow reads from fd, which it takes over, in the background.
func (l *logbook) follow(fd int) {
	l.fd = fd
	l.ended = make(chan struct{})
	_ = unix.SetNonblock(fd, true)
	if err := unix.Pipe2(l.stop[:], unix.O_CLOEXEC); err != nil {
		l.stop = [2]int{-1, -1}
	}
	go func() {
		defer close(l.ended)
		buffer := make([]byte, 16<<10)
		for {
			n, err := unix.Read(fd, buffer)
			switch {
			case n > 0:
				l.add(buffer[:n])
			case err == unix.EINTR:
			case err == unix.EAGAIN:
				fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}, {Fd: int32(l.stop[0]), Events: unix.POLLIN}}
				if _, err := unix.Poll(fds, -1); err == nil && fds[0].Revents == 0 {
					return
				}
			default:
				return
			}
		}
	}()
}

// finish reads what there is, and no more: restored processes may have the other
// end of the pipe open.
func (l *logbook) finish() {
	unix.Close(l.stop[1])
	<-l.ended
	unix.Close(l.stop[0])
	unix.Close(l.fd)
}

func (l *logbook) add(text []byte) {
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
	if len(l.rest) > 64<<10 {
		l.rest = nil
	}
}

func (l *logbook) line(line string) {
	// "(00.012345)  12: Error (criu/file.c:123): what: why", the time and the
	// pid missing where they are not known.
	i := strings.Index(line, "Error (")
	if i < 0 {
		return
	}
	_, text, found := strings.Cut(line[i:], "): ")
	if !found || strings.Contains(text, "Can't setup RLIMIT_NOFILE") {
		return
	}
	text = strings.TrimSpace(text)
	if len(l.errors) == mostErrors {
		l.errors = append(l.errors[:mostErrors/2], l.errors[mostErrors/2+1:]...)
	}
	l.errors = append(l.errors, text)
}

// Errors returns what criu has complained about so far.
func (l *logbook) Errors() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.errors...)
}

// environment is criu's: ours, and where its hooks are to ask.
func environment(hookName string) []string {
	return append(os.Environ(), hookVar+"="+hookName)
}

// self is the path of our own program, for criu to run as its action script.
func self() string {
	path, err := os.Executable()
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		// Deleted or replaced meanwhile; the process still has it.
		return "/proc/" + itoa(os.Getpid()) + "/exe"
	}
	return path
}
