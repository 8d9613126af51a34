package kernel

import (
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/kernel/selfckpt"
)

// policies are what a guard of cr_restart's answers.
var policies = map[ckpt.Omit]selfckpt.Policy{
	ckpt.OmitMaybe:  selfckpt.OmitMaybe,
	ckpt.OmitAlways: selfckpt.OmitAlways,
	ckpt.OmitNever:  selfckpt.OmitNever,
}

// hold lets requests wait by which somebody else wants to save this process, from
// right before its own one until Close. It starts the guard that does so; without
// one, this process leaves itself out of every checkpoint. The guard's descriptor
// will not be fd, which is the request's.
//
// Mirrors: cr_register_callback with CR_THREAD_CONTEXT, and the lock of the tools.
func (e *Engine) hold(fd int32, policy selfckpt.Policy) {
	if !startGuard(fd, policy) {
		selfckpt.Omit()
	}
	e.issued.Store(true)
	selfckpt.Hold()
}

// guard is the guard's descriptor. A process has one guard, for all its engines.
var guard control = -1

// startGuard starts the guard and returns when the module knows it. A checkpoint of
// this process may be under way, which is waited for; nothing else is.
func startGuard(fd int32, policy selfckpt.Policy) bool {
	state := selfckpt.State()
	if atomic.LoadUint32(state) != selfckpt.None {
		return atomic.LoadUint32(state) == selfckpt.Guarding
	}
	ctrl, errno := openControl()
	if errno != 0 {
		return false
	}
	if ctrl.moveFrom(fd) != nil || ctrl.version() != nil || selfckpt.Guard(int32(ctrl), policy) != 0 {
		ctrl.close()
		return false
	}
	const futexWaitPrivate = 128
	for atomic.LoadUint32(state) == selfckpt.Starting {
		unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(state)), futexWaitPrivate, selfckpt.Starting, 0, 0, 0)
	}
	if atomic.LoadUint32(state) != selfckpt.Guarding {
		ctrl.close()
		return false
	}
	guard = ctrl
	return true
}
