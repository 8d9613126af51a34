package explain

import (
	"fmt"
	"iter"
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
	Failure
	inner map[int]int // pids in our pid namespace, by those that CRIU names
	pid   int         // the process that CRIU was saving; 0 if it does not say

	look  func(pid int) *facts // how a process is looked at; tests have their own
	known map[int]*facts

	// hint is what to do, of the rule that is being tried. The rule's say may
	// set another one.
	hint string
}

// facts is what /proc shows of a process. What cannot be seen is the zero value.
type facts struct {
	comm        string
	state       byte
	uid         int // the effective user, -1 if it cannot be seen
	descriptors iter.Seq2[proc.Descriptor, error]
	mappings    iter.Seq2[proc.Mapping, error]
	openFiles   limit        // how many descriptors it may have
	memory      limit        // how many bytes of address space it may have
	locked      func() limit // how many bytes it may lock; seldom asked
}

// limit is a resource limit; unlimited if there is none or if it cannot be seen.
type limit struct{ soft, hard uint64 }

const unlimited = ^uint64(0)

// lookAt looks at a process in /proc.
func lookAt(pid int) *facts {
	f := &facts{uid: -1, descriptors: proc.Descriptors(pid), mappings: proc.Mappings(pid)}
	if p, err := proc.Read(pid); err == nil {
		f.comm, f.state = p.Comm, p.State
	}
	if uid, err := proc.Owner(pid); err == nil {
		f.uid = uid
	}
	limitOf := func(name string) limit {
		if soft, hard, ok := proc.Limit(pid, name); ok {
			return limit{soft, hard}
		}
		return limit{unlimited, unlimited}
	}
	f.openFiles, f.memory = limitOf("Max open files"), limitOf("Max address space")
	f.locked = func() limit { return limitOf("Max locked memory") }
	return f
}

// newSituation finds out which process CRIU was saving.
func newSituation(f Failure) *situation {
	s := &situation{Failure: f, look: lookAt}
	if f.Inside {
		s.inner = make(map[int]int)
		for _, pid := range f.Tree {
			if inner, err := proc.InnerPid(pid); err == nil {
				s.inner[inner] = pid
			}
		}
	}
	s.find()
	return s
}

// find sets pid.
func (s *situation) find() {
	for _, text := range s.Log {
		if m := aboutPid.compiled().FindStringSubmatch(text); m != nil {
			s.pid = s.ours(m[1] + m[2])
			return
		}
	}
	if len(s.Tree) == 1 {
		s.pid = s.Tree[0]
	}
}

// ours is the pid in our pid namespace of a process that CRIU names.
func (s *situation) ours(text string) int {
	pid, _ := strconv.Atoi(text)
	if ours, ok := s.inner[pid]; ok {
		return ours
	}
	return pid
}

// facts looks at a process, once.
func (s *situation) facts(pid int) *facts {
	if f, ok := s.known[pid]; ok {
		return f
	}
	if s.known == nil {
		s.known = make(map[int]*facts)
	}
	s.known[pid] = s.look(pid)
	return s.known[pid]
}

// process names the process that CRIU was saving.
func (s *situation) process() string {
	if s.pid == 0 {
		return "one of the processes"
	}
	return s.name(s.pid)
}

// named names a process by the pid that CRIU has written.
func (s *situation) named(text string) string { return s.name(s.ours(text)) }

func (s *situation) name(pid int) string {
	if comm := s.facts(pid).comm; comm != "" {
		return fmt.Sprintf("process %d (%s)", pid, show.Name(comm))
	}
	return fmt.Sprintf("process %d", pid)
}

// descriptors are those of the process that lead to such a thing.
func (s *situation) descriptors(is func(link string) bool) []int {
	var fds []int
	for d, err := range s.facts(s.pid).descriptors {
		if err == nil && is(d.Link) {
			fds = append(fds, d.FD)
		}
	}
	return fds
}

// descriptor is the first of them, -1 for none.
func (s *situation) descriptor(is func(link string) bool) int {
	if fds := s.descriptors(is); len(fds) > 0 {
		return fds[0]
	}
	return -1
}

// link is what a descriptor of the process leads to, "" if that cannot be seen.
func (s *situation) link(fd string) string {
	for d := range s.facts(s.pid).descriptors {
		if strconv.Itoa(d.FD) == fd {
			return d.Link
		}
	}
	return ""
}

// openAs names the descriptor that leads to one of these: " as descriptor 3".
func (s *situation) openAs(links ...string) string {
	return asDescriptor(strconv.Itoa(s.descriptor(func(link string) bool { return slices.Contains(links, link) })))
}

// asDescriptor is a descriptor as CRIU writes it; negative ones are CRIU's own.
func asDescriptor(fd string) string {
	if strings.HasPrefix(fd, "-") {
		return ""
	}
	return " as descriptor " + fd
}

// sockets names the sockets of the process: /proc does not show of which family
// they are.
func (s *situation) sockets() string {
	switch fds := s.descriptors(func(link string) bool { return strings.HasPrefix(link, "socket:") }); len(fds) {
	case 0:
		return ""
	case 1:
		return asDescriptor(strconv.Itoa(fds[0]))
	default:
		return ", among its descriptors " + list(fds)
	}
}

// socket is the sentence for a socket that CRIU names by its inode, in hexadecimal.
// The line does not say which process has it.
func (s *situation) socket(inode, what string) string {
	n, _ := strconv.ParseUint(inode, 16, 64)
	link := fmt.Sprintf("socket:[%d]", n)
	if s.openAs(link) == "" {
		for _, pid := range s.Tree {
			there := *s
			if there.pid = pid; there.openAs(link) != "" {
				s.pid = pid
				break
			}
		}
	}
	return s.process() + " has " + what + " open" + s.openAs(link) + cannot
}

// mapping is what the process has mapped from an address on, nil if it has no name.
// The address is in hexadecimal.
func (s *situation) mapping(address string) *proc.Mapping {
	start, _ := strconv.ParseUint(address, 16, 64)
	for m := range s.facts(s.pid).mappings {
		if m.Start == start {
			return &m
		}
	}
	return nil
}

// identify finds out which file the process has open or mapped under a name that
// was removed: its device and inode as of stat(2), 0 if that cannot be seen.
// Descriptor is " as descriptor 3", or "" if it is mapped.
func (s *situation) identify(name string) (st unix.Stat_t, descriptor string) {
	if fd := s.descriptor(func(link string) bool { return link == name+proc.Deleted }); fd >= 0 {
		_ = unix.Stat(proc.Open(s.pid, fd), &st)
		return st, asDescriptor(strconv.Itoa(fd))
	}
	for m := range s.facts(s.pid).mappings {
		if m.Path == name+proc.Deleted {
			if unix.Stat(m.Link(s.pid), &st) != nil { // few may follow that link
				st = unix.Stat_t{Dev: m.Dev, Ino: m.Ino}
			}
			break
		}
	}
	return st, ""
}

// list is some numbers for a sentence.
func list(numbers []int) string {
	const most = 5
	var words []string
	for _, n := range numbers[:min(len(numbers), most)] {
		words = append(words, strconv.Itoa(n))
	}
	text := strings.Join(words, ", ")
	if len(numbers) > most {
		text += fmt.Sprintf(" and %d more", len(numbers)-most)
	}
	return text
}
