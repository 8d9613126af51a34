// Package entry records the state in which the process was started and which the
// Go runtime changes before any Go code runs: the runtime unblocks some blocked
// signals, opens /dev/null in place of closed standard descriptors, and raises the soft
// limit of open files to the hard one. It would also install handlers for ignored
// signals; the entry point keeps it from that.
//
// A program that replaces one written in C needs that state: "trap ” TERM" in a
// script applies to the commands that it starts, and a write to a descriptor that
// the caller closed must fail.
//
// The state is recorded by code that runs before the runtime, as the program's
// entry point. It has to be linked with -ldflags "-E
// blcr-cli/internal/entry.entry". Without that, and on other architectures than
// amd64, the functions report the default: nothing ignored, nothing closed.
//
// The entry point also makes the worker of a cr_checkpoint (worker.go), and is CRIU's
// action script (hook_amd64.s).
//
// What belongs here: that state, putting it back before an exec, and what has to be
// done before the Go runtime is started. What to do about signals otherwise belongs to
// package signals.
package entry

import (
	"syscall"
	"time"
	"unsafe"
)

// Written by the entry point. They are initialised to zero by the kernel, not by the
// runtime, which does not clear them.
var (
	ignored   uint64 // bit N-1: signal N was ignored
	unblocked uint64 // bit N-1: signal N was not blocked; 0 if unknown, since SIGKILL is never blocked
	pending   uint64 // bit N-1: signal N was blocked and pending
	closed    uint64 // bit N: descriptor N, of 0 to 2, was closed
	nofile    uint64 // the soft limit of open files; 0 if unknown
	recorded  uint64 // 1: the entry point has run

	// narrowed is the soft limit of address space, in bytes, if the entry point has
	// lowered it; else 0. With some 1.2 GB the Go runtime, which can do with 0.75 GB,
	// finds room for a reservation of 0.5 GB that it could do without, and then none
	// for its heap: it ends with a dump. With a little less it does without.
	narrowed uint64
)

// The runtime has made its reservations by now. Children get the original limit.
func init() {
	var limit syscall.Rlimit
	if narrowed != 0 && syscall.Getrlimit(syscall.RLIMIT_AS, &limit) == nil {
		limit.Cur = narrowed
		_ = syscall.Setrlimit(syscall.RLIMIT_AS, &limit)
	}
}

// Ignored reports whether sig was ignored.
func Ignored(sig syscall.Signal) bool { return ignored>>(sig-1)&1 != 0 }

// Closed reports whether fd is one of the three standard descriptors and was closed.
// The runtime has opened /dev/null under that number.
func Closed(fd int) bool { return fd >= 0 && fd <= 2 && closed>>fd&1 != 0 }

// Doubtful reports whether fd is a standard descriptor that may have been closed: the
// entry point has not run, and fd leads to /dev/null for reading and writing, which is
// what the runtime opens in place of a closed one. What is written to it may be lost.
func Doubtful(fd int) bool {
	if recorded != 0 || fd < 0 || fd > 2 {
		return false
	}
	const nullDevice = 1<<8 | 3
	var st syscall.Stat_t
	flags, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_GETFL, 0)
	return errno == 0 && flags&syscall.O_ACCMODE == syscall.O_RDWR &&
		syscall.Fstat(fd, &st) == nil && st.Mode&syscall.S_IFMT == syscall.S_IFCHR && st.Rdev == nullDevice
}

// Inherited reports whether fd was open when the program was started. Descriptors
// opened since, by the Go runtime as well, are close-on-exec.
func Inherited(fd int) bool {
	if fd < 0 || Closed(fd) {
		return false
	}
	flags, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_GETFD, 0)
	return errno == 0 && flags&syscall.FD_CLOEXEC == 0
}

// NeverOpen is a descriptor number that no process has open, for callers that have to
// pass a closed descriptor.
const NeverOpen = 1 << 30

// HideClosed makes the descriptors that the runtime has opened in place of closed
// standard ones close-on-exec, so that they are closed after an exec.
func HideClosed() {
	for fd := range 3 {
		if Closed(fd) {
			syscall.CloseOnExec(fd)
		}
	}
}

// OpenFiles returns the soft limit of open files that the process was started with, 0
// if it is unknown.
func OpenFiles() uint64 { return nofile }

// RestoreLimit sets the soft limit of open files to its original value. Children
// started by package syscall get that value anyway; children of a raw fork need this.
func RestoreLimit() {
	var limit syscall.Rlimit
	if nofile == 0 || syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil {
		return
	}
	limit.Cur = nofile
	// Lowering the soft limit is always allowed.
	_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
}

const (
	sigDfl  = 0
	sigIgn  = 1
	setSize = 8 // of the kernel's sigset_t, on amd64; elsewhere nothing was recorded
)

// setAction sets the disposition of sig to sigDfl or sigIgn. An error changes
// nothing.
func setAction(sig syscall.Signal, handler uintptr) {
	// The kernel's struct sigaction, which begins with the handler.
	action := [8]uintptr{handler}
	syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&action)), 0, setSize, 0, 0)
}

// checkpointSignal is BLCR's (CR_SIGNUM).
const checkpointSignal = syscall.Signal(64)

// DeclineRequests ignores signal 64 from now on. It is for a program that does
// nothing but exec another one, and is to be called at its start, before
// RestoreSignals.
//
// To BLCR's module such a process has no handler, as BLCR's own cr_run has none: it
// asks again half a second later, and fails if there is still none. With a handler
// a request could arrive during exec, where signal 64 has the default action
// again, and kill the program.
func DeclineRequests() { setAction(checkpointSignal, sigIgn) }

// RestoreSignals ignores every signal that was ignored, gives signal 64 the
// default action otherwise, and gives the calling thread, to which the goroutine
// must be locked, its original signal mask and its pending signals. It is to be called right before an
// exec, which resets all other signals; a Go program that runs on would be harmed
// by some of it.
func RestoreSignals() {
	for sig := syscall.Signal(1); sig <= 64; sig++ {
		if Ignored(sig) {
			setAction(sig, sigIgn)
		}
	}
	if !Ignored(checkpointSignal) {
		setAction(checkpointSignal, sigDfl)
	}
	const sigSetmask = 2
	if unblocked != 0 {
		mask := ^unblocked
		syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, sigSetmask, uintptr(unsafe.Pointer(&mask)), 0, setSize, 0, 0)
	}
	// The runtime has unblocked some signals, and to ignore one discards it. Those that
	// were not ignored, and unblocked, have taken effect.
	still := pendingSignals()
	for sig := syscall.Signal(1); sig <= 64; sig++ {
		if pending&^still>>(sig-1)&1 != 0 {
			_ = syscall.Tgkill(syscall.Getpid(), syscall.Gettid(), sig)
		}
	}
}

// DiscardPreemption sees to it that no SIGURG is pending for the next program that was not
// pending for this one. It is to be called after RestoreSignals, before the exec.
//
// The Go runtime sends SIGURG to a thread that has run for 10 ms without a break, as it
// seems to on a busy machine, even in execve. If the signal is blocked it stays pending
// across the exec. The runtime does not send another one before the first has been
// handled, so the first one is waited for and taken away here. That takes some 20 ms, and
// only in a program that was started with SIGURG blocked.
func DiscardPreemption() {
	const urgent = uint64(1) << (syscall.SIGURG - 1)
	if unblocked == 0 || (unblocked|pending)&urgent != 0 {
		return
	}
	// The limit is for a runtime that does not preempt.
	for end := time.Now().Add(time.Second); pendingSignals()&urgent == 0 && time.Now().Before(end); {
	}
	set, now := urgent, [2]int64{}
	syscall.RawSyscall6(syscall.SYS_RT_SIGTIMEDWAIT, uintptr(unsafe.Pointer(&set)), 0, uintptr(unsafe.Pointer(&now)), setSize, 0, 0)
}

// pendingSignals returns the calling thread's pending signals, bit N-1 for signal N.
func pendingSignals() (set uint64) {
	syscall.RawSyscall6(syscall.SYS_RT_SIGPENDING, uintptr(unsafe.Pointer(&set)), setSize, 0, 0, 0, 0)
	return set
}

// Standard returns the standard descriptors for a child's syscall.ProcAttr.Files:
// one that was closed stays closed there, which is the value ^0.
func Standard() []uintptr {
	files := []uintptr{0, 1, 2}
	for i := range files {
		if Closed(i) {
			files[i] = ^uintptr(0)
		}
	}
	return files
}
