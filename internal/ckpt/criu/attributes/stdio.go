package attributes

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/proc"
)

// A shell that redirects a standard descriptor of its own, for a loop or a command such as echo,
// keeps what it had under another number meanwhile, close-on-exec: so no program was started with
// that number. It is noted where the parent still has the same open file as that standard
// descriptor:
//
//	stdio=0:10,1:11

// saveStdio notes where a process has what it was started with as standard descriptors, of those
// that are under another number now.
func saveStdio(pid int, add func(name, value string)) {
	p, err := proc.Read(pid)
	if err != nil || p.PPid == 0 {
		return
	}
	var due []int
	for n := range 3 {
		if !proc.SameFile(p.PPid, n, pid, n) {
			due = append(due, n)
		}
	}
	if due == nil {
		return
	}
	var list []string
	for d, err := range proc.Descriptors(pid) {
		if err != nil || d.FD <= 2 || proc.OpenFlags(pid, d.FD)&unix.O_CLOEXEC == 0 {
			continue
		}
		for _, n := range due {
			if proc.SameFile(p.PPid, n, pid, d.FD) {
				list = append(list, fmt.Sprintf("%d:%d", n, d.FD))
			}
		}
	}
	if list != nil {
		add(stdio, strings.Join(list, ","))
	}
}

// Stdio returns under which number a process, by its number, has what it was started with as a
// standard descriptor, which is the key: only of those that are under another number.
func (s Saved) Stdio(id int32) map[uint32]uint32 {
	numbers := make(map[uint32]uint32)
	list, _ := s.value(id, stdio)
	for text := range strings.SplitSeq(list, ",") {
		was, is, _ := strings.Cut(text, ":")
		n, err := strconv.ParseUint(was, 10, 32)
		fd, err2 := strconv.ParseUint(is, 10, 32)
		if err == nil && err2 == nil && n <= 2 {
			numbers[uint32(n)] = uint32(fd)
		}
	}
	return numbers
}
