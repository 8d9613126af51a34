package hints

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/show"
)

// Limits says which limit an error of that number comes from, and how to get on.
func Limits(errno syscall.Errno) []string {
	switch errno {
	case unix.EMFILE:
		var l unix.Rlimit
		if unix.Getrlimit(unix.RLIMIT_NOFILE, &l) == nil {
			return []string{fmt.Sprintf("a process may have %d files open here (ulimit -n), at most %d (ulimit -Hn)", l.Cur, l.Max)}
		}
	case unix.ENFILE:
		if n := numbersIn("/proc/sys/fs/file-nr"); len(n) == 3 {
			return []string{fmt.Sprintf("all processes of this machine have %d files open, of %d that they may have: see sysctl fs.file-max", n[0], n[2])}
		}
	case unix.EAGAIN:
		return Processes()
	case unix.ENOMEM:
		return Memory()
	}
	return nil
}

// Processes says why there can be no more processes, nothing where there is no limit
// near.
func Processes() []string {
	const near = 32 // threads that a request may need at a time
	var said []string
	var l unix.Rlimit
	if uid := os.Getuid(); uid != 0 && unix.Getrlimit(unix.RLIMIT_NPROC, &l) == nil && l.Cur < 1<<31 {
		if n := threadsOf(uid); n+near > l.Cur {
			said = append(said, fmt.Sprintf("%s has %d processes and threads, of %d (ulimit -u)", User(uid), n, l.Cur))
		}
	}
	for _, g := range groups("pids") {
		most, now := numbersIn(g.path+"/pids.max"), numbersIn(g.path+"/pids.current")
		if len(most) == 1 && len(now) == 1 && now[0]+near > most[0] {
			said = append(said, fmt.Sprintf("the control group %s has %d processes and threads, of %d (pids.max)", show.Name(g.name), now[0], most[0]))
		}
	}
	if n := numbersIn("/proc/sys/kernel/threads-max"); len(said) == 0 && len(n) == 1 && near > n[0] {
		said = append(said, fmt.Sprintf("this machine may have %d threads: see sysctl kernel.threads-max", n[0]))
	}
	return said
}

// Memory says where there is little of it.
func Memory() []string {
	var said []string
	var l unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_AS, &l) == nil && l.Cur < 1<<62 {
		said = append(said, fmt.Sprintf("a process may have %s of address space here (ulimit -v)", show.Size(l.Cur)))
	}
	for _, g := range groups("memory") {
		for _, names := range [][2]string{{"memory.max", "memory.current"}, {"memory.limit_in_bytes", "memory.usage_in_bytes"}} {
			most, now := numbersIn(g.path+"/"+names[0]), numbersIn(g.path+"/"+names[1])
			if len(most) == 1 && len(now) == 1 && most[0] < 1<<60 {
				said = append(said, fmt.Sprintf("the control group %s uses %s of memory, of %s (%s)", show.Name(g.name), show.Size(now[0]), show.Size(most[0]), names[0]))
			}
		}
	}
	if len(said) > 0 {
		return said
	}
	text, _ := os.ReadFile("/proc/meminfo")
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "MemAvailable:" {
			n, _ := strconv.ParseUint(f[1], 10, 64)
			said = append(said, fmt.Sprintf("this machine has %s of memory left", show.Size(n<<10)))
		}
	}
	return said
}

// group is a control group that this process is in, or one above it.
type group struct{ name, path string }

// groups are those with a controller, the own one first. The highest has no limits.
func groups(controller string) []group {
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil
	}
	var found []group
	for line := range strings.Lines(string(text)) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(f) < 3 {
			continue
		}
		for _, root := range []string{"/sys/fs/cgroup/" + controller, "/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
			if f[1] != "" && (f[1] != controller || filepath.Base(root) != controller) || f[1] == "" && filepath.Base(root) == controller {
				continue
			}
			for name := f[2]; len(name) > 1; name = filepath.Dir(name) {
				found = append(found, group{name, root + name})
			}
		}
	}
	return found
}

// numbersIn are the numbers in a small file; none if there is anything else in it,
// such as "max".
func numbersIn(name string) []uint64 {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil
	}
	var found []uint64
	for _, word := range strings.Fields(string(text)) {
		n, err := strconv.ParseUint(word, 10, 64)
		if err != nil {
			return nil
		}
		found = append(found, n)
	}
	return found
}

// threadsOf counts what a user has of them.
func threadsOf(uid int) uint64 {
	names, _ := filepath.Glob("/proc/[0-9]*")
	n := uint64(0)
	for _, name := range names {
		var st unix.Stat_t
		if unix.Stat(name, &st) != nil || int(st.Uid) != uid {
			continue
		}
		if tasks, err := os.ReadDir(name + "/task"); err == nil {
			n += uint64(len(tasks))
		}
	}
	return n
}
