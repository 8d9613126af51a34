package kernel

import (
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/kernel/reply"
)

// policies are what a guard of cr_restart's answers.
var policies = map[ckpt.Omit]reply.Policy{
	ckpt.OmitMaybe:  reply.OmitMaybe,
	ckpt.OmitAlways: reply.OmitAlways,
	ckpt.OmitNever:  reply.OmitNever,
}

// hold lets requests wait by which somebody else wants to save this process, from
// right before its own one until Close. It starts the guard that does so; without
// one, this process leaves itself out of every checkpoint. The guard's descriptor
// will not be fd, which is the request's.
//
// Mirrors: cr_register_callback with CR_THREAD_CONTEXT, and the lock of the tools.
func (e *Engine) hold(fd int32, policy reply.Policy) {
	if !startGuard(fd, policy) {
		reply.Omit()
	}
	e.issued.Store(true)
	reply.Hold()
}

// guard is the guard's descriptor. A process has one guard, for all its engines.
var guard control = -1

// startGuard starts the guard and returns when the module knows it. A checkpoint of
// this process may be under way, which is waited for; nothing else is.
func startGuard(fd int32, policy reply.Policy) bool {
	state := reply.State()
	if atomic.LoadUint32(state) != reply.None {
		return atomic.LoadUint32(state) == reply.Guarding
	}
	ctrl, errno := openControl()
	if errno != 0 {
		return false
	}
	if ctrl.moveFrom(fd) != nil || ctrl.version() != nil || reply.Guard(int32(ctrl), policy) != 0 {
		ctrl.close()
		return false
	}
	const futexWaitPrivate = 128
	for atomic.LoadUint32(state) == reply.Starting {
		unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(state)), futexWaitPrivate, reply.Starting, 0, 0, 0)
	}
	if atomic.LoadUint32(state) != reply.Guarding {
		ctrl.close()
		return false
	}
	guard = ctrl
	return true
}
