package proc

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Setting returns what a small file of /proc says about a process, or a thread:
// "attr/current", "coredump_filter", "oom_score_adj", "personality" or "timerslack_ns".
// The error is that of open(2) or read(2): ENOENT where the kernel does not have it.
func Setting(id int, name string) (string, error) {
	text, err := read(fmt.Sprintf("/proc/%d/%s", id, name))
	return strings.TrimSpace(string(text)), err
}

// Set writes such a file.
func Set(id int, name, value string) error {
	fd, err := unix.Open(fmt.Sprintf("/proc/%d/%s", id, name), unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte(value))
	return err
}

// AllowedCPUs returns the processors that a process may run on unless it, or what
// has started it, has chosen some of them: those of its control group, or else all
// that are in use.
func AllowedCPUs(pid int) (unix.CPUSet, error) {
	names := []string{}
	for _, g := range ControlGroups(pid, "cpuset") {
		names = append(names, g.Dir+"/cpuset.cpus.effective", g.Dir+"/cpuset.effective_cpus")
	}
	var err error
	for _, name := range append(names, "/sys/devices/system/cpu/online") {
		var text []byte
		if text, err = read(name); err == nil {
			return ParseCPUs(strings.TrimSpace(string(text)))
		}
	}
	return unix.CPUSet{}, err
}

// ParseCPUs reads a list as the kernel writes it: "0-3,8". The error is EINVAL for
// any other text, and for a number that does not fit into a set.
func ParseCPUs(list string) (set unix.CPUSet, err error) {
	for part := range strings.SplitSeq(list, ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		from, err1 := strconv.Atoi(first)
		to, err2 := strconv.Atoi(last)
		if err1 != nil || err2 != nil || from < 0 || to < from || to >= len(set)*64 {
			return unix.CPUSet{}, unix.EINVAL
		}
		for cpu := from; cpu <= to; cpu++ {
			set.Set(cpu)
		}
	}
	return set, nil
}
