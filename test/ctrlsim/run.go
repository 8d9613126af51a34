//go:build linux && amd64

package ctrlsim

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// running is a Command between Start and the end of Wait.
type running struct {
	s        *supervisor
	cmd      *exec.Cmd
	stopPipe [2]int
	execTime time.Duration // monotonic
	deadline time.Time
	waited   atomic.Bool

	served chan struct{} // closed when the supervisor has ended
	ended  chan struct{} // closed when the program has ended
	watch  chan struct{} // closed when the one who kills has ended

	// Set before watch is closed.
	endTime  time.Duration
	timedOut bool
	leftover []int
}

// Supported says why the simulator cannot be used on this machine.
func Supported() error {
	var sizes [3]uint16
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_GET_NOTIF_SIZES, 0, uintptr(unsafe.Pointer(&sizes)))
	if errno != 0 {
		return fmt.Errorf("ctrlsim: seccomp user notification: %w", errno)
	}
	return nil
}

// start starts the shim, takes the listener from it, and waits until it has
// become the program.
func (c *Command) start() (err error) {
	if !initCalled {
		return errors.New("ctrlsim: main or TestMain does not call ctrlsim.Init")
	}
	path, err := lookPath(c)
	if err != nil {
		return err
	}
	var p *plan
	if c.Faults != nil {
		if p, err = newPlan(c.Faults); err != nil {
			return fmt.Errorf("ctrlsim: %w", err)
		}
	}
	sc := c.Scenario
	if sc == nil {
		sc = new(Scenario)
	}
	timeout := c.Timeout
	if timeout == 0 {
		timeout = DefaultTimeout
	}
	r := &running{
		deadline: time.Now().Add(timeout),
		served:   make(chan struct{}),
		ended:    make(chan struct{}),
		watch:    make(chan struct{}),
	}

	conn, peer, err := socketpair()
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(r.deadline)
	files := 3 + len(c.ExtraFiles)
	r.cmd = &exec.Cmd{
		Path: "/proc/self/exe",
		Args: []string{"ctrlsim-shim"},
		// Nothing of the runtime's interrupts the shim's thread with the filter.
		Env:         []string{fmt.Sprintf("%s=%d", shimVar, files), "GOGC=off", "GODEBUG=asyncpreemptoff=1"},
		Dir:         c.Dir,
		Stdin:       c.Stdin,
		Stdout:      c.Stdout,
		Stderr:      c.Stderr,
		ExtraFiles:  append(slices.Clone(c.ExtraFiles), peer),
		SysProcAttr: c.SysProcAttr,
	}
	err = r.cmd.Start()
	peer.Close()
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			r.cmd.Process.Kill()
			r.cmd.Wait()
		}
	}()

	argv := append([]string{c.Argv0}, c.Args...)
	if c.Argv0 == "" {
		argv[0] = c.Path
	}
	env := c.Env
	if env == nil {
		env = os.Environ()
	}
	config, err := appendConfig(nil, &shimConfig{Path: path, Argv: argv, Env: env, Files: files, Count: p.numbers(), Every: c.OnCall != nil, Writing: c.Measured})
	if err != nil {
		return err
	}
	if _, err := conn.Write(config); err != nil {
		return fmt.Errorf("ctrlsim: shim: %w", err)
	}
	l, err := receiveListener(conn)
	if err != nil {
		return err
	}

	if err := unix.Pipe2(r.stopPipe[:], unix.O_CLOEXEC); err != nil {
		unix.Close(int(l))
		return err
	}
	s := &supervisor{
		l: l, stopFd: r.stopPipe[0], stop: make(chan struct{}),
		sc: sc, tee: c.TranscriptTo, plan: p, onCall: c.OnCall,
		main:  r.cmd.Process.Pid,
		files: make(map[uint64]*file), nth: make(map[string]int),
		asked: make(map[int]*askedTask), registered: make(map[int]registration),
		unready: make(map[int]bool), injected: make(map[int]bool), signalled: make(map[int]bool),
	}
	r.s = s
	go func() {
		s.run()
		close(r.served)
	}()
	defer func() {
		if err != nil {
			r.cmd.Process.Kill()
			r.shutdown()
		}
	}()

	if _, err := conn.Write([]byte{0}); err != nil {
		return fmt.Errorf("ctrlsim: shim: %w", err)
	}
	rest, err := io.ReadAll(conn)
	if err != nil {
		return fmt.Errorf("ctrlsim: shim: %w", err)
	}
	if len(rest) < 9 || rest[0] != msgExec {
		return shimError(path, rest)
	}
	r.execTime = time.Duration(binary.NativeEndian.Uint64(rest[1:]))
	if rest = rest[9:]; len(rest) > 0 {
		return shimError(path, rest)
	}
	main, err := s.procs.of(r.cmd.Process.Pid)
	if err != nil {
		return fmt.Errorf("ctrlsim: %w", err)
	}
	p.start(main.pid)
	s.strangersAt(r.execTime)
	c.run = r
	linger := c.Linger
	if linger == 0 {
		linger = DefaultLinger
	}
	go r.guard(main, linger)
	return nil
}

// lookPath finds the program as a shell would.
func lookPath(c *Command) (string, error) {
	if strings.Contains(c.Path, "/") {
		return c.Path, nil // relative to Dir, by the shim's exec
	}
	return exec.LookPath(c.Path)
}

func socketpair() (*net.UnixConn, *os.File, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	mine, peer := os.NewFile(uintptr(pair[0]), "shim"), os.NewFile(uintptr(pair[1]), "shim")
	defer mine.Close()
	conn, err := net.FileConn(mine)
	if err != nil {
		peer.Close()
		return nil, nil, err
	}
	return conn.(*net.UnixConn), peer, nil
}

// receiveListener waits until the shim has the filter.
func receiveListener(conn *net.UnixConn) (listener, error) {
	buf, oob := make([]byte, 256), make([]byte, unix.CmsgSpace(4))
	n, oobn, _, _, err := conn.ReadMsgUnix(buf, oob)
	if err != nil {
		return -1, fmt.Errorf("ctrlsim: shim: %w", err)
	}
	if n == 0 {
		return -1, errors.New("ctrlsim: the shim has ended")
	}
	if buf[0] != msgListener {
		return -1, shimError("", buf[:n])
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil || len(msgs) != 1 {
		return -1, fmt.Errorf("ctrlsim: shim sent no listener: %v", err)
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil || len(fds) != 1 {
		return -1, fmt.Errorf("ctrlsim: shim sent no listener: %v", err)
	}
	unix.CloseOnExec(fds[0])
	return listener(fds[0]), nil
}

// shimError is what a msgFailed says.
func shimError(path string, msg []byte) error {
	if len(msg) < 9 || msg[0] != msgFailed {
		return errors.New("ctrlsim: the shim has ended")
	}
	errno := syscall.Errno(binary.NativeEndian.Uint64(msg[1:]))
	what := string(msg[9:])
	switch {
	case what == "exec":
		return &os.PathError{Op: "exec", Path: path, Err: errno}
	case errno != 0:
		return fmt.Errorf("ctrlsim: shim: %s: %w", what, errno)
	}
	return errors.New("ctrlsim: shim: " + what)
}

// guard waits for the program's end, gives what it left behind some time and
// kills that; at the deadline it kills everything. It sees the end before
// exec.Cmd.Wait does, which may wait for pipes that only a kill closes.
func (r *running) guard(main *process, linger time.Duration) {
	defer close(r.watch)
	ended := make(chan struct{})
	go func() {
		fds := []unix.PollFd{{Fd: int32(main.pidfd), Events: unix.POLLIN}}
		for {
			const second = 1000 // in milliseconds, should the kernel forget to wake us
			if n, err := unix.Poll(fds, second); n > 0 || err != nil && err != unix.EINTR {
				break
			}
		}
		close(ended)
	}()
	deadline := time.NewTimer(time.Until(r.deadline))
	defer deadline.Stop()
	select {
	case <-ended:
		r.endTime = monotonic()
	case <-deadline.C:
		r.timedOut = true
		r.s.explain()
		killTree(append(r.s.procs.live(), main))
		select {
		case <-ended:
		case <-time.After(killed):
			panic("ctrlsim: it does not end after SIGKILL: " + threadStates(main.pid))
		}
		r.endTime = monotonic()
	}
	close(r.ended)

	until := time.Now()
	if linger > 0 && !r.timedOut {
		until = until.Add(linger)
	}
	if until.After(r.deadline) {
		until = r.deadline
	}
	quiet := time.Now() // since when no process that is known lives
	for tick := 500 * time.Microsecond; ; tick = min(2*tick, 20*time.Millisecond) {
		select {
		case <-r.served:
			// The kernel says that nobody has the filter any more. It says so
			// a little before a process has ended.
			for end := time.Now().Add(time.Second); len(r.s.procs.live()) > 0 && time.Now().Before(end); {
				time.Sleep(200 * time.Microsecond)
			}
			return
		case <-time.After(tick):
		}
		live := r.s.procs.live()
		switch {
		case len(live) > 0:
			quiet = time.Now()
		case time.Since(quiet) > unknownGrace:
			return
		}
		if time.Now().Before(until) {
			continue
		}
		for _, p := range live {
			if !slices.Contains(r.leftover, p.pid) {
				r.leftover = append(r.leftover, p.pid)
			}
		}
		killTree(live)
	}
}

// killed is how long a killed process may take to end.
const killed = time.Minute

// threadStates is what the threads of a process are doing, for a message.
func threadStates(pid int) string {
	tids, err := tasks(pid)
	states := fmt.Sprintf("process %d, %v", pid, err)
	for _, tid := range tids {
		for _, name := range []string{"status", "wchan", "syscall", "stack"} {
			b, err := os.ReadFile(procFile(tid, name))
			states += fmt.Sprintf("\n%d %s, %v:\n%s", tid, name, err, b)
		}
	}
	return states
}

// unknownGrace is how long a process may live before it makes its first trapped call,
// by which it becomes known. A new one does nothing else. Without known processes
// that live it is over after that, even if the kernel says that the filter is in
// use: an ended process that has not been reaped has it still.
const unknownGrace = 500 * time.Millisecond

// explain notes what is being waited for.
func (s *supervisor) explain() {
	s.mu.Lock()
	var what []string
	for _, f := range s.files {
		r := f.req
		switch {
		case r == nil:
		case r.done:
			what = append(what, "a request is complete but has not been reaped")
		case r.restart == nil:
			what = append(what, "a checkpoint is not complete")
		default:
			what = append(what, "a restart is not complete")
			for _, p := range r.restart.procs {
				if !p.ready {
					what = append(what, fmt.Sprintf("restarted process %d has %d of %d threads in RSTRT_CHILD",
						p.index+1, len(p.calls), p.threads))
				}
			}
		}
	}
	for tid, t := range s.asked {
		if t.step == stepAsked {
			what = append(what, fmt.Sprintf("thread %d of process %d has not answered a checkpoint request", tid, t.p.pid))
		}
	}
	s.mu.Unlock()
	slices.Sort(what)
	for _, w := range what {
		s.problem("deadline: %s", w)
	}
}

// shutdown stops the supervisor and frees what it has.
func (r *running) shutdown() {
	close(r.s.stop)
	unix.Close(r.stopPipe[1])
	<-r.served
	r.s.close()
	unix.Close(r.stopPipe[0])
}

// Wait waits until the program has ended, kills what it left behind, and says
// what happened. A program that fails is no error; a reached deadline is, with
// a Result beside it.
func (c *Command) Wait() (*Result, error) {
	r := c.run
	if r == nil {
		return nil, errors.New("ctrlsim: not started")
	}
	if r.waited.Swap(true) {
		return nil, errors.New("ctrlsim: Wait was called before")
	}
	// A wait at an earlier time could be told of a stop of a traced program.
	<-r.ended
	err := r.cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = nil
	}
	<-r.watch
	r.shutdown()

	s := r.s
	st := r.cmd.ProcessState.Sys().(syscall.WaitStatus)
	res := &Result{
		ExitCode:   st.ExitStatus(),
		Status:     st,
		Transcript: s.transcript,
		Elapsed:    r.endTime - r.execTime,
		Leftover:   r.leftover,
		Problems:   s.problems,
	}
	if st.Signaled() {
		res.ExitCode, res.Signal = -1, st.Signal()
	}
	for _, f := range []struct {
		at time.Duration
		d  *time.Duration
	}{{s.firstOpen, &res.FirstOpen}, {s.firstIoctl, &res.FirstIoctl}, {s.firstRequest, &res.FirstRequest}} {
		if f.at != 0 {
			*f.d = f.at - r.execTime
		}
	}
	if p := s.plan; p != nil {
		res.Calls, res.FaultHit = p.calls, p.hit
	}
	if r.timedOut {
		err = fmt.Errorf("ctrlsim: %s: %w", c.Path, ErrTimeout)
	}
	return res, err
}

// Pid is the program's process, 0 before Start. It may be signalled until Wait
// has returned.
func (c *Command) Pid() int {
	if c.run == nil {
		return 0
	}
	return c.run.cmd.Process.Pid
}

// Signal sends a signal to the program.
func (c *Command) Signal(sig syscall.Signal) error {
	if c.run == nil {
		return errors.New("ctrlsim: not started")
	}
	return c.run.cmd.Process.Signal(sig)
}

// Transcript is the transcript so far.
func (c *Command) Transcript() []string {
	if c.run == nil {
		return nil
	}
	s := c.run.s
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.transcript)
}

// WaitTranscript waits until a line of the transcript begins with prefix.
func (c *Command) WaitTranscript(prefix string, timeout time.Duration) error {
	if c.run == nil {
		return errors.New("ctrlsim: not started")
	}
	s := c.run.s
	t := time.NewTimer(timeout)
	defer t.Stop()
	for ended := false; ; {
		s.mu.Lock()
		found := slices.ContainsFunc(s.transcript, func(l string) bool { return strings.HasPrefix(l, prefix) })
		grown := s.grown.wait()
		s.mu.Unlock()
		switch {
		case found:
			return nil
		case ended:
			return fmt.Errorf("ctrlsim: the program ended without %q", prefix)
		}
		select {
		case <-grown:
		case <-c.run.ended:
			ended = true
		case <-t.C:
			return fmt.Errorf("ctrlsim: no %q within %v", prefix, timeout)
		}
	}
}
