package criu

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/criu/stream"
	"blcr-cli/internal/hints"
	"blcr-cli/internal/proc"
)

// With --no-restore-pid a job gets new pids, so that several copies of one
// context can run. Programs and their libraries remember pids in places that
// nobody can find, so the job keeps its old ones for itself, in a pid namespace
// of its own; outside of it has new ones.
//
// Such a namespace needs an init. It is no child of cr_restart, whose only child
// is the job, and it lives as long as anything in its namespace.

// roleVar tells this program, started once more, that it is to be one of these.
const roleVar = "_BLCR_CLI_ROLE"

const (
	roleLauncher = "launcher" // makes the init and ends, so that it is nobody's child
	roleInit     = "init"
)

// lifeline is the descriptor that an init reads from: the job's pid in the
// namespace once it runs. An end without it means that nothing has come of it.
// On its standard output it says that it is ready.
const lifeline = 3

// IsHelper tells whether this process was started by this package, to be a part
// of a request. Then all that the program has to do is to exit with the status
// that Helper returns.
func IsHelper() bool { return stream.IsScript() || os.Getenv(roleVar) != "" }

// Helper does what this process was started for.
func Helper() (status int) {
	if stream.IsScript() {
		return stream.Script()
	}
	switch os.Getenv(roleVar) {
	case roleLauncher:
		return launch()
	case roleInit:
		return initProcess()
	}
	return 1
}

// launch starts an init and prints its pid, or what is wrong.
func launch() int {
	pid, err := syscall.ForkExec("/proc/self/exe", []string{"cr_restart-init"}, &syscall.ProcAttr{
		Env:   []string{roleVar + "=" + roleInit},
		Files: []uintptr{0, 1, 2, lifeline},
		// Signals to cr_restart's group are for the job, which ends with its init.
		Sys: &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS, Setsid: true},
	})
	if err != nil {
		fmt.Printf("error %d\n", int(errnoOf(err)))
		return 1
	}
	fmt.Printf("pid %d\n", pid)
	return 0
}

// initProcess is process 1 of a new pid namespace.
func initProcess() int {
	runtime.LockOSThread()
	if name, err := unix.BytePtrFromString("cr_restart-init"); err == nil {
		_ = unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(name)), 0, 0, 0)
	}
	// What is mounted outside later on is to be seen in here, but not the other
	// way round.
	err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, "")
	if err == nil {
		err = unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	}
	if err != nil {
		fmt.Printf("error %d\n", int(errnoOf(err)))
		return 1
	}
	fmt.Printf("ready\n")
	// Nobody waits for more, and who waited may be gone.
	null, err := unix.Open("/dev/null", unix.O_RDWR, 0)
	if err == nil {
		for fd := range 3 {
			_ = unix.Dup3(null, fd, 0)
		}
		unix.Close(null)
	}
	_ = unix.Chdir("/")

	life := os.NewFile(lifeline, "lifeline")
	line, _ := io.ReadAll(io.LimitReader(life, 16))
	life.Close()
	job := numbers(string(line))
	if len(job) != 1 {
		// The kernel ends the whole namespace with us.
		return 1
	}
	await(job[0])
	for {
		// What the job leaves behind comes to us.
		if _, err := unix.Wait4(-1, nil, unix.WALL, nil); err != nil && err != unix.EINTR {
			return 0
		}
	}
}

// await returns when that process, no child of ours, has ended; its children
// meanwhile are waited for.
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

// cell is a pid namespace with an init and nothing else.
type cell struct {
	init     int // as seen from here
	lifeline int // its writing end
}

// newCell makes one. The errors are those of clone(2) and mount(2); EPERM is for
// users without the privilege.
func newCell() (*cell, error) {
	var life, out [2]int
	if err := unix.Pipe2(life[:], unix.O_CLOEXEC); err != nil {
		return nil, sysError("pipe", "", err)
	}
	if err := unix.Pipe2(out[:], unix.O_CLOEXEC); err != nil {
		unix.Close(life[0])
		unix.Close(life[1])
		return nil, sysError("pipe", "", err)
	}
	launcher, err := syscall.ForkExec(proc.Self(), []string{"cr_restart"}, &syscall.ProcAttr{
		Env:   []string{roleVar + "=" + roleLauncher},
		Files: []uintptr{0, uintptr(out[1]), 2, uintptr(life[0])},
	})
	unix.Close(life[0])
	unix.Close(out[1])
	c := &cell{lifeline: life[1]}
	var said string
	if err == nil {
		_, _ = unix.Wait4(launcher, nil, unix.WALL, nil)
		said = c.hear(out[0])
	}
	unix.Close(out[0])
	var errno int
	switch {
	case err != nil:
	case c.init != 0 && said == "":
		return c, nil
	case said != "":
		fmt.Sscanf(said, "error %d", &errno)
		err = syscall.Errno(errno)
	default:
		err = syscall.EIO
	}
	c.end()
	return nil, &ckpt.Error{Op: "make", Object: "pid namespace", Errno: errnoOf(err),
		Detail: append([]string{"new pids need a pid namespace, and that could not be made: " + ckpt.Strerror(errnoOf(err))}, namespaceHints(errnoOf(err))...)}
}

// hear reads what launcher and init have to say: the pid and "ready", in either
// order, or an error, which it returns.
func (c *cell) hear(fd int) (failure string) {
	var text []byte
	for {
		b := make([]byte, 256)
		n, err := unix.Read(fd, b)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return "error 5"
		}
		text = append(text, b[:n]...)
		ready := false
		for line := range strings.Lines(string(text)) {
			switch {
			case strings.HasPrefix(line, "error "):
				return line
			case line == "ready\n":
				ready = true
			default:
				fmt.Sscanf(line, "pid %d\n", &c.init)
			}
		}
		if ready && c.init != 0 {
			return ""
		}
	}
}

// run tells the init that the job with that pid, the one in there, runs: it now
// lives as long as the job does.
func (c *cell) run(job int) {
	_, _ = unix.Write(c.lifeline, []byte(itoa(job)+"\n"))
	unix.Close(c.lifeline)
	c.lifeline = -1
}

// end ends everything in there, if it does not run yet.
func (c *cell) end() {
	if c.lifeline >= 0 {
		unix.Close(c.lifeline)
		c.lifeline = -1
	}
}

// outer returns our number of the process that has the given one in there, 0
// if there is none.
func (c *cell) outer(inner int) int {
	theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", c.init))
	if err != nil {
		return 0
	}
	children, _ := proc.OwnChildren()
	for _, pid := range children {
		ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid))
		if err != nil || ns != theirs {
			continue
		}
		if pids, err := proc.InnerPids(pid); err == nil && pids[len(pids)-1] == inner {
			return pid
		}
	}
	return 0
}

// namespaceHints is what to do where no pid namespace can be made.
func namespaceHints(errno syscall.Errno) []string {
	switch errno {
	case unix.EPERM:
		return []string{"to make one takes the capability CAP_SYS_ADMIN: run cr_restart as root, or with the old pids"}
	case unix.ENOSPC, unix.EUSERS:
		return []string{"there are as many as there may be: see sysctl user.max_pid_namespaces"}
	}
	return hints.Limits(errno)
}
