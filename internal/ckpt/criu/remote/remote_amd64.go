package remote

import (
	"bytes"
	"encoding/binary"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/proc"
)

// Supported says that Call works on this processor.
const Supported = true

// What golang.org/x/sys does not have of the kernel's ptrace.h.
const (
	getRseqConfiguration = 0x420f // PTRACE_GET_RSEQ_CONFIGURATION
	getUserDispatch      = 0x4211 // PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG
	eventStop            = 128    // PTRACE_EVENT_STOP
	syscallStop          = int(unix.SIGTRAP) | 0x80
)

// instruction is syscall.
var instruction = []byte{0x0f, 0x05}

func call(t Thread, number uintptr, args []uint64) (result int64, ok bool) {
	options := uintptr(unix.PTRACE_O_TRACESYSGOOD)
	if t.Filtered {
		options |= unix.PTRACE_O_SUSPEND_SECCOMP // the filter might kill it
	}
	stops := func() bool { return stop(t.TID, t.Deadline, t.Stopped) }
	if !ptrace(unix.PTRACE_SEIZE, t.TID, options) || !stops() {
		return 0, false
	}
	defer ptrace(unix.PTRACE_DETACH, t.TID, 0)
	var before unix.PtraceRegs
	for {
		if !copied(unix.PTRACE_GETREGS, t.TID, 0, unsafe.Pointer(&before)) {
			return 0, false
		}
		if !inSequence(t.TID, before.Rip) {
			break
		}
		if time.Now().After(t.Deadline) || !ptrace(unix.PTRACE_CONT, t.TID, 0) || !stops() {
			return 0, false
		}
	}
	at := callIn(t.PID, t.TID, &before)
	if at == 0 {
		return 0, false
	}
	var mask, all uint64 = 0, ^uint64(0)
	const size = unsafe.Sizeof(mask)
	if !copied(unix.PTRACE_GETSIGMASK, t.TID, size, unsafe.Pointer(&mask)) || !copied(unix.PTRACE_SETSIGMASK, t.TID, size, unsafe.Pointer(&all)) {
		return 0, false
	}
	defer copied(unix.PTRACE_SETSIGMASK, t.TID, size, unsafe.Pointer(&mask))

	asking := before
	asking.Rip, asking.Rax, asking.Orig_rax = at, uint64(number), ^uint64(0)
	for i, register := range []*uint64{&asking.Rdi, &asking.Rsi, &asking.Rdx, &asking.R10, &asking.R8, &asking.R9} {
		*register = 0
		if i < len(args) {
			*register = args[i]
		}
	}
	if !copied(unix.PTRACE_SETREGS, t.TID, 0, unsafe.Pointer(&asking)) {
		return 0, false
	}
	// From here on it cannot be let go of before it has stopped, whatever the time.
	entered := step(t.TID)
	answered := entered && step(t.TID) && copied(unix.PTRACE_GETREGS, t.TID, 0, unsafe.Pointer(&asking)) &&
		// The kernel looks at what to restart after a stop of this kind.
		ptrace(unix.PTRACE_INTERRUPT, t.TID, 0) && ptrace(unix.PTRACE_CONT, t.TID, 0) && stop(t.TID, time.Time{}, true)
	copied(unix.PTRACE_SETREGS, t.TID, 0, unsafe.Pointer(&before))
	return int64(asking.Rax), answered
}

func dispatches(t Thread) bool {
	if !ptrace(unix.PTRACE_SEIZE, t.TID, 0) || !stop(t.TID, t.Deadline, t.Stopped) {
		return false
	}
	defer ptrace(unix.PTRACE_DETACH, t.TID, 0)
	return hasDispatch(t.TID)
}

// hasDispatch is dispatches for a thread that is stopped for this process.
func hasDispatch(tid int) bool {
	var dispatch struct{ mode, selector, offset, length uint64 }
	return copied(getUserDispatch, tid, unsafe.Sizeof(dispatch), unsafe.Pointer(&dispatch)) && dispatch.mode != 0
}

// ptrace reports whether the kernel has done that. It does not when the thread has been
// killed.
func ptrace(request, tid int, data uintptr) bool {
	_, _, errno := unix.RawSyscall6(unix.SYS_PTRACE, uintptr(request), uintptr(tid), 0, data, 0, 0)
	return errno == 0
}

// copied is ptrace for what copies a value of a thread from or to here. The size is that of
// the value for requests that take it.
func copied(request, tid int, size uintptr, value unsafe.Pointer) bool {
	_, _, errno := unix.RawSyscall6(unix.SYS_PTRACE, uintptr(request), uintptr(tid), size, uintptr(value), 0, 0)
	return errno == 0
}

// stop stops a running thread, and reports whether it has stopped so that it can be asked.
// One that has just stopped for another reason, such as a signal, goes on with that. One of a
// process that is stopped, as by SIGSTOP, can be asked only if that is allowed.
func stop(tid int, deadline time.Time, stopped bool) bool {
	for {
		if !ptrace(unix.PTRACE_INTERRUPT, tid, 0) {
			return false
		}
		status, ok := wait(tid, deadline)
		if !ok {
			return false
		}
		if status>>8 == eventStop {
			return stopped || status&0xff == int(unix.SIGTRAP) || leave(tid)
		}
		// Any stop takes an interruption back.
		if !ptrace(unix.PTRACE_CONT, tid, uintptr(status)) {
			return false
		}
	}
}

// leave lets go of a thread whose process has been stopped as by SIGSTOP.
func leave(tid int) bool {
	ptrace(unix.PTRACE_DETACH, tid, 0)
	return false
}

// step lets a thread go on until it enters, or leaves, a system call. A SIGSTOP cannot be
// blocked; the process is stopped by it when it is let go of.
func step(tid int) bool {
	signal := 0
	for {
		if !ptrace(unix.PTRACE_SYSCALL, tid, uintptr(signal)) {
			return false
		}
		status, ok := wait(tid, time.Time{})
		switch {
		case !ok:
			return false
		case status == syscallStop:
			return true
		}
		signal = 0
		if status>>8 == 0 {
			signal = status
		}
	}
}

// wait waits for the next stop of a thread until the deadline, if there is one. The status
// is the signal, with the number of the event above it. A thread that has ended is left to
// its parent.
func wait(tid int, deadline time.Time) (status int, ok bool) {
	for pause := int64(time.Microsecond); ; pause = min(2*pause, int64(time.Millisecond)) {
		if status, is, err := poll(tid, unix.WSTOPPED); err != nil || is {
			return status, err == nil
		}
		_, ended, err := poll(tid, unix.WEXITED|unix.WNOWAIT)
		if err != nil || ended || !deadline.IsZero() && time.Now().After(deadline) {
			return 0, false
		}
		_ = unix.Nanosleep(&unix.Timespec{Nsec: pause}, nil)
	}
}

// poll is waitid(2) for a thread: the number of a signal, or an exit status, and whether
// there is one.
func poll(tid, what int) (status int, is bool, err error) {
	var info unix.Siginfo
	got := (*struct{ signo, errno, code, _, pid, uid, status int32 })(unsafe.Pointer(&info)) // as the kernel fills it in
	if err := unix.Waitid(unix.P_PID, tid, &info, what|unix.WALL|unix.WNOHANG, nil); err != nil || got.pid == 0 {
		return 0, false, err
	}
	if what&unix.WEXITED != 0 && got.code >= 4 {
		return 0, false, nil // CLD_TRAPPED: stops of traced threads are always told
	}
	return int(got.status), true, nil
}

// callIn returns where in a stopped thread's program an instruction for a system call is
// that it may be made to execute; 0 where there is none, or none that would do.
func callIn(pid, tid int, regs *unix.PtraceRegs) uint64 {
	const (
		code64 = 0x33  // the segment of 64-bit code
		trap   = 0x100 // single steps
	)
	if regs.Cs != code64 || regs.Eflags&trap != 0 || hasDispatch(tid) {
		return 0
	}
	if int64(regs.Orig_rax) >= 0 { // it is in one
		if at := regs.Rip - uint64(len(instruction)); bytes.Equal(peek(pid, at, len(instruction)), instruction) {
			return at
		}
	}
	start, end := proc.VDSO(pid)
	if i := bytes.Index(peek(pid, start, int(end-start)), instruction); i >= 0 {
		return start + uint64(i)
	}
	return 0
}

// inSequence reports whether a stopped thread is in a restartable sequence, which the
// kernel would forget if the thread went on elsewhere. See linux/rseq.h.
func inSequence(tid int, rip uint64) bool {
	var configuration struct {
		at                        uint64
		size, signature, flags, _ uint32
	}
	if !copied(getRseqConfiguration, tid, unsafe.Sizeof(configuration), unsafe.Pointer(&configuration)) || configuration.at == 0 {
		return false
	}
	number := func(at uint64) uint64 {
		if text := peek(tid, at, 8); text != nil {
			return binary.LittleEndian.Uint64(text)
		}
		return 0
	}
	sequence := number(configuration.at + 8)
	return sequence != 0 && rip-number(sequence+8) < number(sequence+16)
}

// peek returns memory of a process, nil if it cannot be read.
func peek(pid int, from uint64, size int) []byte {
	text := make([]byte, size)
	if !proc.ReadMemory(pid, uintptr(from), text) {
		return nil
	}
	return text
}
