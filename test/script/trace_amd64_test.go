package script_test

import (
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestNoTraces: the Go runtime never gets a handler for the signals that it answers with a
// trace of all goroutines, not even before the first code of a command runs. In cr_checkpoint it
// is started only in the worker, by the same entry point.
func TestNoTraces(t *testing.T) {
	runtime.LockOSThread() // which is the one that traces
	defer runtime.UnlockOSThread()
	traces := []uint64{uint64(unix.SIGQUIT), uint64(unix.SIGTRAP), uint64(unix.SIGABRT), uint64(unix.SIGSTKFLT), uint64(unix.SIGSYS)}
	for _, name := range []string{"cr_restart", "cr_info"} {
		cmd := exec.Command(filepath.Join(bin, name), "--version")
		cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
		if err := cmd.Start(); err != nil {
			t.Skip(err)
		}
		pid, set := cmd.Process.Pid, 0
		defer cmd.Process.Kill()
		for {
			var status unix.WaitStatus
			if _, err := unix.Wait4(pid, &status, 0, nil); err != nil {
				t.Fatal(err)
			}
			if !status.Stopped() {
				break
			}
			deliver := 0
			if sig := status.StopSignal(); sig != unix.SIGTRAP {
				deliver = int(sig)
			}
			var regs unix.PtraceRegs
			if unix.PtraceGetRegs(pid, &regs) == nil && deliver == 0 && regs.Orig_rax == unix.SYS_RT_SIGACTION && regs.Rsi != 0 {
				set++
				for _, sig := range traces {
					if regs.Rdi == sig {
						t.Errorf("%s sets an action for %v", name, syscall.Signal(sig))
					}
				}
			}
			if err := unix.PtraceSyscall(pid, deliver); err != nil {
				t.Fatal(err)
			}
		}
		if set == 0 {
			t.Errorf("%s sets no action at all", name)
		}
	}
}
