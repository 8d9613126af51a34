//go:build linux && amd64

package ctrlsim

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt/kernel/abi"
)

// The programs that the tests run under the simulator. They print what they
// see; 0 is what they exit with if nothing was unexpected.
var programs = map[string]func(args []string) error{
	"chkpt":   progChkpt,
	"poll":    progPoll,
	"log":     progLog,
	"rstrt":   progRstrt,
	"rstrtfs": progRstrtFS,
	"faults":  progFaults,
	"hang":    progHang,
	"orphan":  progOrphan,
	"eintr":   progEintr,
}

func runProgram(name string, args []string) int {
	prog := programs[name]
	if prog == nil {
		fmt.Println("no such program:", name)
		return 2
	}
	if err := prog(args); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// ctl is an open control file.
type ctl int

func openCtl() (ctl, error) {
	fd, err := unix.Open(abi.ControlFile, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	return ctl(fd), err
}

func connect() (ctl, error) {
	c, err := openCtl()
	if err == nil {
		_, err = c.op(abi.OpVersion, abi.Version)
	}
	return c, err
}

func (c ctl) op(cmd, arg uintptr) (int, error) {
	r, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(c), cmd, arg)
	if errno != 0 {
		return -1, errno
	}
	return int(r), nil
}

func (c ctl) ptr(cmd uintptr, arg unsafe.Pointer) (int, error) {
	r, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(c), cmd, uintptr(arg))
	if errno != 0 {
		return -1, errno
	}
	return int(r), nil
}

func (c ctl) request(a abi.ChkptArgs) error {
	_, err := c.ptr(abi.OpChkptReq, unsafe.Pointer(&a))
	return err
}

// readable waits for the descriptor.
func (c ctl) readable(ms int) (bool, error) {
	fds := []unix.PollFd{{Fd: int32(c), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, ms)
		if err == unix.EINTR {
			continue
		}
		return n == 1 && fds[0].Revents&unix.POLLIN != 0, err
	}
}

func (c ctl) log(cmd uintptr) (string, error) {
	n, err := c.ptr(cmd, unsafe.Pointer(&abi.LogArgs{}))
	if err != nil || n == 0 {
		return "", err
	}
	buf := make([]byte, n)
	if _, err = c.ptr(cmd, unsafe.Pointer(&abi.LogArgs{Len: uint32(n), Buf: &buf[0]})); err != nil {
		return "", err
	}
	return string(buf[:n-1]), nil
}

// finish waits for the request and reaps it.
func (c ctl) finish(logOp, reapOp uintptr) (int, error) {
	if _, err := c.readable(-1); err != nil {
		return 0, err
	}
	text, err := c.log(logOp)
	if err != nil {
		return 0, err
	}
	if text != "" {
		fmt.Print(text)
	}
	r, err := c.op(reapOp, abi.NoArg)
	if err != nil {
		return 0, fmt.Errorf("reap: %w", err)
	}
	return r, nil
}

// chkpt TARGET FILE [SCOPE [SIGNAL [FLAGS]]]; FILE may be fd:N.
func progChkpt(args []string) error {
	num := func(i, or int) int {
		if i >= len(args) {
			return or
		}
		n, _ := strconv.Atoi(args[i])
		return n
	}
	fd := 0
	if s, ok := strings.CutPrefix(args[1], "fd:"); ok {
		fd, _ = strconv.Atoi(s)
	} else {
		var err error
		if fd, err = unix.Open(args[1], unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC|unix.O_CLOEXEC, 0o600); err != nil {
			return err
		}
	}
	c, err := connect()
	if err != nil {
		return err
	}
	err = c.request(abi.ChkptArgs{Target: int32(num(0, 0)), Scope: int32(num(2, abi.ScopeTree)), Fd: int32(fd),
		Signal: int32(num(3, 0)), Flags: uint32(num(4, abi.ChkptAsyncErr))})
	if err != nil {
		return fmt.Errorf("request: %w", err)
	}
	_, err = c.finish(abi.OpChkptLog, abi.OpChkptReap)
	return err
}

// poll TARGET FILE looks at the descriptor at every stage.
func progPoll(args []string) error {
	target, _ := strconv.Atoi(args[0])
	fd, err := unix.Open(args[1], unix.O_WRONLY|unix.O_CREAT, 0o600)
	if err != nil {
		return err
	}
	c, err := connect()
	if err != nil {
		return err
	}
	look := func(when string) { r, err := c.readable(0); fmt.Println(when, r, err) }
	look("connected")
	for range 2 {
		req := abi.ChkptArgs{Target: int32(target), Fd: int32(fd), Flags: abi.ChkptAsyncErr}
		start := time.Now()
		if err := c.request(req); err != nil {
			return err
		}
		look("requested")
		fmt.Println("second", c.request(req))
		_, err := c.op(abi.OpChkptReap, abi.NoArg)
		fmt.Println("early reap", err)
		for n := 0; n == 0; {
			set := new(unix.FdSet)
			set.Set(int(c))
			if n, err = unix.Select(int(c)+1, set, nil, nil, nil); err != nil && err != unix.EINTR {
				return err
			}
		}
		if d := time.Since(start); d < 500*time.Millisecond {
			return fmt.Errorf("complete after %v", d)
		}
		look("complete")
		r, err := c.op(abi.OpChkptReap, abi.NoArg)
		fmt.Println("reap", r, err)
		look("reaped")
		_, err = c.op(abi.OpChkptReap, abi.NoArg)
		fmt.Println("reap", err)
	}
	return nil
}

// log reads the kernel log in all sizes.
func progLog([]string) error {
	c, err := connect()
	if err != nil {
		return err
	}
	_, err = c.log(abi.OpChkptLog)
	fmt.Println("without request:", err)
	if err := c.request(abi.ChkptArgs{Target: 1, Fd: 1, Flags: abi.ChkptAsyncErr}); err != nil {
		return err
	}
	if _, err := c.readable(-1); err != nil {
		return err
	}
	for _, size := range []uint32{0, 1, 5, 100} {
		buf := []byte("------------------------------")
		n, err := c.ptr(abi.OpChkptLog, unsafe.Pointer(&abi.LogArgs{Len: size, Buf: &buf[0]}))
		fmt.Printf("%d %v %q\n", n, err, buf)
	}
	_, err = c.log(abi.OpRstrtLog)
	fmt.Println("as a restart:", err)
	return nil
}

// restartOne is a restart of single-threaded processes by a bare fork, whose
// child makes only raw calls. Fs is the base of %fs in the child.
//
//go:norace
func restartOne(c ctl, a *abi.RstrtArgs, fs uintptr) (int, error) {
	if _, err := c.ptr(abi.OpRstrtReq, unsafe.Pointer(a)); err != nil {
		return 0, fmt.Errorf("request: %w", err)
	}
	for {
		var t abi.ProcsTbl
		n, err := c.ptr(abi.OpRstrtProcs, unsafe.Pointer(&t))
		if err == unix.EINTR {
			continue // the runtime has a handler for SIGCHLD
		}
		if err != nil {
			return 0, fmt.Errorf("procs: %w", err)
		}
		if n == 0 {
			break
		}
		cmd, noArg := abi.OpRstrtChild, abi.NoArg
		pid, _, errno := syscall.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
		if pid == 0 && errno == 0 {
			const archSetFS = 0x1002
			syscall.RawSyscall(unix.SYS_ARCH_PRCTL, archSetFS, fs, 0)
			_, _, errno := syscall.RawSyscall(unix.SYS_IOCTL, uintptr(c), cmd, noArg)
			for {
				syscall.RawSyscall(unix.SYS_EXIT_GROUP, uintptr(errno), 0, 0)
			}
		}
		if errno != 0 {
			return 0, errno
		}
	}
	return c.finish(abi.OpRstrtLog, abi.OpRstrtReap)
}

// rstrt FILE [SIGNAL [FLAGS]]; FILE may be fd:N.
func progRstrt(args []string) error { return restartFile(args, 1<<32) }

// rstrtfs is rstrt with a base of %fs below 4 GiB, as a static Go program has it.
func progRstrtFS(args []string) error { return restartFile(args, 1<<20) }

func restartFile(args []string, fs uintptr) error {
	var src int
	if s, ok := strings.CutPrefix(args[0], "fd:"); ok {
		src, _ = strconv.Atoi(s)
	} else {
		var err error
		if src, err = unix.Open(args[0], unix.O_RDONLY, 0); err != nil { // not close-on-exec
			return err
		}
	}
	sig, flags := 0, abi.RstrtAsyncErr|abi.RstrtRestorePid
	if len(args) > 1 {
		sig, _ = strconv.Atoi(args[1])
	}
	if len(args) > 2 {
		flags, _ = strconv.Atoi(args[2])
	}
	c, err := connect()
	if err != nil {
		return err
	}
	pid, err := restartOne(c, &abi.RstrtArgs{Fd: int32(src), Signal: int32(sig), Flags: uint32(flags)}, fs)
	if err != nil {
		return err
	}
	if pid == 0 {
		fmt.Println("no child")
		return nil
	}
	for {
		var st unix.WaitStatus
		if _, err := unix.Wait4(pid, &st, unix.WALL|unix.WUNTRACED, nil); err == unix.EINTR {
			continue
		} else if err != nil {
			return err
		}
		switch {
		case st.Stopped():
			stat, _ := readStat(pid)
			fmt.Println("stopped", int(st.StopSignal()), stat.comm)
			unix.Kill(pid, unix.SIGCONT)
			continue
		case st.Signaled():
			fmt.Println("signal", int(st.Signal()))
		default:
			fmt.Println("exit", st.ExitStatus())
		}
		return nil
	}
}

// faults DIR does what a checkpoint does to its files.
func progFaults(args []string) error {
	if err := os.Chdir(args[0]); err != nil {
		return err
	}
	tmp, err := os.OpenFile("tmp", os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	fail := func(err error) error { return errors.Join(err, os.Remove("tmp")) }
	c, err := connect()
	if err != nil {
		return fail(err)
	}
	err = c.request(abi.ChkptArgs{Target: int32(os.Getpid()), Fd: int32(tmp.Fd()), Flags: abi.ChkptAsyncErr})
	if err != nil {
		return fail(err)
	}
	if _, err := c.finish(abi.OpChkptLog, abi.OpChkptReap); err != nil {
		return fail(err)
	}
	if err := tmp.Sync(); err != nil {
		return fail(err)
	}
	if err := os.Link("tmp", "old"); err != nil {
		return fail(err)
	}
	if err := os.Rename("tmp", "context"); err != nil {
		return fail(err)
	}
	if err := exec.Command("/bin/sh", "-c", "exec cat </dev/null >hook").Run(); err != nil {
		return err
	}
	fmt.Println("done")
	return nil
}

// hang waits for a checkpoint for ever, with a child that does so, too.
func progHang(args []string) error {
	if len(args) > 0 {
		if err := exec.Command("sleep", "100").Start(); err != nil {
			return err
		}
	}
	c, err := connect()
	if err != nil {
		return err
	}
	if err := c.request(abi.ChkptArgs{Target: int32(os.Getppid()), Fd: 1, Flags: abi.ChkptAsyncErr}); err != nil {
		return err
	}
	_, err = c.readable(-1)
	return err
}

// orphan leaves a process behind.
func progOrphan([]string) error {
	return exec.Command("sleep", "100").Start()
}

// eintr CONTEXT is interrupted while it waits for the next process.
func progEintr(args []string) error {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGUSR1)
	c, err := connect()
	if err != nil {
		return err
	}
	src, err := unix.Open(args[0], unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	if _, err := c.ptr(abi.OpRstrtReq, unsafe.Pointer(&abi.RstrtArgs{Fd: int32(src), Flags: abi.RstrtAsyncErr})); err != nil {
		return err
	}
	runtime.LockOSThread()
	tid := unix.Gettid()
	var t abi.ProcsTbl
	for range 3 {
		n, err := c.ptr(abi.OpRstrtProcs, unsafe.Pointer(&t)) // the process that it asks for never comes
		fmt.Println(n, err)
		time.AfterFunc(30*time.Millisecond, func() { unix.Tgkill(os.Getpid(), tid, unix.SIGUSR1) })
	}
	return nil
}
