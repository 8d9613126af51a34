package pstree

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/proc"
)

// MostFiles returns how many files CRIU can have open at a time if this process starts it.
func MostFiles() uint64 {
	most := uint64(unix.RLIM_INFINITY)
	var limit unix.Rlimit
	if !proc.Capable(unix.CAP_SYS_RESOURCE) && unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) == nil {
		most = limit.Max
	}
	// A limit that was set before this was lowered may be above it.
	if machine := proc.Numbers("/proc/sys/fs/nr_open"); len(machine) == 1 {
		most = min(most, machine[0])
	}
	return most
}

// FewFiles says how many files CRIU must be able to have open to restore a process whose highest
// descriptor has that number, and what to do, if it can have no more than most. Otherwise both are "".
// CRIU has descriptors of its own above those of the process (choose_service_fd_base).
func FewFiles(highest int, most uint64) (said, hint string) {
	const own, unit = 32, 128
	needed := uint64(highest) + own
	if most/unit*unit >= needed {
		return "", ""
	}
	needed = (needed + unit - 1) / unit * unit
	said = fmt.Sprintf("has descriptor %d open, and criu needs a limit of %d open files to restore that, where it can have %d here", highest, needed, most)
	if proc.Capable(unix.CAP_SYS_RESOURCE) {
		return said, fmt.Sprintf("raise what this machine allows, 'sysctl fs.nr_open=%d'", needed)
	}
	return said, fmt.Sprintf("have root raise it for this shell, 'sudo prlimit --pid $$ --nofile=%d'", needed)
}

// highDescriptor refuses a process with a descriptor that CRIU could save and not restore here.
func (p *preflight) highDescriptor(s *subject, highest int) {
	if said, hint := FewFiles(highest, p.mostFiles); said != "" {
		p.refuse(syscall.EMFILE, s, said, hint)
	}
}
