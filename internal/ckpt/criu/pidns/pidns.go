// Package pidns makes pid namespaces for jobs that are restarted with new pids
// (cr_restart --no-restore-pid), so that several copies of one context can run.
//
// Programs and libraries keep pids in places that cannot be found. So the job keeps
// its old pids in a pid namespace of its own, and has new ones outside of it. Such
// a namespace needs an init. It is not a child of cr_restart, whose only child is
// the job, and it lives as long as the job and what that leaves behind.
//
// Into which namespaces CRIU has to go to save such a job again belongs to package
// pstree.
package pidns

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/hints"
	"blcr-cli/internal/proc"
	"blcr-cli/internal/reexec"
	"blcr-cli/internal/signals"
)

// The inner roles.
const (
	roleLauncher = "pidns-launcher" // makes the init and ends, so that the init is an orphan
	roleInit     = "pidns-init"
)

// keepalive is the descriptor that the init reads from: the job's pid in the
// namespace once it runs. An end without it means that the restart has failed. On
// its standard output the init says that it is ready.
const keepalive = 3

func init() {
	// A signal to the whole process group is not for these.
	reexec.Register(reexec.Role{Name: roleLauncher, Numbers: 1, Run: func(numbers []int, _ []string) int {
		signals.KeepIgnored()
		return launchInit(numbers)
	}})
	reexec.Register(reexec.Role{Name: roleInit, Numbers: 1, Run: func(numbers []int, _ []string) int {
		signals.KeepIgnored()
		return initProcess(numbers[0])
	}})
}

// launchInit starts an init and prints its pid, or what is wrong.
func launchInit(numbers []int) int {
	pid, err := reexec.Start(roleInit, numbers, nil, reexec.Attr{
		Files:      []uintptr{0, 1, 2, keepalive},
		Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS,
		// Signals to cr_restart's group are for the job, which ends with its init.
		Setsid: true,
	})
	if err != nil {
		fmt.Printf("error %d\n", int(ckpt.ErrnoOf(err)))
		return 1
	}
	fmt.Printf("pid %d\n", pid)
	return 0
}

// initProcess is process 1 of a new pid namespace, in which the next process gets the
// first number after last.
func initProcess(last int) int {
	runtime.LockOSThread()
	if name, err := unix.BytePtrFromString("cr_restart-init"); err == nil {
		_ = unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(name)), 0, 0, 0)
	}
	var err error
	if last > 0 {
		// The threads of the Go runtime have the lowest numbers, until another program is
		// executed.
		proc.SetLastPid(last)
		err = reexec.Exec(roleInit, []int{0})
	}
	// What is mounted outside later on is to be seen in here, but not the other
	// way round.
	if err == nil {
		err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, "")
	}
	if err == nil {
		err = unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	}
	if err != nil {
		fmt.Printf("error %d\n", int(ckpt.ErrnoOf(err)))
		return 1
	}
	fmt.Printf("ready\n")
	// Nothing more is expected on these, and the reader may be gone.
	null, err := unix.Open("/dev/null", unix.O_RDWR, 0)
	if err == nil {
		for fd := range 3 {
			_ = unix.Dup3(null, fd, 0)
		}
		unix.Close(null)
	}
	_ = unix.Chdir("/")

	life := os.NewFile(keepalive, "keepalive")
	line, _ := io.ReadAll(io.LimitReader(life, 16))
	life.Close()
	var job int
	if n, _ := fmt.Sscan(string(line), &job); n != 1 {
		// The kernel ends the whole namespace with us.
		return 1
	}
	await(job)
	for {
		// The job's orphans are our children.
		if _, err := unix.Wait4(-1, nil, unix.WALL, nil); err != nil && err != unix.EINTR {
			return 0
		}
	}
}

// await returns when a process that is not our child has ended. Orphans that end
// meanwhile are reaped.
func await(pid int) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	for {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		// Now and then for the orphans that have ended by then.
		n, err := unix.Poll(fds, 1000)
		if n > 0 || err != nil && err != unix.EINTR {
			return
		}
		for {
			if pid, err := unix.Wait4(-1, nil, unix.WALL|unix.WNOHANG, nil); err != nil || pid <= 0 {
				break
			}
		}
	}
}

// Namespace is a pid namespace, and a mount namespace with the /proc of that, which
// has only an init so far.
type Namespace struct {
	Init      int // the init's pid, as seen from here
	keepalive int // the writing end; -1 once closed

	// Of a user's: see user.go.
	criu    int // the waiter's pid, which is criu's later; 0 for none
	control int // the socket to it; -1 for none
	started bool
}

// New makes a namespace. In there the next processes get the numbers after last, or, for
// 0, the lowest that are free. For a user its clocks are ahead of this machine's by
// monotonic and boottime, rounded up to seconds. The error is a *ckpt.Error with an errno of clone(2) or
// mount(2): EPERM for users without the privilege, who need a user namespace for it.
func New(last int, monotonic, boottime time.Duration) (*Namespace, error) {
	var life, out [2]int
	if err := unix.Pipe2(life[:], unix.O_CLOEXEC); err != nil {
		return nil, ckpt.SystemError("pipe", "", err)
	}
	if err := unix.Pipe2(out[:], unix.O_CLOEXEC); err != nil {
		unix.Close(life[0])
		unix.Close(life[1])
		return nil, ckpt.SystemError("pipe", "", err)
	}
	n := &Namespace{keepalive: life[1], control: -1}
	files := []uintptr{0, uintptr(out[1]), 2, uintptr(life[0])}
	user := !proc.Capable(unix.CAP_SYS_ADMIN)
	var launcher int
	var err error
	if user {
		var ends [2]int
		if ends, err = unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err == nil {
			n.control = ends[0]
			launcher, err = startLauncher([]int{last, ceil(monotonic), ceil(boottime)}, append(files, uintptr(ends[1])))
			unix.Close(ends[1])
		}
	} else {
		launcher, err = reexec.Start(roleLauncher, []int{last}, nil, reexec.Attr{Files: files})
	}
	unix.Close(life[0])
	unix.Close(out[1])
	var said string
	if err == nil {
		_, _ = unix.Wait4(launcher, nil, unix.WALL, nil)
		said = n.hear(out[0])
	}
	unix.Close(out[0])
	var errno int
	switch {
	case err != nil:
	case n.Init != 0 && said == "":
		return n, nil
	case said != "":
		fmt.Sscanf(said, "error %d", &errno)
		err = syscall.Errno(errno)
	default:
		err = syscall.EIO
	}
	n.End()
	hints := hintsFor
	if user {
		hints = userHints
	}
	return nil, &ckpt.Error{Op: "make", Object: "pid namespace", Errno: ckpt.ErrnoOf(err),
		Detail: append([]string{"new pids need a pid namespace, and that could not be made: " + ckpt.Strerror(ckpt.ErrnoOf(err))}, hints(ckpt.ErrnoOf(err))...)}
}

// hear reads what launcher and init print: the pid and "ready", in either order,
// or an error, which it returns.
func (n *Namespace) hear(fd int) (failure string) {
	var text []byte
	for {
		b := make([]byte, 256)
		count, err := unix.Read(fd, b)
		if err == unix.EINTR {
			continue
		}
		if err != nil || count == 0 {
			return "error 5"
		}
		text = append(text, b[:count]...)
		ready := false
		for line := range strings.Lines(string(text)) {
			switch {
			case strings.HasPrefix(line, "error "):
				return line
			case line == "ready\n":
				ready = true
			default:
				fmt.Sscanf(line, "pid %d\n", &n.Init)
				fmt.Sscanf(line, "criu %d\n", &n.criu)
			}
		}
		if ready && n.Init != 0 {
			return ""
		}
	}
}

// Run tells the init that the job runs, which has that pid in the namespace. The
// init then lives as long as the job.
func (n *Namespace) Run(job int) {
	n.endWaiter()
	_, _ = unix.Write(n.keepalive, []byte(strconv.Itoa(job)+"\n"))
	unix.Close(n.keepalive)
	n.keepalive = -1
}

// End ends the namespace, unless the job runs. It may be called more than once.
func (n *Namespace) End() {
	defer n.endWaiter()
	if n.keepalive >= 0 {
		unix.Close(n.keepalive)
		n.keepalive = -1
	}
}

// Outer returns the pid, as seen from here, of the child of this process that has
// the pid inner in the namespace; 0 if there is none.
func (n *Namespace) Outer(inner int) int {
	inside, err := proc.Namespace(n.Init, "pid")
	if err != nil {
		return 0
	}
	children, _ := proc.Children(os.Getpid())
	for _, pid := range children {
		ns, err := proc.Namespace(pid, "pid")
		if err != nil || ns != inside {
			continue
		}
		if number, err := proc.InnerPid(pid); err == nil && number == inner {
			return pid
		}
	}
	return 0
}

// hintsFor is what to do where no pid namespace can be made.
func hintsFor(errno syscall.Errno) []string {
	switch errno {
	case unix.EPERM:
		return []string{"to make one takes the capability CAP_SYS_ADMIN: run cr_restart as root, or with the old pids"}
	case unix.ENOSPC, unix.EUSERS:
		return []string{"there are as many as there may be: see sysctl user.max_pid_namespaces"}
	}
	return hints.Limits(errno)
}
