package hints

import (
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/proc"
	"blcr-cli/internal/show"
)

// Limits says which limit of this process or of the machine causes an error of that
// number.
func Limits(errno syscall.Errno) []string {
	switch errno {
	case unix.EMFILE:
		var l unix.Rlimit
		if unix.Getrlimit(unix.RLIMIT_NOFILE, &l) == nil {
			return []string{fmt.Sprintf("a process may have %d files open here (ulimit -n), at most %d (ulimit -Hn)", l.Cur, l.Max)}
		}
	case unix.ENFILE:
		if n := proc.Numbers("/proc/sys/fs/file-nr"); len(n) == 3 {
			return []string{fmt.Sprintf("all processes of this machine have %d files open, of %d that they may have: see sysctl fs.file-max", n[0], n[2])}
		}
	case unix.EAGAIN:
		return Processes()
	case unix.ENOMEM:
		return Memory()
	}
	return nil
}

// Processes says why no more processes can be created. It returns nothing if no limit
// is near.
func Processes() []string { return MoreProcesses(32) } // threads that a request may need at the same time

// MoreProcesses says which limits keep so many more processes and threads from being created.
func MoreProcesses(more uint64) []string {
	var said []string
	var l unix.Rlimit
	if uid := os.Getuid(); uid != 0 && !proc.Capable(unix.CAP_SYS_RESOURCE) && !proc.Capable(unix.CAP_SYS_ADMIN) && unix.Getrlimit(unix.RLIMIT_NPROC, &l) == nil && threadsHere()+more > l.Cur {
		if n := threadsOf(uid); n+more > l.Cur {
			said = append(said, fmt.Sprintf("%s has %d processes and threads, of %d (ulimit -u)", User(uid), n, l.Cur))
		}
	}
	for _, g := range proc.ControlGroups(os.Getpid(), "pids") {
		most, now := proc.Numbers(g.Dir+"/pids.max"), proc.Numbers(g.Dir+"/pids.current")
		if len(most) == 1 && len(now) == 1 && now[0]+more > most[0] {
			said = append(said, fmt.Sprintf("the control group %s has %d processes and threads, of %d (pids.max)", show.Name(g.Name), now[0], most[0]))
		}
	}
	if n := proc.Numbers("/proc/sys/kernel/threads-max"); len(said) == 0 && len(n) == 1 && more > n[0] {
		said = append(said, fmt.Sprintf("this machine may have %d threads: see sysctl kernel.threads-max", n[0]))
	}
	return said
}

// Memory says what limits the memory of this process and its children. The
// machine's own memory is mentioned only if little of it is left: otherwise it is
// not the cause.
func Memory() []string {
	var said []string
	var l unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_AS, &l) == nil && l.Cur < 1<<62 {
		said = append(said, fmt.Sprintf("a process may have %s of address space here (ulimit -v)", show.Size(l.Cur)))
	}
	for _, m := range proc.MemoryLimits(os.Getpid()) {
		said = append(said, fmt.Sprintf("the control group %s uses %s of memory, of %s (%s)", show.Name(m.Group.Name), show.Size(m.Now), show.Size(m.Limit), m.File))
	}
	if len(said) > 0 {
		return said
	}
	strict := proc.Numbers("/proc/sys/vm/overcommit_memory")
	return machineMemory(proc.MachineMemory(), len(strict) == 1 && strict[0] == 2)
}

// Killed says which control groups of this process the kernel has killed processes of, for want
// of memory, as it may have done with one that died of SIGKILL.
func Killed() []string {
	var said []string
	for _, m := range proc.MemoryLimits(os.Getpid()) {
		if proc.KilledForMemory(m.Group) > 0 {
			said = append(said, fmt.Sprintf("the kernel has killed processes of the control group %s for want of memory, of which it may have %s (%s)", show.Name(m.Group.Name), show.Size(m.Limit), m.File))
		}
	}
	return said
}

// machineMemory returns the part of Memory that concerns the whole machine. strict says
// that the kernel does not overcommit memory.
func machineMemory(m map[string]uint64, strict bool) []string {
	total, left := m["MemTotal"], m["MemAvailable"]
	if most, given := m["CommitLimit"], m["Committed_AS"]; strict && given > most-most/8 {
		return []string{fmt.Sprintf("the processes of this machine have asked for %s of memory, of %s that they may have: see sysctl vm.overcommit_memory", show.Size(given), show.Size(most))}
	}
	if left < total/8 {
		return []string{fmt.Sprintf("this machine has %s of memory left, of %s", show.Size(left), show.Size(total))}
	}
	return nil
}

// threadsHere returns the number of threads of this machine, which takes less time than those
// of a user.
func threadsHere() uint64 {
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil || info.Procs >= 1<<15 { // it has 16 bits
		return 1 << 31
	}
	return uint64(info.Procs)
}

// threadsOf returns the number of threads of a user.
func threadsOf(uid int) uint64 {
	table, _ := proc.All()
	n := uint64(0)
	for pid := range table {
		if owner, err := proc.Owner(pid); err == nil && owner == uid {
			n += uint64(len(proc.Threads(pid)))
		}
	}
	return n
}
