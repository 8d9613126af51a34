//go:build linux && amd64

package ctrlsim

import (
	"bytes"
	"errors"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A traced thread is stopped only for moments: to give its signal 64 the
// module's siginfo, and to have it make a system call of ours. Seized, not
// attached to: nothing of that is visible to the program or to its parent.

// onThread runs f on an OS thread that ends with it, as the caller does. What
// that thread traces is let go by the kernel then, in whatever state it is.
func onThread(f func()) {
	runtime.LockOSThread()
	if unix.Gettid() == os.Getpid() {
		// The first thread of a process never ends.
		done := make(chan struct{})
		go func() {
			defer close(done)
			onThread(f)
		}()
		<-done
		runtime.UnlockOSThread()
		return
	}
	f()
}

// tracee is a thread that is traced by the OS thread that all of its methods
// are called on.
type tracee struct {
	s   *supervisor
	tid int
}

var (
	errGone    = errors.New("the thread has ended")
	errStopped = errors.New("the supervisor stops")
)

const (
	allSignals  = ^uint64(0)
	sysStop     = int(unix.SIGTRAP) | 0x80 // PTRACE_O_TRACESYSGOOD
	stopTick    = 100 * time.Microsecond
	seizeTries  = 500
	ticksToLook = 20
)

func (t *tracee) ptrace(req int, data uintptr) error {
	_, _, errno := unix.Syscall6(unix.SYS_PTRACE, uintptr(req), uintptr(t.tid), 0, data, 0, 0)
	return ptraceError(errno)
}

// ptraceAt is for requests whose data is in our memory.
func (t *tracee) ptraceAt(req int, addr uintptr, data unsafe.Pointer) error {
	_, _, errno := unix.Syscall6(unix.SYS_PTRACE, uintptr(req), uintptr(t.tid), addr, uintptr(data), 0, 0)
	return ptraceError(errno)
}

func ptraceError(errno unix.Errno) error {
	switch errno {
	case 0:
		return nil
	case unix.ESRCH: // it is not stopped, because it is being killed
		return errGone
	}
	return errno
}

// seize begins to trace the thread.
func (t *tracee) seize() error {
	for range seizeTries {
		err := t.ptrace(unix.PTRACE_SEIZE, unix.PTRACE_O_TRACESYSGOOD)
		switch {
		case err != unix.EPERM:
			return err
		case ended(t.tid):
			return errGone
		case !t.s.sleep(stopTick): // another of our threads is about to let go of it
			return errStopped
		}
	}
	return unix.EPERM
}

// interrupt makes it stop as soon as it leaves the kernel, which is at once
// unless it waits for an answer of ours.
func (t *tracee) interrupt() error { return t.ptrace(unix.PTRACE_INTERRUPT, 0) }

// wait waits for the next stop. Nobody's end is taken from whom it is for, who
// may be os/exec in this very process: that is left to the kernel.
func (t *tracee) wait() (int, error) {
	for n := 1; ; n++ {
		var info struct { // siginfo_t of SIGCHLD
			signo, errno, code, _ int32
			pid                   int32
			uid                   uint32
			status                int32
			_                     [100]byte
		}
		_, _, errno := unix.Syscall6(unix.SYS_WAITID, unix.P_PID, uintptr(t.tid), uintptr(unsafe.Pointer(&info)),
			unix.WSTOPPED|unix.WNOHANG|unix.WALL|unix.WNOTHREAD, 0, 0)
		switch {
		case errno == unix.EINTR:
			continue
		case errno == unix.ECHILD, n%ticksToLook == 0 && errno == 0 && info.pid == 0 && ended(t.tid):
			return 0, errGone
		case errno != 0:
			return 0, errno
		case info.pid != 0:
			return int(info.status), nil
		}
		if !t.s.sleep(stopTick) {
			return 0, errStopped
		}
	}
}

// waitFor waits for a certain stop. It resumes the thread by req, and from all
// other stops, with the signal that it has stopped for, if any.
func (t *tracee) waitFor(req, want int) error {
	for {
		got, err := t.wait()
		if err != nil || got == want || want == trapStop && got>>8 == unix.PTRACE_EVENT_STOP {
			return err
		}
		if err := t.ptrace(req, uintptr(deliverable(got))); err != nil {
			return err
		}
	}
}

// trapStop is what wait gives after interrupt, or one like it with the signal
// by which job control has stopped the process.
const trapStop = unix.PTRACE_EVENT_STOP<<8 | int(unix.SIGTRAP)

// deliverable is the signal that a stop is about, 0 if it is about none.
func deliverable(stop int) int {
	if stop>>8 != 0 || stop == sysStop {
		return 0
	}
	return stop
}

func (t *tracee) mask() (m uint64, err error) {
	return m, t.ptraceAt(unix.PTRACE_GETSIGMASK, unsafe.Sizeof(m), unsafe.Pointer(&m))
}

func (t *tracee) setMask(m uint64) error {
	return t.ptraceAt(unix.PTRACE_SETSIGMASK, unsafe.Sizeof(m), unsafe.Pointer(&m))
}

func (t *tracee) detach(sig int) error { return t.ptrace(unix.PTRACE_DETACH, uintptr(sig)) }

// call has the thread, which is in a trapStop, make a system call, and leaves
// it in another one, with its registers as they were: only from there the
// kernel restarts the call that it may have been in. All signals are blocked
// meanwhile, or the one that is pending would interrupt ours.
func (t *tracee) call(nr int, args ...uint64) (int64, error) {
	at, err := syscallInstruction(t.tid)
	if err != nil {
		return 0, err
	}
	var regs unix.PtraceRegs
	if err := t.ptraceAt(unix.PTRACE_GETREGS, 0, unsafe.Pointer(&regs)); err != nil {
		return 0, err
	}
	mask, err := t.mask()
	if err != nil {
		return 0, err
	}
	var a [6]uint64
	copy(a[:], args)
	ours := regs
	ours.Rip, ours.Rax, ours.Orig_rax = at, uint64(nr), allSignals // no call to be restarted
	ours.Rdi, ours.Rsi, ours.Rdx, ours.R10, ours.R8, ours.R9 = a[0], a[1], a[2], a[3], a[4], a[5]

	t.s.setInjected(t.tid, true)
	defer t.s.setInjected(t.tid, false)
	if err := t.setMask(allSignals); err != nil {
		return 0, err
	}
	if err := t.ptraceAt(unix.PTRACE_SETREGS, 0, unsafe.Pointer(&ours)); err != nil {
		return 0, err
	}
	for range 2 { // in and out
		if err := t.ptrace(unix.PTRACE_SYSCALL, 0); err != nil {
			return 0, err
		}
		if err := t.waitFor(unix.PTRACE_SYSCALL, sysStop); err != nil {
			return 0, err
		}
	}
	if err := t.ptraceAt(unix.PTRACE_GETREGS, 0, unsafe.Pointer(&ours)); err != nil {
		return 0, err
	}
	if err := errors.Join(t.interrupt(), t.ptrace(unix.PTRACE_CONT, 0)); err != nil {
		return 0, err
	}
	if err := t.waitFor(unix.PTRACE_CONT, trapStop); err != nil {
		return 0, err
	}
	return int64(ours.Rax), errors.Join(t.ptraceAt(unix.PTRACE_SETREGS, 0, unsafe.Pointer(&regs)), t.setMask(mask))
}

// deliver has the thread, which is in a trapStop with a signal 64 of ours
// pending, handle that as one of the module's, and lets go of it. As the module
// does, it unblocks the signal for good.
func (t *tracee) deliver(fd int32) error {
	info, err := t.ours()
	if err != nil {
		return err
	}
	clear(info[:])
	native.PutUint32(info[infoSigno:], signo)
	native.PutUint32(info[infoCode:], 0x80) // SI_KERNEL
	native.PutUint32(info[infoPid:], uint32(fd))
	return errors.Join(t.ptraceAt(unix.PTRACE_SETSIGINFO, 0, unsafe.Pointer(&info)), t.detach(signo))
}

// discard makes the signal vanish instead.
func (t *tracee) discard() error {
	mask, err := t.mask()
	if err != nil {
		return err
	}
	if _, err := t.ours(); err != nil {
		return err
	}
	return errors.Join(t.setMask(mask), t.detach(0))
}

// The signal, and where its siginfo_t has what.
const (
	signo     = 64
	infoSigno = 0
	infoCode  = 8
	infoPid   = 16
)

// ours unblocks the signal and has the thread go on up to ours.
func (t *tracee) ours() (info [128]byte, err error) {
	mask, err := t.mask()
	if err != nil {
		return info, err
	}
	if err := errors.Join(t.setMask(mask&^(1<<(signo-1))), t.ptrace(unix.PTRACE_CONT, 0)); err != nil {
		return info, err
	}
	for {
		if err := t.waitFor(unix.PTRACE_CONT, signo); err != nil {
			return info, err
		}
		if err := t.ptraceAt(unix.PTRACE_GETSIGINFO, 0, unsafe.Pointer(&info)); err != nil {
			return info, err
		}
		const siTkill = -6
		if int32(native.Uint32(info[infoCode:])) == siTkill && int(native.Uint32(info[infoPid:])) == os.Getpid() {
			return info, nil
		}
		if err := t.ptrace(unix.PTRACE_CONT, signo); err != nil { // somebody else's
			return info, err
		}
	}
}

// syscallInstruction is where process memory has one: every process has the
// vdso.
func syscallInstruction(tid int) (uint64, error) {
	maps, err := readMaps(tid)
	if err != nil {
		return 0, err
	}
	m, err := findMapping(maps, "the vdso", func(m mapping) bool { return m.name == "[vdso]" })
	if err != nil {
		return 0, err
	}
	b := make([]byte, m.end-m.start)
	if err := readMem(tid, m.start, b); err != nil {
		return 0, err
	}
	i := bytes.Index(b, []byte{0x0f, 0x05})
	if i < 0 {
		return 0, errors.New("no system call in the vdso")
	}
	return m.start + uint64(i), nil
}

// ended says whether a thread is a zombie or gone.
func ended(tid int) bool {
	st, err := readStat(tid)
	return err != nil || st.state == 'Z' || st.state == 'X'
}

// trouble says whether an error is worth a note. A thread that is being killed
// makes any of our calls fail.
func (t *tracee) trouble(err error) bool {
	if err == nil || err == errGone || err == errStopped {
		return false
	}
	for range 50 {
		if ended(t.tid) || !t.s.sleep(time.Millisecond) {
			return false
		}
	}
	return true
}

// statNumber is a field of /proc/TID/stat, as numbered in proc(5), from 4 on.
func statNumber(tid, field int) (n uint64) {
	b, err := os.ReadFile(procFile(tid, "stat"))
	if err != nil {
		return 0
	}
	s := string(b)
	f := strings.Fields(s[strings.LastIndexByte(s, ')')+1:])
	if field-3 < len(f) {
		n, _ = strconv.ParseUint(f[field-3], 10, 64)
	}
	return n
}

// The fields that tell a thread from a later one of the same number, and a
// program from what it has exec'd.
const (
	statStart = 22
	statStack = 28
)

// setInjected says that the calls that a thread makes are ours.
func (s *supervisor) setInjected(tid int, yes bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if yes {
		s.injected[tid] = true
	} else {
		delete(s.injected, tid)
	}
}

// handleInjected answers a trapped call of ours: an open, of whatever name, is
// one of the control file.
func (s *supervisor) handleInjected(n *notif) bool {
	s.mu.Lock()
	ours := s.injected[int(n.Tid)]
	s.mu.Unlock()
	if !ours {
		return false
	}
	if int(n.Data.Nr) != unix.SYS_OPENAT {
		s.l.resume(n)
	} else if err := s.installFile(n, unix.O_WRONLY, ""); err != nil {
		s.l.answer(n, 0, int(unix.EMFILE))
	}
	return true
}
