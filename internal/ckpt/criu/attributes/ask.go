package attributes

import (
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt/criu/remote"
	"blcr-cli/internal/proc"
)

// askLimit is how long all processes together are asked. One that waits uninterruptibly does not
// answer.
const askLimit = 2 * time.Second

// Ask has processes say what Linux shows nowhere: of those with no_new_privs, whether they have
// forbidden themselves to write and execute the same memory (PR_SET_MDWE), and, of those that have
// memory locked, whether their future mappings are to be locked as well (mlockall(2)). A process
// that is stopped, or in 32-bit code, does not answer, nor does one that is not there any more. The
// processes run on.
func Ask(pids []int) map[int]Asked {
	answers := make(map[int]Asked)
	_, _, errno := unix.RawSyscall6(unix.SYS_PRCTL, unix.PR_GET_MDWE, 0, 0, 0, 0, 0)
	hasMDWE := errno == 0
	if !remote.Supported {
		return answers
	}
	remote.Run(func() (late int) {
		deadline := time.Now().Add(askLimit)
		for _, pid := range pids {
			locks := proc.LocksMemory(pid)
			confined, filtered := proc.Confined(pid)
			// To ask all processes is not worth it: one that is asked is lost if this process is
			// killed just then.
			mayMDWE := hasMDWE && confined
			if !mayMDWE && !locks || time.Now().After(deadline) {
				continue
			}
			t := remote.Thread{PID: pid, TID: pid, Filtered: filtered && proc.Capable(unix.CAP_SYS_ADMIN), Deadline: deadline}
			if filtered && !t.Filtered {
				continue // it might be killed for it
			}
			var a Asked
			if mayMDWE {
				if bits, ok := remote.Call(t, unix.SYS_PRCTL, unix.PR_GET_MDWE); ok && bits > 0 {
					a.MDWE = uint64(bits)
				}
			}
			if locks {
				a.Future = futureLocks(t)
			}
			if a != (Asked{}) {
				answers[pid] = a
			}
			if time.Now().After(deadline) {
				late = pid
			}
		}
		return late
	})
	return answers
}

// futureLocks has a thread map a page, which it may not even read, where it is the first of the
// process's mappings, and looks whether it is locked.
func futureLocks(t remote.Thread) (flags uint64) {
	const first, page = 0x10000, 4096 // vm.mmap_min_addr
	at, ok := remote.Call(t, unix.SYS_MMAP, first, page, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS, ^uint64(0), 0)
	if !ok || at <= 0 {
		return 0
	}
	for m := range proc.FlaggedMappings(t.PID) {
		if uint64(at) >= m.Start && uint64(at) < m.End {
			if m.Has("lo") {
				flags = unix.MCL_FUTURE
			}
			if m.Has("lf") {
				flags |= unix.MCL_ONFAULT
			}
			break
		}
	}
	remote.Call(t, unix.SYS_MUNMAP, uint64(at), page)
	return flags
}
