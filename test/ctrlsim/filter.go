//go:build linux && amd64

package ctrlsim

import (
	"fmt"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt/kernel/abi"
)

// What the kernel puts before a filter, struct seccomp_data of
// <linux/seccomp.h>.
type seccompData struct {
	Nr   int32
	Arch uint32
	IP   uint64
	Args [6]uint64
}

const (
	offNr   = uint32(unsafe.Offsetof(seccompData{}.Nr))
	offArch = uint32(unsafe.Offsetof(seccompData{}.Arch))
	offArgs = uint32(unsafe.Offsetof(seccompData{}.Args))
)

// untraced are calls that Command.OnCall does not get: those that the Go runtime
// makes of its own accord to wait for its threads and to preempt them.
var untraced = []int{
	unix.SYS_FUTEX, unix.SYS_SCHED_YIELD, unix.SYS_NANOSLEEP, unix.SYS_CLOCK_NANOSLEEP, unix.SYS_EPOLL_PWAIT,
	unix.SYS_RT_SIGRETURN, unix.SYS_GETPID, unix.SYS_TGKILL, unix.SYS_MADVISE,
}

// assembleFilter makes the BPF program that hands over the openings, the ioctls
// of BLCR's type and the given further system calls, and allows everything
// else. It is written for few instructions on the way to "allow". With every it
// hands over all but the untraced ones. With writing it hands over openings for writing
// only, as that of the control file is one.
func assembleFilter(count []int, every, writing bool) ([]unix.SockFilter, error) {
	// One of them may open the control file, or ask whether it could be opened.
	trap := []int{unix.SYS_FACCESSAT}
	if !writing {
		trap = append(trap, unix.SYS_OPENAT)
	}
	for _, nr := range count {
		if nr != unix.SYS_IOCTL && nr != unix.SYS_CLONE && !slices.Contains(trap, nr) {
			trap = append(trap, nr)
		}
	}
	slices.Sort(trap)

	const (
		ld  = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		jeq = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		jge = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
		set = unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K
		and = unix.BPF_ALU | unix.BPF_AND | unix.BPF_K
		ret = unix.BPF_RET | unix.BPF_K
	)
	var (
		prog  []unix.SockFilter
		fixes []int // jumps with 1 for "allow" and 2 for "notify" to be filled in
	)
	const allow, notify = 1, 2
	emit := func(code uint16, k uint32, jt, jf uint8) {
		if jt != 0 || jf != 0 {
			fixes = append(fixes, len(prog))
		}
		prog = append(prog, unix.SockFilter{Code: code, Jt: jt, Jf: jf, K: k})
	}
	emit(ld, offArch, 0, 0)
	emit(jeq, unix.AUDIT_ARCH_X86_64, 0, allow)
	emit(ld, offNr, 0, 0)
	emit(jge, 1<<30, allow, 0) // x32
	if every {
		for _, nr := range untraced {
			emit(jeq, uint32(nr), allow, 0)
		}
		emit(jge, 0, notify, notify)
	}
	for _, nr := range trap {
		emit(jeq, uint32(nr), notify, 0)
	}
	// The rest looks at arguments. Jumps that are not to the end are relative
	// already, so these blocks are put together by hand.
	if writing {
		prog = append(prog, unix.SockFilter{Code: jeq, Jf: 2, K: unix.SYS_OPENAT})
		emit(ld, offArgs+16, 0, 0)
		emit(set, unix.O_ACCMODE, notify, allow)
	}
	if slices.Contains(count, unix.SYS_CLONE) {
		prog = append(prog, unix.SockFilter{Code: jeq, Jf: 2, K: unix.SYS_CLONE})
		emit(ld, offArgs, 0, 0)
		emit(set, unix.CLONE_THREAD, allow, notify)
	}
	emit(jeq, unix.SYS_IOCTL, 0, allow)
	emit(ld, offArgs+8, 0, 0)
	emit(and, 0xff00, 0, 0)
	emit(jeq, abi.IocType<<8, notify, allow)
	atAllow, atNotify := len(prog), len(prog)+1
	emit(ret, unix.SECCOMP_RET_ALLOW, 0, 0)
	emit(ret, unix.SECCOMP_RET_USER_NOTIF, 0, 0)

	for _, at := range fixes {
		for _, j := range []*uint8{&prog[at].Jt, &prog[at].Jf} {
			var to int
			switch *j {
			case allow:
				to = atAllow
			case notify:
				to = atNotify
			default:
				continue
			}
			if to-at-1 > 255 {
				return nil, fmt.Errorf("too many system calls in the filter")
			}
			*j = uint8(to - at - 1)
		}
	}
	return prog, nil
}

// installFilter puts the filter on the calling thread, and on what it forks,
// clones and execs from then on, and returns the listener. The caller has
// locked the thread.
func installFilter(prog []unix.SockFilter) (listener int, err error) {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return -1, fmt.Errorf("PR_SET_NO_NEW_PRIVS: %w", err)
	}
	fprog := unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
	// Once the supervisor has taken a notification up, only a fatal signal may
	// take it away again: it has side effects. Kernels before 5.19 lack that.
	const killable = unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
	for _, flags := range []uintptr{killable, 0} {
		// Raw: the runtime may make system calls when it returns from others.
		fd, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER,
			unix.SECCOMP_FILTER_FLAG_NEW_LISTENER|flags, uintptr(unsafe.Pointer(&fprog)))
		switch errno {
		case 0:
			return int(fd), nil
		case unix.EINVAL:
			err = errno
		case unix.EBUSY:
			return -1, fmt.Errorf("seccomp: there is a listener already: %w", errno)
		default:
			return -1, fmt.Errorf("seccomp: %w", errno)
		}
	}
	return -1, fmt.Errorf("seccomp: %w", err)
}
