package binary

import (
	"encoding/binary"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// debugRegister0 is where the debug registers are in the kernel's struct user (user_64.h),
// 8 bytes each.
const debugRegister0 = 848

// breakpointsWork reports whether this machine delivers hardware breakpoints, which CRIU
// waits for at the end of a dump. Some virtual machines take them and deliver none, such as
// those of AMD SEV without virtual debug registers. A breakpoint is set at the first
// instruction of the program at path, which is to execute one instruction: it stops before
// that if the breakpoint is delivered, and behind it otherwise. Then it is ended. Where
// that cannot be tried, as under strace -f, the answer is no: CRIU needs none.
func breakpointsWork(path string) bool {
	// All requests have to come from the thread that is the parent.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	pid, err := syscall.ForkExec(path, []string{path, "--version"}, &syscall.ProcAttr{
		Env: environment(""), Sys: &syscall.SysProcAttr{Ptrace: true, Setpgid: true},
	})
	if err != nil {
		return false
	}
	end := func() { _ = unix.Kill(-pid, unix.SIGKILL) }
	late := time.AfterFunc(limit, end)
	defer func() {
		late.Stop()
		end()
		for await(pid).Stopped() {
		}
	}()
	if !await(pid).Stopped() { // as exec does where there is a tracer
		return false
	}
	var before, after unix.PtraceRegs
	if unix.PtraceGetRegs(pid, &before) != nil {
		return false
	}
	word := func(n uint64) []byte { return binary.NativeEndian.AppendUint64(nil, n) }
	for _, register := range []struct {
		number int
		value  uint64
	}{{0, before.Rip}, {7, 1}} { // enabled: to be executed
		if _, err := unix.PtracePokeUser(pid, uintptr(debugRegister0+8*register.number), word(register.value)); err != nil {
			return false
		}
	}
	// One instruction: it stops behind it at the latest.
	if unix.PtraceSingleStep(pid) != nil || !await(pid).Stopped() || unix.PtraceGetRegs(pid, &after) != nil {
		return false
	}
	return after.Rip == before.Rip
}

// await waits for the child to stop or to end.
func await(pid int) (status unix.WaitStatus) {
	for {
		if _, err := unix.Wait4(pid, &status, 0, nil); err != unix.EINTR {
			return status
		}
	}
}
