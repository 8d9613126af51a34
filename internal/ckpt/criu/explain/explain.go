// Package explain turns a failure of CRIU into the error that a command reports:
// an error number, and sentences that say which process, which object, why, and
// what to do.
//
// It gets what CRIU has left: the error lines of its log, its exit status, and
// the pids of the processes. From these, and from what /proc and the machine show
// of the processes after the failure, it makes a *ckpt.Error. It starts nothing,
// changes nothing and decides nothing: a line that it does not know is shown as
// it is.
//
// Failures that have nothing to do with CRIU, such as a full file system, get
// their lines from package hints. What an engine refuses before it starts CRIU
// does not belong here either.
package explain

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/hints"
	"blcr-cli/internal/proc"
	"blcr-cli/internal/show"
)

// Failure is what a CRIU that has failed leaves.
type Failure struct {
	// Status is how it ended, as of wait4(2).
	Status unix.WaitStatus

	// Log is the texts of its error lines in their order: what follows "Error
	// (file:line): " in its log.
	Log []string

	// Tree is the pids of the processes that were to be saved, the root first.
	// Empty for a restore.
	Tree []int

	// Inside says that CRIU ran in the pid namespace of the processes, so that
	// the pids in Log are those of that namespace.
	Inside bool
}

// Dump returns the error for a dump that has failed. The error is ESRCH without
// any Detail where the root process has ended, EBUSY where another process has
// them frozen or traces them, and EIO where nothing else is known.
func Dump(f Failure) *ckpt.Error {
	if len(f.Tree) > 0 && ended(f.Tree[0]) {
		return &ckpt.Error{Op: "checkpoint", Object: "processes", Errno: syscall.ESRCH}
	}
	e := newSituation(f).explain("dump", f)
	unseizable := func(text string) bool { return strings.HasPrefix(text, "Unseizable non-zombie") }
	if e.Errno == syscall.ESRCH || slices.ContainsFunc(f.Log, unseizable) {
		// The processes are there, so another tracer has come first.
		return traced(f.Tree)
	}
	return e
}

// traced is the error for processes that CRIU could not seize.
func traced(tree []int) *ckpt.Error {
	e := &ckpt.Error{Op: "checkpoint", Object: "processes", Errno: syscall.EBUSY}
	for _, pid := range tree {
		if by := hints.Tracer(pid); by != "" {
			e.Detail = []string{fmt.Sprintf("%s is being saved or traced by %s", hints.Process(pid), by)}
			return e
		}
	}
	e.Detail = []string{fmt.Sprintf("process %d, or one below it, is being saved or traced by somebody else", tree[0])}
	return e
}

// Origin is where a context was made. What is not known is empty.
type Origin struct {
	Host    string // the name of the machine
	Kernel  string // the release of its kernel
	Machine string // its architecture, as of uname(2)
}

// Restore returns the error for a restore that has failed, of a context that was
// made there. It is EIO where nothing else is known. A pid that is in use is not
// looked for: see PidInUse.
func Restore(f Failure, made Origin) *ckpt.Error {
	e := newSituation(f).explain("restore", f)
	if line := made.differs(e.Errno); line != "" {
		e.Detail = append(e.Detail, line)
	}
	return e
}

// differs says what is other here than where the context was made, as far as that
// may be the cause; else "".
func (o Origin) differs(errno syscall.Errno) string {
	var host unix.Utsname
	_ = unix.Uname(&host)
	machine := unix.ByteSliceToString(host.Machine[:])
	switch {
	case o.Machine != "" && o.Machine != machine:
		return fmt.Sprintf("the context was made on %s, and this machine is %s: there it has to be restarted", show.Name(o.Machine), machine)
	case errno == syscall.EIO && o.Kernel != "" && o.Kernel != hints.Kernel():
		return fmt.Sprintf("the context was made on %s with Linux %s; this is Linux %s", show.Name(o.Host), show.Name(o.Kernel), hints.Kernel())
	}
	return ""
}

// mostDetail is how many sentences, and how many of CRIU's own lines, are shown.
const mostDetail = 4

// explain makes the error: first sentences, then CRIU's own lines, and last what
// to do.
func (s *situation) explain(op string, f Failure) *ckpt.Error {
	const otherwise = syscall.EIO
	e := &ckpt.Error{Op: op, Object: "criu", Errno: otherwise}
	s.begin(f.Log)
	var sentences, said, todo []string
	add := func(to *[]string, line string) {
		if line != "" && !slices.Contains(*to, line) {
			*to = append(*to, line)
		}
	}
	for _, text := range f.Log {
		if consequence().MatchString(text) {
			continue
		}
		errno := lastErrno(text)
		if fault, ok := fileFault(text); ok {
			errno = fault.errno
			add(&sentences, fault.sentence)
			add(&todo, fault.todo)
		} else {
			sentence, hint := s.match(text)
			add(&sentences, sentence)
			add(&todo, hint)
			add(&said, text)
		}
		if errno != 0 && e.Errno == otherwise {
			e.Errno = errno
		}
	}
	if len(sentences) > 0 {
		said = slices.DeleteFunc(said, func(text string) bool { return followUp().MatchString(text) })
	} else if len(said) == 0 && !f.Status.Signaled() {
		sentences = hints.Processes()
	}
	e.Detail = sentences[:min(len(sentences), mostDetail)]
	for _, text := range said[:min(len(said), mostDetail)] {
		e.Detail = append(e.Detail, "criu: "+show.Text(text))
	}
	e.Detail = append(e.Detail, todo...)
	if f.Status.Signaled() {
		e.Detail = append(e.Detail, fmt.Sprintf("criu was killed by signal %d", int(f.Status.Signal())))
	} else if len(said) == 0 && len(todo) == 0 {
		e.Detail = append(e.Detail, fmt.Sprintf("criu failed with exit status %d and does not say why", f.Status.ExitStatus()))
	}
	return e
}

// ended tells whether a process is not there any more, or is only a zombie.
func ended(pid int) bool {
	p, err := proc.Read(pid)
	return err != nil || p.Dead()
}

// PidInUse finds out from CRIU's log that a restore has failed because a pid is in
// use, and which.
func PidInUse(log []string) (pid int, ok bool) {
	for _, text := range log {
		// "Can't fork for 123: File exists", "Pid 123 do not match expected 124"
		var expected, got int
		if n, _ := fmt.Sscanf(text, "Can't fork for %d: File exists", &pid); n == 1 && strings.HasSuffix(text, "File exists") {
			return pid, true
		}
		if n, _ := fmt.Sscanf(text, "Pid %d do not match expected %d", &got, &expected); n == 2 {
			return expected, true
		}
	}
	return 0, false
}

// pattern is a regular expression that is compiled when it is first needed: only
// failures need it, and every start of a command would have to wait for it.
func pattern(expr string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expr) })
}
