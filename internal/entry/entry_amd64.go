package entry

import (
	"syscall"
	"unsafe"
)

// The runtime answers these with a trace of all goroutines and status 2. Before
// anybody has said what they are to do, they are to do what they do to any program.
// (After that os/signal cannot have them; package signals can.)
func init() {
	for _, sig := range []syscall.Signal{syscall.SIGQUIT, syscall.SIGTRAP, syscall.SIGABRT, syscall.SIGSTKFLT, syscall.SIGSYS} {
		if !Ignored(sig) {
			var plain [4]uint64 // struct sigaction, SIG_DFL, in any layout
			_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&plain)), 0, 8, 0, 0)
		}
	}
}
