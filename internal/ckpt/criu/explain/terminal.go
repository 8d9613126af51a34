package explain

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/proc"
)

// currentTerminal is what /dev/tty is called: a file that is the terminal of whoever opens it.
const currentTerminal = "/dev/tty"

// openTerminal is a terminal that a process of the tree has open.
type openTerminal struct {
	pid, fd int
	current bool // by the name /dev/tty
	sid     int  // the session that it controls, as CRIU sees it; 0 for none
	leads   bool // the leader of that session is in the foreground there
}

// currentTerminals returns, by process, what CRIU says of those that have /dev/tty open. It
// saves that if the session is in the foreground itself, and if the process is the first one
// that has the session's terminal open by another name, the other end of a pseudo terminal
// included.
func currentTerminals(tree []int) map[int]string {
	var files []openTerminal
	first := make(map[int]int) // processes, by sessions
	some := false
	for _, pid := range tree {
		p, err := proc.Read(pid)
		if err != nil {
			continue
		}
		for d, err := range proc.Descriptors(pid) {
			if err != nil {
				break
			}
			f, ok := terminal(p, d)
			if !ok || saved(files, f) {
				continue
			}
			files = append(files, f)
			some = some || f.current
			if !f.current && (f.leads || f.sid == 0) && first[f.sid] == 0 {
				first[f.sid] = pid
			}
		}
	}
	if !some {
		return nil
	}
	lines := make(map[int]string)
	for _, f := range files {
		switch other := first[f.sid]; {
		case !f.current || other == f.pid:
		case other == 0:
			lines[f.pid] = fmt.Sprintf("tty: ctty inheritance detected sid/pgrp %d, no PTY peer with sid/pgrp needed", f.sid)
		default:
			lines[f.pid] = fmt.Sprintf("tty: ctty inheritance detected sid/pgrp %d (ctty pid_real %d pty pid_real %d)", f.sid, f.pid, other)
		}
	}
	return lines
}

// saved reports whether an open file is among those that a process before has open as well:
// CRIU saves it with that one.
func saved(files []openTerminal, f openTerminal) bool {
	for _, before := range files {
		if before.current == f.current && proc.SameFile(before.pid, before.fd, f.pid, f.fd) {
			return true
		}
	}
	return false
}

// terminal looks at a descriptor; ok is false for what is no terminal.
func terminal(p *proc.Process, d proc.Descriptor) (f openTerminal, ok bool) {
	f = openTerminal{pid: p.Pid, fd: d.FD, current: d.Link == currentTerminal}
	switch {
	case d.Master():
		f.sid, f.leads = controlled(p.Pid, d.FD)
		return f, true
	case f.current && p.Terminal != 0:
		f.sid = p.Sid
		return f, true
	case f.current:
		return f, true
	case !strings.HasPrefix(d.Link, "/dev/pts/"):
		return f, false
	}
	// Only the terminal of its own session tells a process of that.
	var st unix.Stat_t
	if unix.Stat(proc.Open(p.Pid, d.FD), &st) == nil && p.Terminal != 0 && st.Rdev == p.Terminal {
		f.sid, f.leads = p.Sid, p.Foreground == p.Sid
	}
	return f, true
}

// controlled returns the session that the other end of a master controls, and whether its
// leader is in the foreground. The process is not touched: the file is opened here for a moment.
func controlled(pid, fd int) (sid int, leads bool) {
	ours, err := proc.CopyDescriptor(pid, fd)
	if err != nil {
		return 0, false
	}
	defer unix.Close(ours)
	sid, err = unix.IoctlGetInt(ours, unix.TIOCGSID)
	if err != nil {
		return 0, false
	}
	group, err := unix.IoctlGetInt(ours, unix.TIOCGPGRP)
	return sid, err == nil && group == sid
}

// currentTerminal names who has /dev/tty open that CRIU does not save.
func (s *situation) currentTerminal(m []string) string {
	sid := s.ours(m[1])
	if m[2] != "" {
		s.pid = s.ours(m[2])
	} else {
		for _, pid := range s.Tree {
			there := *s
			there.pid = pid
			p, err := proc.Read(pid)
			if there.openAs(currentTerminal) != "" && err == nil && (p.Sid == sid || sid == 0) {
				s.pid = pid
				break
			}
		}
	}
	return s.process() + " has its terminal open by the name " + currentTerminal + s.openAs(currentTerminal) + ", which criu saves only for the leader of a session that is in the foreground, and not together with what has the other end"
}
