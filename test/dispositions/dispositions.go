// Package dispositions makes a test process independent of the signal
// dispositions that it was started with. nohup ignores SIGHUP, a background
// command of a script ignores SIGINT and SIGQUIT, a tmux pane ignores SIGTTIN and
// SIGTTOU; programs that a test starts would inherit that.
package dispositions

import (
	"syscall"
	"unsafe"
)

// Reset gives every ignored signal its default action. It is for TestMain, before
// anything is started.
func Reset() {
	const (
		sigIgn  = 1
		setSize = 8
	)
	for sig := uintptr(1); sig <= 64; sig++ {
		// The kernel's struct sigaction, which begins with the handler.
		var old, plain [8]uintptr
		syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, sig, 0, uintptr(unsafe.Pointer(&old)), setSize, 0, 0)
		if old[0] == sigIgn {
			syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, sig, uintptr(unsafe.Pointer(&plain)), 0, setSize, 0, 0)
		}
	}
}
