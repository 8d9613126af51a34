package signals

import (
	"os"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/proc"
)

// sigaction is the kernel's struct sigaction on x86-64 (arch/x86
// asm/signal.h), which is not glibc's.
type sigaction struct {
	handler  uintptr
	flags    uint64
	restorer uintptr
	mask     uint64
}

const (
	saRestorer = 0x04000000
	saSiginfo  = 0x4
	saOnStack  = 0x08000000
	saRestart  = 0x10000000
)

// Read by the handler in catch_amd64.s.
var (
	self     uint32                 // this process's pid
	previous [maxSignal + 1]uintptr // the handlers before ours, for faults of this process
)

func handlerAddr() uintptr
func restorerAddr() uintptr

// Catch counts sig from now on. These are not counted:
//
//   - a fault of this process (SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP sent by
//     the kernel) and a preemption request of the runtime (SIGURG sent by the
//     process itself), which go to the previous handler;
//   - any other signal that the process sends itself by kill or tgkill, such as
//     SIGPIPE of a broken pipe, which is dropped.
//
// The error is an errno.
func Catch(sig syscall.Signal) error {
	atomic.StoreUint32(&self, uint32(os.Getpid()))
	act := sigaction{
		handler:  handlerAddr(),
		flags:    saSiginfo | saOnStack | saRestart | saRestorer,
		restorer: restorerAddr(),
		mask:     ^uint64(0),
	}
	var old sigaction
	if err := rtSigaction(sig, nil, &old); err != nil {
		return err
	}
	if old.handler != act.handler {
		// Stored before the handler is installed, since it may run at once.
		atomic.StoreUintptr(&previous[sig], old.handler)
	}
	return rtSigaction(sig, &act, nil)
}

// Default gives sig the kernel's default action. The error is an errno.
func Default(sig syscall.Signal) error {
	return rtSigaction(sig, &sigaction{}, nil)
}

func rtSigaction(sig syscall.Signal, act, old *sigaction) error {
	_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig),
		uintptr(unsafe.Pointer(act)), uintptr(unsafe.Pointer(old)), 8, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// siginfo is the beginning of the kernel's siginfo_t (asm-generic/siginfo.h).
type siginfo struct {
	signo, _, code, _ int32
	pid               uint32
}

// infoInFrame is where siginfo is in the frame that the kernel puts on the stack for a
// handler: after the address of the restorer and a struct ucontext (struct rt_sigframe).
const infoInFrame = 8 + 304

// handledBy returns the signals, bit N-1 for signal N, that threads of another process of
// this program were about to count when they were frozen: they are in the handler. That
// is not seen of the first thread while CRIU has it do something else.
func handledBy(pid int) (set uint64) {
	var self32 uint32
	if !read(pid, uintptr(unsafe.Pointer(&self)), &self32) {
		return 0
	}
	for _, tid := range proc.Threads(pid) {
		sp, pc, ok := proc.Registers(tid)
		var info siginfo
		if !ok || pc < uint64(handlerAddr()) || pc >= uint64(restorerAddr()) || !read(pid, uintptr(sp)+infoInFrame, &info) {
			continue
		}
		const tkill = -6 // SI_TKILL
		own := (info.code == 0 || info.code == tkill) && info.pid == self32
		if !own && info.signo > 0 && info.signo <= maxSignal {
			set |= 1 << (info.signo - 1)
		}
	}
	return set
}
