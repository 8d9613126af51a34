package kernel

import (
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/kernel/selfckpt"
)

// policies are those of cr_restart's callback thread.
var policies = map[ckpt.Omit]selfckpt.Policy{
	ckpt.OmitMaybe:  selfckpt.OmitMaybe,
	ckpt.OmitAlways: selfckpt.OmitAlways,
	ckpt.OmitNever:  selfckpt.OmitNever,
}

// hold holds requests that would save this process, from right before its own
// request until Close. It starts the callback thread for that; if that fails, this
// process is omitted from every checkpoint. The callback thread's descriptor will
// not be fd, which is the request's.
//
// Mirrors: cr_register_callback with CR_THREAD_CONTEXT, and the lock of the tools.
func (e *Engine) hold(fd int32, policy selfckpt.Policy) {
	if !startCallbackThread(fd, policy) {
		selfckpt.Omit()
	}
	e.issued.Store(true)
	selfckpt.Hold()
}

// callbackCtrl is the callback thread's descriptor, which stays open.
var callbackCtrl control = -1

// startCallbackThread starts the callback thread and returns when it has
// registered with the module. A process has one callback thread, for all its
// engines. Registering waits for a checkpoint of this process that is under way,
// and for nothing else.
func startCallbackThread(fd int32, policy selfckpt.Policy) bool {
	state := selfckpt.State()
	if atomic.LoadUint32(state) != selfckpt.NotStarted {
		return atomic.LoadUint32(state) == selfckpt.Registered
	}
	ctrl, errno := openControl()
	if errno != 0 {
		return false
	}
	if ctrl.moveFrom(fd) != nil || ctrl.version() != nil || selfckpt.StartCallbackThread(int32(ctrl), policy) != 0 {
		ctrl.close()
		return false
	}
	const futexWaitPrivate = 128
	for atomic.LoadUint32(state) == selfckpt.Starting {
		unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(state)), futexWaitPrivate, selfckpt.Starting, 0, 0, 0)
	}
	if atomic.LoadUint32(state) != selfckpt.Registered {
		ctrl.close()
		return false
	}
	callbackCtrl = ctrl
	return true
}
