package forkexec

import (
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt/kernel/selfckpt"
	"blcr-cli/internal/entry"
	"blcr-cli/internal/signals"
)

// call is a system call of the child. The assembly reads it by offset.
type call struct {
	nr     uintptr    // 0
	args   [4]uintptr // 8
	result uintptr    // 40: how its result is checked
}

// Values of call.result.
const (
	mustSucceed = iota // an error is reported to the parent, and ends the child
	mayFail
	mustEqual // the child ends unless the result is args[0]
)

// child is the child's data. The assembly reads it by offset.
type child struct {
	calls *call   // 0: the last one is execve
	pipe  uintptr // 8: the pipe to which an errno is written, 8 bytes
	stack uintptr // 16: end of its stack
	flags uintptr // 24: of clone, besides SIGCHLD
}

// fork creates the child and returns its pid, or a negative errno. Precondition:
// every signal is blocked for the calling thread.
//
//go:noescape
func fork(c *child) int

// Start starts the program at path and returns its pid. The first element of argv is
// its name. The program gets the calling thread's signal mask, the default action for
// every signal that is ignored neither here nor by attr, and the limit of open files that this program
// was started with. Its parent is the calling thread. An error is an errno: of pipe,
// fcntl or fork, or of a system call of the child, including exec.
func Start(path string, argv []string, attr *Attr) (pid int, err error) {
	plan, err := newPlan(path, argv, attr)
	if err != nil {
		return 0, err
	}
	defer plan.close()
	var status [2]int
	if err := unix.Pipe2(status[:], unix.O_CLOEXEC); err != nil {
		return 0, err
	}
	defer unix.Close(status[0])
	pid, err = plan.fork(status[1])
	unix.Close(status[1])
	if err == nil && attr.Forked != nil {
		if err = attr.Forked(pid); err == nil {
			_, err = unix.Write(plan.gate[1], []byte{0})
		}
		if err != nil {
			_ = unix.Kill(pid, unix.SIGKILL)
			_, _ = signals.Wait(pid)
		}
	}
	plan.close()
	if err != nil {
		return 0, err
	}
	var errno uint64
	for {
		n, err := unix.Read(status[0], unsafe.Slice((*byte)(unsafe.Pointer(&errno)), unsafe.Sizeof(errno)))
		switch {
		case err == unix.EINTR:
			continue
		case err != nil || n != int(unsafe.Sizeof(errno)):
			return pid, nil // closed by exec
		}
		break
	}
	for {
		if _, err := unix.Wait4(pid, nil, 0, nil); err != unix.EINTR {
			return 0, syscall.Errno(errno)
		}
	}
}

// plan is the system calls of a child, with everything that they point to.
type plan struct {
	calls []call
	path  *byte
	argv  []*byte
	env   []*byte
	limit unix.Rlimit
	mask  unix.Sigset_t

	flags uintptr // of clone(2), besides SIGCHLD

	gate [2]int // a pipe, in which there is a byte when Attr.Forked has returned
	read byte   // which goes here

	files []uintptr // Attr.Files, without conflicts
	own   []int     // descriptors that plan has opened
}

// The kernel's struct sigaction, for SIG_IGN and SIG_DFL. The handler comes first.
var (
	ignore    = [4]uint64{1}
	byDefault [4]uint64
)

const sigsetSize = 8

// newPlan prepares everything that the child does. The child cannot run Go code.
//
// It is not inlined: the calls have pointers into the plan that the runtime does not
// know, so the plan must not be on a stack that can move.
//
//go:noinline
func newPlan(path string, argv []string, attr *Attr) (p *plan, err error) {
	p = &plan{}
	if attr.Vfork {
		p.flags = unix.CLONE_VM | unix.CLONE_VFORK
	}
	if p.path, err = syscall.BytePtrFromString(path); err != nil {
		return nil, err
	}
	if p.argv, err = syscall.SlicePtrFromStrings(argv); err != nil {
		return nil, err
	}
	if p.env, err = syscall.SlicePtrFromStrings(attr.Env); err != nil {
		return nil, err
	}
	if err := p.resolve(attr.Files); err != nil {
		p.close()
		return nil, err
	}
	if !attr.Answers {
		// As early as possible: a request that was sent while the handler was in place
		// is discarded, and does not arrive after exec has removed the handler.
		p.add(mustSucceed, unix.SYS_RT_SIGACTION, 64, uintptr(unsafe.Pointer(&ignore)), 0, sigsetSize)
	}
	for _, sig := range attr.Ignored {
		p.add(mustSucceed, unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&ignore)), 0, sigsetSize)
	}
	if attr.Setsid {
		p.add(mustSucceed, unix.SYS_SETSID)
	}
	if attr.Pdeathsig != 0 {
		p.add(mustSucceed, unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(attr.Pdeathsig))
	}
	if attr.Forked != nil {
		if err := unix.Pipe2(p.gate[:], unix.O_CLOEXEC); err != nil {
			p.close()
			return nil, err
		}
		p.own = append(p.own, p.gate[0], p.gate[1])
		p.add(mayFail, unix.SYS_CLOSE, uintptr(p.gate[1]))
		p.add(mayFail, unix.SYS_READ, uintptr(p.gate[0]), uintptr(unsafe.Pointer(&p.read)), 1)
	}
	if attr.Pdeathsig != 0 || attr.Forked != nil {
		// The parent may already have ended.
		p.add(mustEqual, unix.SYS_GETPPID, uintptr(unix.Getpid()))
	}
	for to, from := range p.files {
		switch from {
		case ^uintptr(0):
			p.add(mayFail, unix.SYS_CLOSE, uintptr(to))
		case uintptr(to):
			p.add(mustSucceed, unix.SYS_FCNTL, from, unix.F_SETFD, 0)
		default:
			p.add(mustSucceed, unix.SYS_DUP3, from, uintptr(to), 0)
		}
	}
	for fd := len(p.files); fd < 3; fd++ {
		p.add(mayFail, unix.SYS_CLOSE, uintptr(fd))
	}
	if soft := entry.OpenFiles(); soft != 0 && unix.Getrlimit(unix.RLIMIT_NOFILE, &p.limit) == nil && p.limit.Cur != soft {
		p.limit.Cur = soft
		p.add(mayFail, unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NOFILE, uintptr(unsafe.Pointer(&p.limit)), 0)
	}
	p.add(mustSucceed, unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&p.mask)), 0, sigsetSize)
	if attr.Answers {
		p.add(mustSucceed, unix.SYS_RT_SIGACTION, 64, uintptr(unsafe.Pointer(&ignore)), 0, sigsetSize)
	} else {
		p.add(mustSucceed, unix.SYS_RT_SIGACTION, 64, uintptr(unsafe.Pointer(&byDefault)), 0, sigsetSize)
	}
	p.add(mustSucceed, unix.SYS_EXECVE, uintptr(unsafe.Pointer(p.path)),
		uintptr(unsafe.Pointer(unsafe.SliceData(p.argv))), uintptr(unsafe.Pointer(unsafe.SliceData(p.env))))
	return p, nil
}

func (p *plan) add(result int, nr uintptr, args ...uintptr) {
	c := call{nr: nr, result: uintptr(result)}
	copy(c.args[:], args)
	p.calls = append(p.calls, c)
}

// resolve duplicates those files that another one would replace in the child before
// they have been moved to their own numbers.
func (p *plan) resolve(files []uintptr) error {
	for to, from := range files {
		if from < uintptr(to) {
			fd, err := p.duplicate(int(from), len(files))
			if err != nil {
				return err
			}
			from = uintptr(fd)
		}
		p.files = append(p.files, from)
	}
	return nil
}

// duplicate duplicates a descriptor to a number of at least least.
func (p *plan) duplicate(fd, least int) (int, error) {
	fd, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, least)
	if err == nil {
		p.own = append(p.own, fd)
	}
	return fd, err
}

func (p *plan) close() {
	for _, fd := range p.own {
		unix.Close(fd)
	}
	p.own = nil
}

// fork forks the child, which reports an error to pipe, if that is not negative.
func (p *plan) fork(pipe int) (pid int, err error) {
	if pipe >= 0 {
		// No file may replace the pipe in the child.
		if pipe, err = p.duplicate(pipe, max(len(p.files), 3)); err != nil {
			return 0, err
		}
	}
	c := child{calls: unsafe.SliceData(p.calls), pipe: uintptr(pipe), stack: selfckpt.ChildStack(), flags: p.flags}
	// As in package syscall: the lock keeps the child from inheriting a descriptor that
	// is about to be made close-on-exec.
	syscall.ForkLock.Lock()
	defer syscall.ForkLock.Unlock()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if p.mask, err = signals.BlockAll(); err != nil {
		return 0, err
	}
	pid = fork(&c)
	_ = signals.RestoreMask(p.mask)
	runtime.KeepAlive(p)
	if pid < 0 {
		return 0, syscall.Errno(-pid)
	}
	return pid, nil
}
