package stream

import (
	"os"
	"runtime"
	"slices"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/criu/binary"
	"blcr-cli/internal/forkexec"
	"blcr-cli/internal/proc"
	"blcr-cli/internal/signals"
	"blcr-cli/internal/thread"
)

// Command is how to start a criu.
type Command struct {
	Path string
	Args []string // without the name of the program

	// Environment is criu's whole environment; Start adds to it.
	Environment []string

	// Lend, if not nil, calls start, which starts criu, and lends it something until end is
	// called: when criu has asked for an image, has reported a stage, or is given up.
	Lend func(start func()) (end func())

	// Inherit has the descriptors that criu gets as 3, 4, …; they stay the
	// caller's.
	Inherit []int

	// Enter moves the calling thread, and the processes that it will make, into
	// other namespaces; nil for those of this process.
	Enter func() error

	// Fork starts criu in other namespaces; nil for a fork of this process's. It starts a
	// child of the calling thread, in the session of this process.
	Fork func(path string, args []string, attr *syscall.ProcAttr) (pid int, err error)

	// InSession has criu run in the session and process group of this process,
	// for what it restores to inherit them. Otherwise it gets a session of its
	// own.
	InSession bool

	// Personality has bits that are added to the personality of criu, see
	// personality(2), for what it restores to inherit them.
	Personality uint32

	// Stopped, if not nil, has the processes, as criu sees them, that are to be stopped
	// when criu has let go of them. If this process ends before it has answered the stage
	// PostResume, the action script continues all others that are stopped: this process
	// may have stopped them until then.
	Stopped []int

	// writes says that criu writes files itself.
	writes bool
}

// queryPersonality is the argument of personality(2) that changes nothing.
const queryPersonality = 0xffffffff

// process is a criu that has been started.
type process struct {
	pid    int
	target int // of kill(2): the process, or its process group if that is its own

	log  log
	done chan struct{} // closed when it has ended

	// Valid once done is closed.
	status unix.WaitStatus
}

// groupSignals are sent to a whole process group, or by a batch system to every process of a
// job, of which criu is one. Criu ignores them. It gives the processes that it restores the
// dispositions that they had.
var groupSignals = []syscall.Signal{
	unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU,
}

// start starts criu. Its standard input is that of this process, by which it
// finds the terminal of a job. The calling thread becomes the parent of criu, and
// of what that restores; it has to outlive both, unless criu enters other
// namespaces.
//
// A signal that is meant for this process, such as a Ctrl-C, must not reach criu
// or its action script: if criu is killed at the wrong moment, its parasite stays
// in a process. If this process ends, criu fails soon for want of its sockets.
func start(command Command) (*process, error) {
	path, args := command.Path, append([]string{"criu"}, command.Args...)
	ignored := groupSignals
	if command.writes && !command.InSession {
		// It gets an error, and no signal that ends it, for a file that becomes too
		// large; see forbidFiles.
		ignored = append(slices.Clone(ignored), unix.SIGXFSZ)
	}
	p := &process{done: make(chan struct{})}
	out, err := p.log.open()
	if err != nil {
		return nil, ckpt.SystemError("pipe", "", err)
	}
	files := []uintptr{0, uintptr(out), uintptr(out)}
	for _, fd := range command.Inherit {
		// ForkExec needs free numbers above the highest of these, which a number
		// close to the limit does not leave.
		if low, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3); err == nil && low < fd {
			defer unix.Close(low)
			fd = low
		} else if err == nil {
			unix.Close(low)
		}
		files = append(files, uintptr(fd))
	}
	fork := func() error {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		mask, err := signals.BlockAll(unix.SIGCHLD, unix.SIGALRM)
		if err != nil {
			return err
		}
		defer signals.RestoreMask(mask)
		if command.Enter != nil {
			if err := command.Enter(); err != nil {
				return err
			}
		}
		if command.Personality != 0 {
			before, _, errno := unix.RawSyscall(unix.SYS_PERSONALITY, queryPersonality, 0, 0)
			if errno == 0 {
				_, _, _ = unix.RawSyscall(unix.SYS_PERSONALITY, before|uintptr(command.Personality), 0, 0)
				defer unix.RawSyscall(unix.SYS_PERSONALITY, before, 0, 0)
			}
		}
		if command.Fork != nil {
			path, args = forkexec.Ignoring(path, args, ignored)
			p.pid, err = command.Fork(path, args, &syscall.ProcAttr{Env: command.Environment, Files: files})
		} else {
			p.pid, err = forkexec.Start(path, args, &forkexec.Attr{Env: command.Environment, Files: files, Setsid: !command.InSession, Ignored: ignored, Vfork: true})
		}
		return err
	}
	if command.Enter == nil {
		err = fork()
	} else {
		// A thread that has entered other namespaces is of no use for anything
		// else. It must not end, either: for the kernel it is the parent of what
		// it has started, which may have asked for a signal at its parent's end.
		forked := make(chan error)
		go thread.Run(func() {
			forked <- fork()
			select {}
		})
		err = <-forked
	}
	unix.Close(out)
	if err != nil {
		p.log.close()
		return nil, ckpt.SystemError("exec", path, err)
	}
	// Criu needs descriptors beyond all that a job has; it restores the job's own
	// limit.
	var limit unix.Rlimit
	if unix.Prlimit(p.pid, unix.RLIMIT_NOFILE, nil, &limit) == nil && limit.Cur < limit.Max {
		limit.Cur = limit.Max
		_ = unix.Prlimit(p.pid, unix.RLIMIT_NOFILE, &limit, nil)
	}
	binary.NoCoreFiles(p.pid)
	p.target = p.pid
	if !command.InSession {
		p.target = -p.pid
		// If it is killed while it is at work in a process, that dies, too. This process is
		// to be killed before any other, so that a job that runs on does not die for the
		// memory of its checkpoint, as in a control group of both.
		_ = proc.SetOOMScoreAdj(p.pid, -1000)
		_ = proc.SetOOMScoreAdj(os.Getpid(), 1000)
	}
	go p.log.follow()
	go func() {
		var err error
		if p.status, err = signals.Wait(p.pid); err != nil {
			// Only if something else in this process has reaped it.
			p.status = 0xff00
		}
		p.log.finish()
		close(p.done)
	}()
	return p, nil
}

// forbidFiles has every further write of criu's to a file fail, which otherwise would
// take as long as the images are large.
func (p *process) forbidFiles() {
	var limit unix.Rlimit
	if unix.Prlimit(p.pid, unix.RLIMIT_FSIZE, nil, &limit) == nil {
		limit.Cur = 0
		_ = unix.Prlimit(p.pid, unix.RLIMIT_FSIZE, &limit, nil)
	}
}

// adoptOrphans makes this process the parent of its descendants' orphans, and
// returns what restores the state before.
func adoptOrphans() (undo func()) {
	var before int32
	_ = unix.Prctl(unix.PR_GET_CHILD_SUBREAPER, uintptr(unsafe.Pointer(&before)), 0, 0, 0)
	_ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
	return func() { _ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, uintptr(before), 0, 0, 0) }
}
