package entry

import (
	"syscall"
	"unsafe"

	// The entry point calls its selfckpt_install.
	_ "blcr-cli/internal/ckpt/kernel/selfckpt"
)

// The runtime answers these signals with a trace of all goroutines and status 2. They have
// their default action, until the program decides otherwise: the entry point keeps the runtime
// from installing its handler, and without that they get it back here. Package signals can
// catch them afterwards; os/signal cannot.
func init() {
	if recorded != 0 {
		return
	}
	for _, sig := range []syscall.Signal{syscall.SIGQUIT, syscall.SIGTRAP, syscall.SIGABRT, syscall.SIGSTKFLT, syscall.SIGSYS} {
		if !Ignored(sig) {
			var plain [4]uint64 // struct sigaction, SIG_DFL, in any layout
			_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&plain)), 0, 8, 0, 0)
		}
	}
}
