package criu

import (
	"fmt"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt/criu/images"
	"blcr-cli/internal/ckpt/criu/pstree"
	"blcr-cli/internal/proc"
)

// Nobody has limits of resources above the hard ones of cr_restart without the capability
// CAP_SYS_RESOURCE, and criu leaves a limit that it cannot set as it is. So a job whose
// limits in force are above is refused. A hard limit alone that is above becomes that of
// cr_restart: what is in force is as it was.

// limitNames are those of prlimit(1), by the numbers of getrlimit(2).
var limitNames = [...]string{
	unix.RLIMIT_CPU: "cpu", unix.RLIMIT_FSIZE: "fsize", unix.RLIMIT_DATA: "data", unix.RLIMIT_STACK: "stack",
	unix.RLIMIT_CORE: "core", unix.RLIMIT_RSS: "rss", unix.RLIMIT_NPROC: "nproc", unix.RLIMIT_NOFILE: "nofile",
	unix.RLIMIT_MEMLOCK: "memlock", unix.RLIMIT_AS: "as", unix.RLIMIT_LOCKS: "locks", unix.RLIMIT_SIGPENDING: "sigpending",
	unix.RLIMIT_MSGQUEUE: "msgqueue", unix.RLIMIT_NICE: "nice", unix.RLIMIT_RTPRIO: "rtprio", unix.RLIMIT_RTTIME: "rttime",
}

// noLimit is the value for none.
const noLimit = ^uint64(0)

// highestLimits returns the highest limits that a job can get from this process, by their
// numbers, nil if it can get any.
func highestLimits() []uint64 {
	highest := make([]uint64, len(limitNames))
	may := proc.Capable(unix.CAP_SYS_RESOURCE)
	for i := range highest {
		highest[i] = noLimit
		var own unix.Rlimit
		if !may && unix.Getrlimit(i, &own) == nil && own.Max != unix.RLIM_INFINITY {
			highest[i] = own.Max
		}
	}
	highest[unix.RLIMIT_NOFILE] = pstree.MostFiles()
	if !slices.ContainsFunc(highest, func(most uint64) bool { return most != noLimit }) {
		return nil
	}
	return highest
}

// limits looks for limits that the job cannot get.
func (f *foresight) limits() error { return f.limitsAbove(highestLimits()) }

// room looks for limits of processes and threads.
func (f *foresight) room() error {
	threads := 0
	for _, task := range f.plan.tasks {
		threads += max(len(task.Threads), 1)
	}
	for _, said := range fewThreads(threads) {
		f.obstacle(syscall.EAGAIN, "job", fmt.Sprintf("the job has %d processes and threads, and %s", threads, said), moreThreads)
	}
	return nil
}

// openFiles looks for a limit of open files that is too low for CRIU.
func (f *foresight) openFiles() error {
	most := pstree.MostFiles()
	tables, err := f.plan.tables(f.source)
	if err != nil {
		return err
	}
	return f.plan.eachTable(f.source, func(n uint32, pid int32) error {
		highest := -1
		for _, fd := range tables[n] {
			highest = max(highest, int(fd.FD))
		}
		if said, hint := pstree.FewFiles(highest, most); said != "" {
			f.obstacle(syscall.EMFILE, "job", fmt.Sprintf("process %d of the job %s", pid, said), hint)
		}
		return nil
	})
}

func (f *foresight) limitsAbove(highest []uint64) error {
	if highest == nil {
		return nil
	}
	var had [len(limitNames)]images.Limit // the highest of all processes
	for _, task := range f.plan.tasks {
		limits, err := images.Read(f.source, images.Name("core", task.PID), images.Limits)
		if err != nil {
			return err
		}
		for i, l := range limits[:min(len(limits), len(had))] {
			had[i] = images.Limit{Soft: max(had[i].Soft, l.Soft), Hard: max(had[i].Hard, l.Hard)}
		}
	}
	var above, options, lowered []string
	for i, l := range had {
		switch {
		case l.Soft > highest[i]:
			above = append(above, fmt.Sprintf("%s was %s and can be %s", limitNames[i], limitText(l.Soft), limitText(highest[i])))
			options = append(options, fmt.Sprintf(" --%s=%s", limitNames[i], limitText(l.Soft)))
		case l.Hard > highest[i]:
			lowered = append(lowered, limitNames[i])
		}
	}
	if lowered != nil {
		f.Notes = append(f.Notes, "hard limits that become those of cr_restart, which are lower: "+strings.Join(lowered, ", "))
	}
	if above == nil || f.request.AnyLimits {
		return nil
	}
	hint := "have root raise them for this shell, 'sudo prlimit --pid $$" + strings.Join(options, "") + "', or lower the job's by cr_restart --limits-any"
	if most := had[unix.RLIMIT_NOFILE].Soft; proc.Capable(unix.CAP_SYS_RESOURCE) {
		hint = fmt.Sprintf("raise what this machine allows, 'sysctl fs.nr_open=%d', or lower the job's by cr_restart --limits-any", most)
	}
	f.obstacle(syscall.EPERM, "limits", "limits of the job are above the hard limits of this cr_restart: "+strings.Join(above, ", "), hint)
	return nil
}

// limitText is a limit as prlimit(1) has it.
func limitText(value uint64) string {
	if value == noLimit {
		return "unlimited"
	}
	return fmt.Sprint(value)
}
