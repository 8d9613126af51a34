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
// To teach it another line of CRIU's, add a rule to dumpRules (dump.go) or
// restoreRules (restore.go), and the line to the table in its test. A line that only
// follows from another one is a consequence (rules.go).
//
// Failures that have nothing to do with CRIU, such as a full file system, get
// their lines from package hints. What an engine refuses before it starts CRIU
// does not belong here either.
package explain

import (
	"fmt"
	"slices"
	"strings"
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

	// Needs returns what a restore needs of the file system. It is called only
	// where Log does not say what is missing, and may be nil.
	Needs func() Needs
}

// Needs is files that a restore needs, by the names under which CRIU opens them.
type Needs struct {
	Directories []string // in which processes are
	Mapped      []string // in the memory of processes, the programs among them
}

// Dump returns the error for a dump that has failed. Its number is ESRCH, without
// any Detail, where the root process has ended; EBUSY where the processes cannot
// be stopped, and where it may be over later; EOPNOTSUPP where they have what CRIU
// cannot save; what CRIU says for a failed system call; and EIO where nothing is
// known.
func Dump(f Failure) *ckpt.Error {
	if len(f.Tree) > 0 && proc.Ended(f.Tree[0]) {
		return &ckpt.Error{Op: "checkpoint", Object: "processes", Errno: syscall.ESRCH}
	}
	s := newSituation(f)
	e := s.explain("dump", dumpRules)
	unseizable := func(text string) bool { return strings.HasPrefix(text, "Unseizable non-zombie") }
	if len(f.Tree) > 0 && (e.Errno == syscall.ESRCH || slices.ContainsFunc(f.Log, unseizable)) {
		return s.unseizable()
	}
	return e
}

// unseizable is the error for processes that are there but that CRIU could not
// stop.
func (s *situation) unseizable() *ckpt.Error {
	e := &ckpt.Error{Op: "checkpoint", Object: "processes", Errno: syscall.EBUSY}
	for _, pid := range s.Tree {
		if by := hints.Tracer(pid); by != "" {
			e.Detail = []string{fmt.Sprintf("%s is being saved or traced by %s", s.name(pid), by)}
			return e
		}
		if group, ok := proc.Frozen(pid); ok {
			e.Detail = []string{
				fmt.Sprintf("%s is frozen by its control group %s, as by 'docker pause' or 'systemctl freeze'", s.name(pid), show.Name(group.Name)),
				"thaw it, and save it then",
			}
			return e
		}
	}
	for _, pid := range s.Tree {
		if s.facts(pid).state == 'D' { // see TASK_UNINTERRUPTIBLE in proc(5)
			e.Detail = []string{
				fmt.Sprintf("%s waits in a system call that nothing can interrupt, as vfork(2) until the child runs another program, or a read from a file server that does not answer", s.name(pid)),
				tryAgainHint,
			}
			return e
		}
	}
	e.Detail = []string{fmt.Sprintf("%s, or one below it, is being saved or traced by another process, or could not be stopped in time", s.name(s.Tree[0])), tryAgainHint}
	return e
}

// Origin is where a context was made. What is not known is empty.
type Origin struct {
	Host    string // the name of the machine
	Kernel  string // the release of its kernel
	Machine string // its architecture, as of uname(2)
}

// Restore returns the error for a restore that has failed, of a context that was
// made there. Its number is ESTALE where a file is not the one that was saved,
// EBUSY or EADDRINUSE where something is in use that the job needs, what CRIU says
// for a failed system call, and EIO where nothing is known. The caller asks
// PidInUse first.
func Restore(f Failure, made Origin) *ckpt.Error {
	e := newSituation(f).explain("restore", restoreRules)
	if line := made.differs(e.Errno); line != "" {
		e.Detail = append(e.Detail, line)
	}
	return e
}

// OtherMachine says that this machine is of another architecture; "" if it is not, or
// that is not known.
func (o Origin) OtherMachine() string {
	var host unix.Utsname
	_ = unix.Uname(&host)
	machine := unix.ByteSliceToString(host.Machine[:])
	if o.Machine == "" || o.Machine == machine {
		return ""
	}
	return fmt.Sprintf("the context was made on %s, and this machine is %s: there it has to be restarted", show.Name(o.Machine), machine)
}

// differs says what is other here than where the context was made, as far as that
// may be the cause; else "".
func (o Origin) differs(errno syscall.Errno) string {
	if line := o.OtherMachine(); line != "" {
		return line
	}
	if errno == syscall.EIO && o.Kernel != "" && o.Kernel != hints.Kernel() {
		return fmt.Sprintf("the context was made on %s with Linux %s; this is Linux %s", show.Name(o.Host), show.Name(o.Kernel), hints.Kernel())
	}
	return ""
}

const (
	mostDetail = 4       // how many sentences, lines of CRIU's and hints are shown, each
	longest    = 8 << 10 // how many bytes of one; a name may have 4 KiB
)

// explain makes the error: first sentences, then CRIU's own lines, and last what
// to do.
func (s *situation) explain(op string, rules []rule) *ckpt.Error {
	var sentences, said, todo []string
	add := func(to *[]string, line string) {
		if line = show.Text(line); len(line) > longest {
			line = strings.ToValidUTF8(line[:longest], "") + "…"
		}
		if line != "" && !slices.Contains(*to, line) {
			*to = append(*to, line)
		}
	}
	var known, other syscall.Errno // the first that a sentence explains, and that of a line
	for i, text := range s.Log {
		if consequence.compiled().MatchString(text) {
			continue
		}
		errno, sentence, hint := fileFault(s.Log[i:])
		if sentence == "" {
			errno, sentence, hint = s.match(rules, text)
			add(&said, strings.ReplaceAll(text, "\t", ""))
		}
		add(&sentences, sentence)
		add(&todo, hint)
		if sentence != "" && known == 0 {
			known = errno
		}
		if other == 0 {
			other = lastErrno(text)
		}
	}
	if len(sentences) > 0 {
		said = slices.DeleteFunc(said, func(text string) bool { return followUp.compiled().MatchString(text) })
	} else if len(said) == 0 && !s.Status.Signaled() {
		sentences = hints.Processes()
		if slices.ContainsFunc(s.Log, killedLine.compiled().MatchString) {
			add(&sentences, "a process that criu had made was killed")
			add(&todo, killedHint)
		}
	}
	e := &ckpt.Error{Op: op, Object: "criu", Errno: syscall.EIO}
	switch {
	case known != 0:
		e.Errno = known
	case other != 0:
		e.Errno = other
	}
	e.Detail = sentences[:min(len(sentences), mostDetail)]
	for _, text := range said[:min(len(said), mostDetail)] {
		e.Detail = append(e.Detail, fromCriu+text)
	}
	e.Detail = append(e.Detail, todo[:min(len(todo), mostDetail)]...)
	if s.Status.Signaled() {
		e.Detail = append(e.Detail, fmt.Sprintf("criu was killed by signal %d", int(s.Status.Signal())))
	} else if len(said) == 0 && len(todo) == 0 {
		e.Detail = append(e.Detail, fmt.Sprintf("criu failed with exit status %d and does not say why", s.Status.ExitStatus()))
	}
	return e
}

// TerminalInUse finds out from CRIU's log that a restore has failed because a pseudo terminal's
// number is in use, and which.
func TerminalInUse(log []string) (number uint32, ok bool) {
	for _, text := range log {
		if _, after, found := strings.Cut(text, terminalInUse); found {
			if n, _ := fmt.Sscan(after, &number); n == 1 {
				return number, true
			}
		}
	}
	return 0, false
}

const terminalInUse = "with specified index"

// ConnectionInUse reports whether a restore has failed because the kernel still has a connection
// with the same addresses as one of the job's. An address that the machine does not have would
// have kept CRIU from bind(2), before connect(2).
func ConnectionInUse(log []string) bool {
	return slices.ContainsFunc(log, func(text string) bool {
		return strings.Contains(text, "connect inet socket back: "+ckpt.Strerror(syscall.EADDRNOTAVAIL))
	})
}

// Halted reports whether a restore has failed because the job's first process got SIGSTOP or,
// which stops it for CRIU by a trap, SIGCONT.
func Halted(log []string) bool {
	return slices.ContainsFunc(log, func(text string) bool {
		return strings.Contains(text, " stopped by signal 19: ") || strings.Contains(text, " stopped by signal 5: ") || strings.HasPrefix(text, "Task stopped with 19: ")
	})
}

// PidInUse finds out from CRIU's log that a restore has failed because a pid is in
// use, and which: 0 for the number of a thread, which CRIU does not tell.
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
		if text == "Unable to create a thread: -17" {
			return 0, true
		}
	}
	return 0, false
}
