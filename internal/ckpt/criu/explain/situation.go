package explain

import (
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/proc"
	"blcr-cli/internal/show"
)

// situation is the processes that CRIU was to save, and which of them it was
// saving when it failed. They run on, and are looked at only now: what they have
// open may have changed. The zero value is a situation without processes.
type situation struct {
	proc string      // for tests: a directory to read instead of /proc
	ours map[int]int // pids in our pid namespace by those that CRIU names
	tree []int       // all processes
	pid  int         // the one that CRIU was saving; 0 if it does not say

	// hint is what to do, of the rule that is being tried. The rule's say may
	// set another one.
	hint string
}

func newSituation(f Failure) *situation {
	s := &situation{tree: f.Tree}
	if !f.Inside {
		return s
	}
	s.ours = make(map[int]int)
	for _, pid := range s.tree {
		if inner, err := proc.InnerPids(pid); err == nil {
			s.ours[inner[len(inner)-1]] = pid
		}
	}
	return s
}

// begin finds out which process CRIU was saving.
func (s *situation) begin(log []string) {
	for _, text := range log {
		if m := aboutPid().FindStringSubmatch(text); m != nil {
			s.pid = s.our(m[1] + m[2])
			return
		}
	}
	if len(s.tree) == 1 {
		s.pid = s.tree[0]
	}
}

// our is the pid in our pid namespace of a process that CRIU names.
func (s *situation) our(text string) int {
	pid, _ := strconv.Atoi(text)
	if ours, ok := s.ours[pid]; ok {
		return ours
	}
	return pid
}

// file is the path of a process's file in /proc.
func (s *situation) file(pid int, name string) string {
	dir := s.proc
	if dir == "" {
		dir = "/proc"
	}
	return path.Join(dir, itoa(pid), name)
}

// who names the process that CRIU was saving.
func (s *situation) who() string {
	if s.pid == 0 {
		return "one of the processes"
	}
	return s.process(s.pid)
}

// named names a process by the pid that CRIU has written.
func (s *situation) named(text string) string { return s.process(s.our(text)) }

func (s *situation) process(pid int) string {
	comm, err := os.ReadFile(s.file(pid, "comm"))
	if err != nil {
		return "process " + itoa(pid)
	}
	return fmt.Sprintf("process %d (%s)", pid, show.Name(strings.TrimSuffix(string(comm), "\n")))
}

// owner is the user of a process, -1 if that cannot be seen.
func (s *situation) owner(pid int) int {
	var st unix.Stat_t
	if unix.Stat(s.file(pid, ""), &st) != nil {
		return -1
	}
	return int(st.Uid)
}

// link is what a descriptor of the process leads to, "" if that cannot be seen.
func (s *situation) link(fd string) string {
	to, _ := os.Readlink(s.file(s.pid, "fd/"+fd))
	return to
}

// find is the first descriptor of the process that leads to such a thing, -1 for
// none.
func (s *situation) find(is func(to string) bool) int {
	if fds := s.findAll(is); len(fds) > 0 {
		return fds[0]
	}
	return -1
}

func (s *situation) findAll(is func(to string) bool) []int {
	entries, _ := os.ReadDir(s.file(s.pid, "fd"))
	var fds []int
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil && is(s.link(e.Name())) {
			fds = append(fds, fd)
		}
	}
	slices.Sort(fds)
	return fds
}

// openAs names the descriptor that leads to one of these: " as descriptor 3".
func (s *situation) openAs(names ...string) string {
	if fd := s.find(func(to string) bool { return slices.Contains(names, to) }); fd >= 0 {
		return " as descriptor " + itoa(fd)
	}
	return ""
}

// onlySocket names the sockets of the process. /proc does not show of which family
// they are.
func (s *situation) onlySocket() string {
	switch fds := s.findAll(func(to string) bool { return strings.HasPrefix(to, "socket:") }); len(fds) {
	case 0:
		return ""
	case 1:
		return " as descriptor " + itoa(fds[0])
	default:
		return ", among its descriptors " + list(fds)
	}
}

// socket is the sentence for a socket that CRIU names by its inode, in hexadecimal.
func (s *situation) socket(inode, what string) string {
	n, _ := strconv.ParseUint(inode, 16, 64)
	to := fmt.Sprintf("socket:[%d]", n)
	if s.find(func(s string) bool { return s == to }) < 0 {
		for _, pid := range s.tree {
			there := *s
			if there.pid = pid; there.openAs(to) != "" {
				s.pid = pid
				break
			}
		}
	}
	return s.who() + " has " + what + " open" + s.openAs(to) + cannot
}

// asDescriptor is a descriptor that CRIU names; negative ones are its own.
func asDescriptor(fd string) string {
	if strings.HasPrefix(fd, "-") {
		return ""
	}
	return " as descriptor " + fd
}

// mapping is the name and inode of what the process has mapped from an address on.
func (s *situation) mapping(start uint64) (name string, inode uint64) {
	text, _ := os.ReadFile(s.file(s.pid, "maps"))
	for line := range strings.Lines(string(text)) {
		// "7fdc0feb9000-7fdc0febb000 rw-s 00001000 00:01 32769     /SYSV00000000 (deleted)"
		var begin, end, offset uint64
		var perm, dev string
		if n, _ := fmt.Sscanf(line, "%x-%x %s %x %s %d", &begin, &end, &perm, &offset, &dev, &inode); n < 6 || begin != start {
			continue
		}
		if f := strings.SplitN(strings.TrimSuffix(line, "\n"), "/", 2); len(f) == 2 {
			return "/" + f[1], inode
		}
		return "", inode
	}
	return "", 0
}

func itoa(n int) string { return strconv.Itoa(n) }

// list is some numbers for a sentence.
func list(numbers []int) string {
	const most = 5
	var words []string
	for _, n := range numbers[:min(len(numbers), most)] {
		words = append(words, itoa(n))
	}
	text := strings.Join(words, ", ")
	if len(numbers) > most {
		text += fmt.Sprintf(" and %d more", len(numbers)-most)
	}
	return text
}
