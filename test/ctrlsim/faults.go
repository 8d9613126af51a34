package ctrlsim

import (
	"fmt"
	"syscall"
)

// Faults numbers the program's system calls and, if At names one, makes it
// fail. The package comment says what is counted.
type Faults struct {
	// Count are the names of the calls that count; nil is DefaultCount.
	Count []string

	// At is the call to fail; the zero value fails none.
	At Point

	// Errno is what the call fails with; it is not executed.
	Errno syscall.Errno

	// Kill kills the process with SIGKILL instead of starting the call.
	Kill bool
}

// Point names one counted call, from 1. With Proc 0, N counts the calls of all
// processes in the order of their arrival; else those of the Proc-th process.
type Point struct{ Proc, N int }

// String is "N" or "PROC.N".
func (p Point) String() string {
	if p.Proc == 0 {
		return fmt.Sprint(p.N)
	}
	return fmt.Sprintf("%d.%d", p.Proc, p.N)
}

// ParsePoint reads "N" or "PROC.N".
func ParsePoint(s string) (Point, error) {
	var p Point
	if n, err := fmt.Sscanf(s+"$", "%d.%d$", &p.Proc, &p.N); err != nil || n != 2 {
		p = Point{}
		if n, err := fmt.Sscanf(s+"$", "%d$", &p.N); err != nil || n != 1 {
			return p, fmt.Errorf("%q is neither N nor PROC.N", s)
		}
	} else if p.Proc < 1 {
		return p, fmt.Errorf("processes are counted from 1")
	}
	if p.N < 1 {
		return p, fmt.Errorf("calls are counted from 1")
	}
	return p, nil
}

// Call is a counted system call.
type Call struct {
	N      int    // number among all
	Proc   int    // which process, from 1
	Index  int    // number within the process
	Name   string // of the system call, such as "newfstatat"
	Detail string // path, descriptor, operation; no pids and no addresses
	Fault  bool   // this is the one that failed
}

// String is "N PROC.INDEX NAME DETAIL".
func (c Call) String() string {
	s := fmt.Sprintf("%d %d.%d %s", c.N, c.Proc, c.Index, c.Name)
	if c.Detail != "" {
		s += " " + c.Detail
	}
	if c.Fault {
		s += " [fault]"
	}
	return s
}

// DefaultCount are the calls that count unless Faults.Count says otherwise.
// Names stand for families: "open" is open, openat, openat2 and creat. The name of
// a single system call is good, too. Besides these there are "close", "execve" and
// "pipe".
var DefaultCount = []string{
	"open", "stat", "access", "write", "link", "rename", "unlink", "fsync",
	"truncate", "ioctl", "poll", "select", "fork", "wait", "dup", "fcntl", "flock",
}
