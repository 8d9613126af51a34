// Package stream runs one criu and serves it until it has ended: the sockets by
// which it asks for images and its action script asks for answers, its log, and
// the way it is stopped.
//
// It knows neither checkpoints nor restarts, not what is in an image, and no
// context file. Which criu to run belongs to package binary, what its log means
// to package explain.
package stream

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/criu/binary"
	"blcr-cli/internal/ckpt/criu/tempdir"
	"blcr-cli/internal/proc"
	"blcr-cli/internal/signals"
)

// Mode is what criu does with its images.
type Mode int

const (
	Files   Mode = iota // it keeps them in a directory; it is only asked for stages
	Capture             // criu dump --stream: it writes them into pipes
	Serve               // criu restore --stream: it reads them from pipes
)

// Handler answers criu. A function that is nil is not needed in that mode.
type Handler struct {
	// Offer reports whether there is an image of that name, in mode Serve.
	// Offer and Stage are called by one goroutine, in the order in which criu
	// has asked. Nothing else is answered while one of them runs.
	Offer func(name string) bool

	// Memories reports, in mode Capture, whether an image of that name announces that
	// processes are going to write their memory into pipes of criu's. From then on these
	// pipes do not lose their reader if criu is killed, until Close.
	Memories func(name string) bool

	// Image moves one image: out of its pipe in mode Capture, into it in mode
	// Serve. It runs in a goroutine of its own. The pipe is blocking, and is
	// closed when Image returns. An error stops criu.
	Image func(name string, pipe int) error

	// Small, in mode Serve, returns an image that Offer has reported, if it is small
	// and quickly there. Then that is written into the pipe, if it fits, and Image is not
	// called: no other thread has to wake up for it. It is called as Offer is.
	Small func(name string) ([]byte, bool)

	// Memory, in modes Serve and Files, gets the memory of a process as a userfaultfd, and closes
	// it. If it is there, criu is told that pages which are marked as lazy come by that
	// and not by its images. Before the stage PostRestore it has been called for every
	// process that has memory. It is called as Offer and Stage are. The pid is as criu
	// sees it.
	Memory func(pid int32, uffd int)

	// Stage is told that criu waits for an answer. When it is called, Image has
	// been started for every image that criu has named before. The answer may be
	// given later, by any goroutine.
	Stage func(*Stage)

	// Stopped is called by Stop, before criu notices. It must not call methods of Criu.
	Stopped func()
}

// Criu is one criu, before it is started, while it runs and after its end.
type Criu struct {
	mode    Mode
	handler Handler

	// Used by the serving goroutine. Descriptors are -1 where there is none.
	dir      tempdir.Dir // has the socket for images in it until criu has connected
	images   int         // listening
	conn     int         // criu's connection to it
	lazy     int         // listening
	lazyConn int         // criu's connection to it
	scripts  int         // listening
	name     string      // of the socket for action scripts
	callers  []*caller   // scripts that have connected and not said their stage

	callerLimit time.Duration

	moving sync.WaitGroup // calls of Handler.Image
	pipes  keeper
	disown func() // gives up the adoption of orphans; nil before Start

	endLoan func() // ends what Command.Lend has begun; it may be called again

	mu      sync.Mutex
	process *process        // nil before Start
	stages  map[*Stage]bool // reported, and not answered yet
	stopped bool
	named   bool   // criu has named an image
	wake    [2]int // a pipe, readable once criu has ended or Stop was called
	err     error  // the first failure on our side
	done    chan struct{}
}

// New makes the sockets. Close has to be called in any case.
func New(mode Mode, h Handler) (*Criu, error) {
	c := &Criu{
		mode: mode, handler: h, dir: tempdir.None, images: -1, conn: -1, lazy: -1, lazyConn: -1, scripts: -1, callerLimit: callerLimit,
		stages: make(map[*Stage]bool), wake: [2]int{-1, -1}, done: make(chan struct{}), endLoan: func() {},
	}
	err := unix.Pipe2(c.wake[:], unix.O_CLOEXEC|unix.O_NONBLOCK)
	if err != nil {
		err = ckpt.SystemError("pipe", "", err)
	} else if err = c.listenImages(); err == nil {
		c.scripts, c.name, err = listenScripts()
	}
	if err != nil {
		c.release()
		return nil, err
	}
	return c, nil
}

// Start starts criu, and serves it until it has ended. It adds to the arguments
// those for its action script and for streaming, and to its environment where the script
// connects to. Criu gets no configuration, and no environment of this process's.
//
// Until Close this process adopts what criu leaves behind if it is killed; see
// EndOrphans.
func (c *Criu) Start(command Command) error {
	command.Args = append(command.Args, binary.NoConfig, "--action-script", proc.Self())
	if c.mode != Files {
		command.Args = append(command.Args, "--stream", "-D", c.dir.Path)
	}
	if c.handler.Memory != nil {
		command.Args = append(command.Args, "--lazy-pages", "--work-dir", c.dir.Path)
	}
	command.Environment = append(command.Environment, socketVar+"="+c.name)
	if command.Stopped != nil {
		command.Environment = append(command.Environment, stoppedVar+"="+strings.Trim(fmt.Sprint(command.Stopped), "[]"))
	}
	command.writes = c.mode == Files
	c.disown = adoptOrphans()
	var p *process
	var err error
	if command.Lend != nil {
		c.endLoan = sync.OnceFunc(command.Lend(func() { p, err = start(command) }))
	} else {
		p, err = start(command)
	}
	if err != nil {
		close(c.done)
		return err
	}
	c.mu.Lock()
	c.process = p
	c.mu.Unlock()
	go func() {
		<-p.done
		c.rouse()
	}()
	go func() {
		c.serve()
		c.release()
		<-p.done
		close(c.done)
	}()
	return nil
}

// Done is closed when criu has ended and is not served any more, or could not be
// started. Calls of Handler.Image may still run; see AwaitImages.
func (c *Criu) Done() <-chan struct{} { return c.done }

// Status is how criu has ended. It is valid once Done is closed, if Start has
// succeeded.
func (c *Criu) Status() unix.WaitStatus { return c.process.status }

// Errors returns the texts of the error lines in criu's log so far, without
// time, pid and place in its source. Of many it returns the first and the last. There are none
// of a criu that could not be started.
func (c *Criu) Errors() []string {
	if c.process == nil {
		return nil
	}
	return c.process.log.Errors()
}

// AwaitImages returns when every image that criu has named so far has been moved
// by Handler.Image. It may be called while criu waits for the answer to a stage,
// and once Done is closed.
func (c *Criu) AwaitImages() { c.moving.Wait() }

// Stop makes criu fail as soon as it notices that it is no longer served, in mode Files
// as soon as it writes to an image. Every stage without an answer is answered with no.
func (c *Criu) Stop() {
	c.mu.Lock()
	c.stopped = true
	if c.handler.Stopped != nil {
		c.handler.Stopped()
	}
	if c.mode == Files && c.process != nil {
		c.process.forbidFiles()
	}
	for s := range c.stages {
		s.answer(false)
	}
	c.mu.Unlock()
	c.rouse()
}

// Stopped reports whether Stop was called, or there was a failure on our side.
func (c *Criu) Stopped() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stopped
}

// Fail notes err, of several calls the first one's, and stops criu.
func (c *Criu) Fail(err error) {
	c.mu.Lock()
	if c.err == nil {
		c.err = err
	}
	c.mu.Unlock()
	c.Stop()
}

// Failure returns what has gone wrong on our side: the first error of Fail, of
// Handler.Image or of the protocol; nil if it was criu that failed.
func (c *Criu) Failure() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Kill kills criu. A process that it holds at that moment keeps foreign code, and
// dies of it when it runs on.
func (c *Criu) Kill() { c.send(unix.SIGKILL) }

// PID is criu's, as this process sees it. It is valid once Start has succeeded.
func (c *Criu) PID() int { return c.process.pid }

// Named reports whether criu has named an image. A dump stops all processes before it
// names the first, and puts code of its own into them afterwards.
func (c *Criu) Named() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.named
}

// send sends criu a signal, if it runs.
func (c *Criu) send(sig syscall.Signal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.process == nil {
		return
	}
	select {
	case <-c.process.done:
	default:
		_ = unix.Kill(c.process.target, sig)
	}
}

// EndOrphans kills and reaps what a criu that has ended has left to this process:
// criu's own processes, such as those that it makes to find out what the kernel
// can do and that may wait for it for ever, and those that are known.
func (c *Criu) EndOrphans(known func(pid int) bool) {
	for again := true; again; {
		again = false
		children, _ := proc.Children(os.Getpid())
		for _, pid := range children {
			if known(pid) || binary.Runs(pid) {
				_ = unix.Kill(pid, unix.SIGKILL)
				_, _ = signals.Wait(pid)
				again = true
			}
		}
	}
}

// Close gives everything back. A criu that was started must have ended.
func (c *Criu) Close() {
	c.release()
	c.pipes.release()
	if c.process != nil && c.ended() {
		c.process.log.release()
	}
	if c.disown != nil {
		c.disown()
		c.disown = nil
	}
}

// rouse wakes the serving goroutine up.
func (c *Criu) rouse() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.wake[1] >= 0 {
		_, _ = unix.Write(c.wake[1], []byte{0})
	}
}

// release closes all descriptors and removes the directory. Scripts that wait
// for an answer take that for a no.
func (c *Criu) release() {
	c.endLoan()
	c.removeDir()
	c.mu.Lock()
	defer c.mu.Unlock()
	for s := range c.stages {
		s.answer(false)
	}
	for _, script := range c.callers {
		unix.Close(script.fd)
	}
	c.callers = nil
	for _, fd := range []*int{&c.images, &c.scripts, &c.conn, &c.lazy, &c.lazyConn, &c.wake[0], &c.wake[1]} {
		if *fd >= 0 {
			unix.Close(*fd)
			*fd = -1
		}
	}
}

// removeDir removes the directory with the socket in it.
func (c *Criu) removeDir() {
	if c.dir.Path != "" {
		if c.mode != Files {
			_ = unix.Unlink(filepath.Join(c.dir.Path, socketNames[c.mode]))
		}
		_ = unix.Unlink(filepath.Join(c.dir.Path, lazySocket))
	}
	c.dir.Remove()
}

// serve answers criu until it has ended or Stop was called. One goroutine serves
// images and scripts, so that what criu has said before it runs its action
// script is known when that asks.
func (c *Criu) serve() {
	for !c.Stopped() {
		// poll ignores a descriptor of -1.
		listener := c.scripts
		if len(c.callers) >= mostCallers {
			listener = -1
		}
		fds := []unix.PollFd{
			{Fd: int32(c.wake[0]), Events: unix.POLLIN},
			{Fd: int32(c.conn), Events: unix.POLLIN},
			{Fd: int32(c.images), Events: unix.POLLIN},
			{Fd: int32(c.lazyConn), Events: unix.POLLIN},
			{Fd: int32(c.lazy), Events: unix.POLLIN},
			{Fd: int32(listener), Events: unix.POLLIN},
		}
		own := len(fds)
		for _, script := range c.callers {
			fds = append(fds, unix.PollFd{Fd: int32(script.fd), Events: unix.POLLIN})
		}
		if _, err := unix.Poll(fds, c.pollLimit()); err == unix.EINTR {
			continue
		} else if err != nil {
			c.Fail(ckpt.SystemError("poll", "", err))
			return
		}
		switch {
		case fds[1].Revents != 0: // before the scripts, which come after it
			c.message(&c.conn, c.request)
		case fds[2].Revents != 0:
			c.accept(&c.images, &c.conn)
		case fds[3].Revents != 0:
			c.message(&c.lazyConn, c.memoryOf)
		case fds[4].Revents != 0:
			c.accept(&c.lazy, &c.lazyConn)
		case fds[5].Revents != 0:
			c.acceptScript()
		case fds[0].Revents != 0 && c.ended():
			return
		default:
			c.hearScripts(fds[own:])
		}
	}
}

// acceptOn takes a connection, non-blocking. It returns -1 if there is none after
// all, or if that failed for good, which stops criu.
func (c *Criu) acceptOn(listener int) int {
	fd, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
	switch err {
	case nil:
		return fd
	case unix.EAGAIN, unix.EINTR, unix.ECONNABORTED:
	default:
		c.Fail(ckpt.SystemError("accept", "criu", err))
	}
	return -1
}

// ended reports whether criu has ended.
func (c *Criu) ended() bool {
	select {
	case <-c.process.done:
		return true
	default:
		return false
	}
}
