package pidns

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/hints"
	"blcr-cli/internal/proc"
	"blcr-cli/internal/reexec"
	"blcr-cli/internal/signals"
)

// An ordinary user makes a pid namespace in a user namespace, in which the user and the
// group are the only ones. A process with threads, such as each of ours, cannot enter one
// that exists. So what is going to be CRIU is started with the init, and waits:
//
//	cr_restart
//	├─ launcher    makes the namespaces and what is below, and ends
//	│  └─ init     an orphan from then on
//	└─ waiter      started by the launcher as a child of cr_restart: it executes CRIU

// The inner roles.
const (
	roleUser   = "pidns-user"
	roleWaiter = "pidns-waiter"
)

// control is the descriptor by which launcher and waiter have the socket to this process.
const control = 4

func init() {
	if reexec.In(roleUser) {
		// For makeClocks: now this is the first thread.
		runtime.LockOSThread()
	}
	reexec.Register(reexec.Role{Name: roleUser, Numbers: 3, Run: func(numbers []int, _ []string) int {
		signals.KeepIgnored()
		if err := launchForUser(numbers); err != nil {
			fmt.Printf("error %d\n", int(ckpt.ErrnoOf(err)))
			return 1
		}
		return 0
	}})
	reexec.Register(reexec.Role{Name: roleWaiter, Run: func([]int, []string) int {
		signals.KeepIgnored()
		return waiter()
	}})
}

// startLauncher starts the launcher for a user: in new namespaces of users and of mounts,
// with the capabilities in there that it takes to make the others.
func startLauncher(numbers []int, files []uintptr) (pid int, err error) {
	return reexec.Start(roleUser, numbers, nil, reexec.Attr{
		Files: files, Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS,
		UserIDs:     &[2]int{os.Geteuid(), os.Getegid()},
		AmbientCaps: []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_SYS_TIME, unix.CAP_CHECKPOINT_RESTORE},
	})
}

// launchForUser starts an init and a waiter, and prints their pids.
func launchForUser(numbers []int) error {
	unix.CloseOnExec(control) // the init must not have it
	if err := makeClocks(numbers[1], numbers[2]); err != nil {
		return err
	}
	if err := unix.Unshare(unix.CLONE_NEWPID); err != nil {
		return err
	}
	var said [2]int
	if err := unix.Pipe2(said[:], unix.O_CLOEXEC); err != nil {
		return err
	}
	init, err := reexec.Start(roleInit, numbers[:1], nil, reexec.Attr{Files: []uintptr{0, uintptr(said[1]), 2, keepalive}, Setsid: true})
	unix.Close(said[1])
	if err != nil {
		return err
	}
	n := &Namespace{Init: init}
	if failure := n.hear(said[0]); failure != "" {
		var errno int
		fmt.Sscanf(failure, "error %d", &errno)
		return syscall.Errno(errno)
	}
	waiter, err := reexec.Start(roleWaiter, nil, nil, reexec.Attr{Files: []uintptr{0, 2, 2, 2, control}, Cloneflags: unix.CLONE_PARENT})
	if err != nil {
		return err
	}
	fmt.Printf("criu %d\npid %d\nready\n", waiter, init)
	return nil
}

// makeClocks makes a time namespace for the processes that this one will start, whose
// clocks are ahead by so many seconds; none if neither is.
func makeClocks(monotonic, boottime int) error {
	if monotonic <= 0 && boottime <= 0 {
		return nil
	}
	if err := unix.Unshare(unix.CLONE_NEWTIME); err != nil {
		return err
	}
	return proc.SetClocks(monotonic, boottime)
}

// ceil rounds up to seconds.
func ceil(d time.Duration) int { return int(math.Ceil(d.Seconds())) }

// mostRights is how many descriptors a message has at most (SCM_MAX_FD is 253).
const mostRights = 250

// waiter gets descriptors until the end of the messages: a file with a program's path,
// arguments and environment, and then what the program has from 0 on. It executes that.
// If it cannot it answers with the error's number.
func waiter() int {
	runtime.LockOSThread()
	var files []int
	for {
		var b [1]byte
		rights := make([]byte, unix.CmsgSpace(4*mostRights))
		n, size, _, _, err := unix.Recvmsg(control, b[:], rights, unix.MSG_CMSG_CLOEXEC)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			break
		}
		messages, _ := unix.ParseSocketControlMessage(rights[:size])
		for _, m := range messages {
			fds, _ := unix.ParseUnixRights(&m)
			files = append(files, fds...)
		}
	}
	if len(files) == 0 {
		return 1 // it is not needed
	}
	err := execute(files[0], files[1:])
	_, _ = unix.Write(control, []byte(strconv.Itoa(int(ckpt.ErrnoOf(err)))))
	return 1
}

// execute executes the program that a file describes, with these descriptors from 0 on.
func execute(description int, files []int) error {
	unix.CloseOnExec(control)
	var st unix.Stat_t
	if err := unix.Fstat(description, &st); err != nil {
		return err
	}
	text := make([]byte, st.Size)
	if _, err := unix.Pread(description, text, 0); err != nil {
		return err
	}
	parts := bytes.Split(text, []byte("\n\x00"))
	if len(parts) != 4 {
		return unix.EINVAL
	}
	above := control + len(files)
	var err error
	for i, fd := range files {
		if files[i], err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, above); err != nil {
			return err
		}
	}
	answer, err := unix.FcntlInt(control, unix.F_DUPFD_CLOEXEC, above)
	if err != nil {
		return err
	}
	for to, fd := range files {
		if err := unix.Dup3(fd, to, 0); err != nil {
			return err
		}
	}
	if len(files) <= control {
		defer unix.Close(answer)
	} else {
		defer unix.Dup3(answer, control, unix.O_CLOEXEC)
	}
	// Criu has what its file gives it.
	_ = unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
	if personality, err := strconv.ParseUint(string(parts[0]), 10, 32); err == nil {
		_, _, _ = unix.RawSyscall(unix.SYS_PERSONALITY, uintptr(personality), 0, 0)
	}
	// As package stream starts a criu.
	if _, err := signals.BlockAll(unix.SIGCHLD, unix.SIGALRM); err != nil {
		return err
	}
	return syscall.Exec(string(parts[1]), strings.Split(string(parts[2]), "\x00"), strings.Split(string(parts[3]), "\x00"))
}

// ForUser reports whether the namespace is in a user namespace, and Start has to start
// what is to run in it.
func (n *Namespace) ForUser() bool { return n.criu != 0 }

// Start starts a program in the namespace, as a child of the thread that has made it. It
// may be called once. Of attr it uses Env and Files, and the program gets the calling
// thread's personality.
func (n *Namespace) Start(path string, args []string, attr *syscall.ProcAttr) (pid int, err error) {
	description, err := unix.MemfdCreate("criu", unix.MFD_CLOEXEC)
	if err != nil {
		return 0, err
	}
	defer unix.Close(description)
	personality, _, _ := unix.RawSyscall(unix.SYS_PERSONALITY, 0xffffffff, 0, 0)
	text := strings.Join([]string{strconv.Itoa(int(personality)), path, strings.Join(args, "\x00"), strings.Join(attr.Env, "\x00")}, "\n\x00")
	if _, err := unix.Write(description, []byte(text)); err != nil {
		return 0, err
	}
	files := []int{description}
	for _, fd := range attr.Files {
		files = append(files, int(fd))
	}
	for len(files) > 0 {
		some := files[:min(len(files), mostRights)]
		if err := unix.Sendmsg(n.control, []byte{0}, unix.UnixRights(some...), nil, unix.MSG_NOSIGNAL); err != nil {
			return 0, err
		}
		files = files[len(some):]
	}
	if err := unix.Shutdown(n.control, unix.SHUT_WR); err != nil {
		return 0, err
	}
	var answer [16]byte
	count := 0
	for {
		if count, err = unix.Read(n.control, answer[:]); err != unix.EINTR {
			break
		}
	}
	if err != nil {
		return 0, err
	}
	if errno, err := strconv.Atoi(string(answer[:count])); err == nil {
		return 0, syscall.Errno(errno)
	}
	n.started = true
	return n.criu, nil
}

// endWaiter ends what Start has not made a program of.
func (n *Namespace) endWaiter() {
	if n.control >= 0 {
		unix.Close(n.control)
		n.control = -1
	}
	if n.criu != 0 && !n.started {
		_, _ = signals.Wait(n.criu)
		n.started = true
	}
}

// userHints is what to do where a user cannot make the namespaces.
func userHints(errno syscall.Errno) []string {
	const otherwise = "; or restart with the old pids, or as root"
	is := func(name, value string) bool {
		numbers := proc.Numbers("/proc/sys/" + strings.ReplaceAll(name, ".", "/"))
		return len(numbers) == 1 && strconv.FormatUint(numbers[0], 10) == value
	}
	denied := errno == unix.EPERM || errno == unix.EACCES
	// Of user namespaces this is the limit of old kernels, too.
	many := errno == unix.ENOSPC || errno == unix.EUSERS
	for _, c := range []struct {
		applies              bool
		name, forbids, allow string
	}{
		{denied, "kernel.unprivileged_userns_clone", "0", "1"}, // of Debian
		{denied, "kernel.apparmor_restrict_unprivileged_userns", "1", "0"},
		{many || denied, "user.max_user_namespaces", "0", "10000"},
		{many, "user.max_pid_namespaces", "0", "10000"},
		{many, "user.max_mnt_namespaces", "0", "10000"},
		{many, "user.max_time_namespaces", "0", "10000"},
	} {
		if c.applies && is(c.name, c.forbids) {
			return []string{fmt.Sprintf("%s is %s here: an administrator allows users to make such namespaces by 'sysctl %s=%s'", c.name, c.forbids, c.name, c.allow) + otherwise}
		}
	}
	switch {
	case denied:
		return []string{"a user needs a user namespace for that, which something forbids, as a container or a chroot does: 'unshare --user --pid --fork --mount-proc true' fails as well" + otherwise}
	case many:
		return []string{"there are as many as there may be: see the limits of 'sysctl -a -r user.max_.*_namespaces'" + otherwise}
	case errno == unix.EINVAL:
		return []string{"this Linux lacks namespaces of users, pids or time" + otherwise}
	}
	return hints.Limits(errno)
}
