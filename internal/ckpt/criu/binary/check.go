package binary

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt/criu/explain"
	"blcr-cli/internal/proc"
	"blcr-cli/internal/show"
)

// limit is how long a criu may take to answer. It takes a tenth of a second.
var limit = 20 * time.Second

// answer is what a criu says of itself.
type answer struct {
	usable  bool
	version string // may be ""
	why     string // it is not usable: one printable line

	noBreakpoints bool // see [Binary]

	kerndat string // see [Binary]
}

// Unprivileged reports whether criu needs its option --unprivileged: for anybody but root
// it refuses to work without, whatever capabilities it has, and for root in a container
// it does without what takes more than CAP_CHECKPOINT_RESTORE.
func Unprivileged() bool {
	return unix.Geteuid() != 0 || !proc.Capable(unix.CAP_SYS_ADMIN) || !proc.Capable(unix.CAP_NET_ADMIN) || !proc.Capable(unix.CAP_SYS_CHROOT)
}

// check runs the criu at name twice, for "check", with that XDG_RUNTIME_DIR, and for its
// version. The error says that it gave no answer: it could not be started, or did not end
// by itself.
func check(name, runtimeDir string) (answer, error) {
	// It opens a directory of images in any case. Its own choice is the working directory, which
	// the user may not read where the caller is another one, as with sudo(8).
	args := []string{"check", NoConfig, "-D", "/"}
	if Unprivileged() {
		args = append(args, "--unprivileged")
	}
	out, err := run(name, runtimeDir, args...)
	var exit *exec.ExitError
	switch {
	case err == nil:
	case errors.As(err, &exit) && exit.Exited():
		if !onlyLastPid(out) {
			return answer{why: telling(out)}, nil
		}
	default:
		return answer{}, err
	}
	a := answer{usable: true}
	if out, err = run(name, "", "--version"); err == nil {
		a.version = version(out)
	}
	// From then on criu finds out by itself.
	a.noBreakpoints = newer("4.2", a.version) && !breakpointsWork(name)
	return a, nil
}

// run runs the command, with that XDG_RUNTIME_DIR, for at most limit and returns the end of
// what it wrote.
func run(name, runtimeDir string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	var out tail
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.Env = environment(runtimeDir)
	// A group of its own, so that what it has started ends with it.
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	// A child that left the group must not hold us up by the pipe that it has. What criu
	// has written must have been read by then, also on a busy machine.
	cmd.WaitDelay = limit / 2
	err := cmd.Start()
	if err == nil {
		NoCoreFiles(cmd.Process.Pid)
		// What is left of the group, such as a stopped process of a criu that was killed, ends
		// while the group's number cannot be another's.
		for unix.Waitid(unix.P_PID, cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
		}
		_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
		err = cmd.Wait()
	}
	switch {
	case err == nil:
	case ctx.Err() != nil:
		err = fmt.Errorf("%s: no answer after %v", args[0], limit)
	case errors.Is(err, exec.ErrWaitDelay):
		err = nil // it ended well
	}
	return out.String(), err
}

// onlyLastPid reports whether a check has failed because the pid of the next process cannot
// be set in /proc/sys, which containers mount read-only, and for nothing else, and criu
// does not need it, because clone3(2) sets pids. It is hidden from containers by some
// filters of system calls.
func onlyLastPid(out string) (only bool) {
	for line := range strings.Lines(out) {
		switch {
		case strings.Contains(line, "ns_last_pid sysctl is inaccessible: Read-only file system"):
			only = true
		case strings.Contains(line, "Error (") && !strings.Contains(line, "Unable to create tun") && !strings.Contains(line, "RLIMIT_NOFILE"):
			return false
		}
	}
	return only && clone3SetsPids()
}

// clone3SetsPids reports whether there is clone3(2) with pids that are chosen, since Linux
// 5.5.
func clone3SetsPids() bool {
	args := [10]uint64{9: 1} // a size of set_tid without set_tid; older ones do not know that field: E2BIG
	_, _, errno := unix.RawSyscall(unix.SYS_CLONE3, uintptr(unsafe.Pointer(&args)), unsafe.Sizeof(args), 0)
	return errno == unix.EINVAL
}

// version finds it in what "criu --version" writes.
func version(out string) string {
	for line := range strings.Lines(out) {
		if v, ok := strings.CutPrefix(line, "Version:"); ok {
			return excerpt(strings.TrimSpace(v))
		}
	}
	return ""
}

// telling is the line of a failed check's output that says most: one that can be
// explained, for others follow from it, or the last error, or else the last line.
func telling(out string) string {
	last, lastError := "", ""
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		last = line
		if _, _, ok := explain.Check(line); ok {
			return excerpt(line)
		}
		switch {
		case strings.Contains(line, "needs to have the CAP_"):
			// The line after it tells how to give it that.
			lastError = strings.TrimSuffix(line, ":")
		case strings.Contains(line, "RLIMIT_NOFILE"):
			// Where that limit cannot be raised, every run says so.
		case strings.Contains(line, "Error"):
			lastError = line
		}
	}
	switch {
	case lastError != "":
		return excerpt(lastError)
	case last != "":
		return excerpt(last)
	}
	return "it does not say why"
}

// excerpt returns no more than a few hundred characters of s, for a terminal.
func excerpt(s string) string {
	const most = 300
	if runes := []rune(s); len(runes) > most {
		s = string(runes[:most]) + "..."
	}
	return show.Text(s)
}

// tail keeps the end of what is written to it.
type tail []byte

// tailSize bounds the memory that a criu that writes without end can take.
const tailSize = 64 << 10

func (t *tail) Write(p []byte) (int, error) {
	*t = append(*t, p...)
	if len(*t) > 2*tailSize {
		*t = append((*t)[:0], (*t)[len(*t)-tailSize:]...)
	}
	return len(p), nil
}

func (t *tail) String() string { return string(*t) }
