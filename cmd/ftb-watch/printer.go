package main

import (
	"sync/atomic"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/cli"
)

// printer prints lines on stdout, by a goroutine of its own: if this process did not
// receive while its output is not read, the agent would wait for it, and all other
// clients for the agent.
type printer struct {
	con   *cli.Console
	lines chan string
	done  chan struct{} // closed when everything is printed, or cannot be
	err   atomic.Pointer[error]
	lost  int // lines that there was no room for
}

// mostLines is how many lines wait at most.
const mostLines = 10000

func newPrinter(con *cli.Console) *printer {
	p := &printer{con: con, lines: make(chan string, mostLines), done: make(chan struct{})}
	go func() {
		defer close(p.done)
		for line := range p.lines {
			if p.failed() == nil {
				if err := con.Print(line); err != nil {
					p.err.Store(&err)
				}
			}
		}
	}()
	return p
}

func (p *printer) print(line string) {
	select {
	case p.lines <- line:
	default:
		p.lost++
	}
}

// failed returns why nothing can be printed any more, or nil.
func (p *printer) failed() error {
	if err := p.err.Load(); err != nil {
		return *err
	}
	return nil
}

// unread returns an error if stdout is a pipe that has no reader any more.
func (p *printer) unread() error {
	if err := p.failed(); err != nil {
		return err
	}
	fd, ok := p.con.Stdout.(cli.FD)
	if !ok {
		return nil
	}
	state := []unix.PollFd{{Fd: int32(fd)}}
	if n, err := unix.Poll(state, 0); err == nil && n > 0 && state[0].Revents&unix.POLLERR != 0 {
		return &cli.OutputError{Err: unix.EPIPE}
	}
	return nil
}
