package criu

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/criu/remote"
	"blcr-cli/internal/hints"
	"blcr-cli/internal/proc"
)

// dispatchLimit is how long the threads of all processes are waited for.
const dispatchLimit = 2 * time.Second

// checkDispatch is the error for a process with a thread whose system calls become signals
// (PR_SET_SYSCALL_USER_DISPATCH): criu has threads make system calls, and it would die of that.
// Linux shows it to tracers only. It takes a handler for SIGSYS. For such a process the
// checkpoint begins a moment earlier, which --check is not to do.
func checkDispatch(pids []int) (err error) {
	deadline := time.Now().Add(dispatchLimit)
	remote.Run(func() (late int) {
		for _, pid := range pids {
			if !proc.Catches(pid, int(unix.SIGSYS)) {
				continue
			}
			for _, tid := range proc.Threads(pid) {
				if remote.Dispatches(remote.Thread{PID: pid, TID: tid, Stopped: true, Deadline: deadline}) {
					err = &ckpt.Error{Op: "checkpoint", Object: "processes", Errno: syscall.EOPNOTSUPP, Detail: []string{
						hints.Process(pid) + " gets its own system calls as signals (PR_SET_SYSCALL_USER_DISPATCH), and would die of those that criu has it make",
						"save it before it does that, or start it without that",
					}}
					return 0
				}
				if time.Now().After(deadline) {
					late = tid
				}
			}
		}
		return late
	})
	return err
}
