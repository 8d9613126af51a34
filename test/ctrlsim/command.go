package ctrlsim

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"
)

// DefaultTimeout is the deadline of a Command that sets none.
const DefaultTimeout = 2 * time.Minute

// DefaultLinger is how long processes that the program left behind may go on
// after its end.
const DefaultLinger = 100 * time.Millisecond

// ErrTimeout is in the error of Wait when the deadline was reached. The
// program and all of its processes were killed then.
var ErrTimeout = errors.New("deadline reached, processes killed")

// Command is a program that is to run under the simulated control file. It is
// used once. The zero value of every field but Path is fine.
type Command struct {
	Path  string   // a name without a slash is found in PATH
	Args  []string // without the program's name
	Argv0 string   // argv[0]; Path if empty
	Env   []string // as for exec.Cmd: nil means our own
	Dir   string

	// Stdin, Stdout and Stderr are as for exec.Cmd: an *os.File is passed on
	// as it is, nil is /dev/null.
	Stdin          io.Reader
	Stdout, Stderr io.Writer

	// ExtraFiles become descriptors 3, 4...; a nil leaves a gap. The program
	// gets no other descriptor.
	ExtraFiles []*os.File

	// SysProcAttr is for sessions, process groups and terminals.
	SysProcAttr *syscall.SysProcAttr

	Scenario *Scenario // nil is the empty one
	Faults   *Faults   // nil counts nothing

	// OnCall, if not nil, is called for each system call of the program and of
	// what it starts, before it is made, except for those that filter.go lists as
	// untraced. The thread waits meanwhile. It is called by many goroutines.
	OnCall func(SystemCall)

	// Timeout is the deadline for everything together, DefaultTimeout if 0.
	// When it is reached every process is killed.
	Timeout time.Duration

	// Measured leaves openings for reading to the kernel. It is for measuring times: an
	// opening that is handed over takes a tenth of a millisecond, and a Go program makes
	// six at its start. The control file cannot be opened for reading then, and a
	// process that does nothing else is not known as left behind.
	Measured bool

	// Linger is how long processes that outlive the program may go on before
	// they are killed: DefaultLinger if 0, not at all if negative.
	Linger time.Duration

	// TranscriptTo gets every line of the transcript at once, if not nil.
	TranscriptTo io.Writer

	run *running
}

// SystemCall is a system call that is about to be made.
type SystemCall struct {
	Pid, Tid int
	Number   int
	Args     [6]uint64

	stranger func(Stranger)
}

// Stranger makes a request of somebody outside the program, now. When it returns,
// everybody is asked; the thread answers when it has made its call. Of st, When, Op,
// Nth and At are not looked at.
func (c SystemCall) Stranger(st Stranger) { c.stranger(st) }

// Result is what came of a Command.
type Result struct {
	ExitCode int            // -1 if a signal ended the program
	Signal   syscall.Signal // 0 if it exited
	Status   syscall.WaitStatus

	// Transcript has a line for every control operation with its arguments
	// and result, in the order in which they were answered.
	Transcript []string

	// Calls are the counted system calls, if there was a fault plan.
	Calls []Call

	// FaultHit says that the fault plan's call was reached.
	FaultHit bool

	// FirstOpen and FirstIoctl are the times from the program's exec to its
	// first open of the control file and to the first operation on it; 0 if
	// there was none. FirstRequest is the time to the first CHKPT_REQ or
	// RSTRT_REQ.
	FirstOpen, FirstIoctl, FirstRequest time.Duration

	// Elapsed is from the program's exec to its end.
	Elapsed time.Duration

	// Leftover are the processes that outlived the program and Linger and
	// were killed.
	Leftover []int

	// Problems are things that no program should do, such as a restarted
	// process with a wrong number of threads; and, after a timeout, what was
	// being waited for.
	Problems []string
}

// TranscriptText is the transcript as one text.
func (r *Result) TranscriptText() string {
	var b strings.Builder
	for _, l := range r.Transcript {
		b.WriteString(l)
		b.WriteByte('\n')
	}
	return b.String()
}

// Start starts the program. It returns after the program's exec.
func (c *Command) Start() error {
	if c.run != nil {
		return errors.New("ctrlsim: Command used twice")
	}
	return c.start()
}

// Run is Start and Wait.
func (c *Command) Run() (*Result, error) {
	if err := c.Start(); err != nil {
		return nil, err
	}
	return c.Wait()
}

// CallsText is the calls as one text, a line each.
func (r *Result) CallsText() string {
	var b strings.Builder
	for _, k := range r.Calls {
		fmt.Fprintln(&b, k)
	}
	return b.String()
}
