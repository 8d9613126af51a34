package proc

import (
	"bufio"
	"bytes"
	"fmt"
	"iter"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ReadMemory copies memory of a process, and reports whether it could copy all of it. It
// takes the right to trace the process.
func ReadMemory(pid int, from uintptr, to []byte) bool {
	if len(to) == 0 {
		return true
	}
	local := unix.Iovec{Base: &to[0]}
	local.SetLen(len(to))
	n, err := unix.ProcessVMReadv(pid, []unix.Iovec{local}, []unix.RemoteIovec{{Base: from, Len: len(to)}}, 0)
	return err == nil && n == len(to)
}

// WriteMemory is ReadMemory in the other direction, into memory that the process may write to.
func WriteMemory(pid int, to uintptr, from []byte) bool {
	local := unix.Iovec{Base: &from[0]}
	local.SetLen(len(from))
	n, err := unix.ProcessVMWritev(pid, []unix.Iovec{local}, []unix.RemoteIovec{{Base: to, Len: len(from)}}, 0)
	return err == nil && n == len(from)
}

// Registered is a mapping of a process that is registered with a userfaultfd(2), so that
// whoever needs a page that is missing waits for it.
type Registered struct {
	Start, End uint64 // addresses

	// WriteProtect says that the userfaultfd may protect pages from being written to
	// as well.
	WriteProtect bool
}

// RegisteredMappings returns those of a process; none if it cannot be read. It takes as long
// as the kernel needs to look at every page.
func RegisteredMappings(pid int) []Registered {
	for _, tid := range Threads(pid) {
		// A thread that has ended before the others has no memory.
		var mappings []Registered
		some := false
		for m := range flaggedMappings(threadDir(pid, tid) + "/smaps") {
			some = true
			if m.Has("um") {
				mappings = append(mappings, Registered{m.Start, m.End, m.Has("uw")})
			}
		}
		if some {
			return mappings
		}
	}
	return nil
}

// LacksMemory reports whether a process may have to wait for pages that another process
// fills by userfaultfd(2).
func LacksMemory(pid int) bool { return len(RegisteredMappings(pid)) > 0 }

// FlaggedMapping is a mapping with the flags that the kernel shows in a smaps file.
type FlaggedMapping struct {
	Start, End uint64 // addresses
	Own        bool   // it is the process's, and not one that the kernel has made, such as [vdso]
	flags      string
}

// Has reports whether a mapping has one of the flags, as "lo".
func (m FlaggedMapping) Has(flag string) bool { return strings.Contains(m.flags, " "+flag+" ") }

// FlaggedMappings yields the mappings of a process, in the order of their addresses; none if they
// cannot be read. The kernel looks at every page for them, as it goes.
func FlaggedMappings(pid int) iter.Seq[FlaggedMapping] {
	return flaggedMappings(fmt.Sprintf("/proc/%d/smaps", pid))
}

// flaggedMappings reads a smaps file.
func flaggedMappings(path string) iter.Seq[FlaggedMapping] {
	return func(yield func(FlaggedMapping) bool) {
		f, err := open(path)
		if err != nil {
			return
		}
		defer f.close()
		lines := bufio.NewScanner(f)
		lines.Buffer(make([]byte, longestMapping), longestMapping)
		var m FlaggedMapping
		for lines.Scan() {
			// "7f5a6b000-7f5a6d000 rw-p …", and later "VmFlags: rd wr mr mw me um ac "
			first, rest, _ := bytes.Cut(lines.Bytes(), []byte(" "))
			if string(first) == "VmFlags:" {
				m.flags = " " + string(rest) + " "
				if !yield(m) {
					return
				}
			} else if start, end, found := bytes.Cut(first, []byte("-")); found {
				m = FlaggedMapping{Own: !bytes.HasSuffix(rest, []byte("]")) || bytes.HasSuffix(rest, []byte("[heap]")) || bytes.HasSuffix(rest, []byte("[stack]"))}
				m.Start, _ = strconv.ParseUint(string(start), 16, 64)
				m.End, _ = strconv.ParseUint(string(end), 16, 64)
			}
		}
	}
}

// MemoryPolicies yields the NUMA policies of a thread's memory, as numa_maps has them, such as
// "bind:0-1", by the address at which a mapping begins. A mapping without one of its own has that
// of the thread. None if they cannot be read. The kernel looks at every page for them, as it goes.
func MemoryPolicies(tid int) iter.Seq2[uint64, string] {
	return func(yield func(uint64, string) bool) {
		f, err := open(fmt.Sprintf("/proc/%d/numa_maps", tid))
		if err != nil {
			return
		}
		defer f.close()
		lines := bufio.NewScanner(f)
		// The kernel goes on until a page is full, or as much as is asked for.
		lines.Buffer(make([]byte, 256), longestMapping)
		for lines.Scan() {
			// "55e963cf6000 prefer (many):0 file=/usr/bin/a dirty=2 N0=2 kernelpagesize_kB=4"
			at, rest, _ := strings.Cut(lines.Text(), " ")
			policy, rest, _ := strings.Cut(rest, " ")
			if policy == "prefer" || policy == "weighted" {
				more, _, _ := strings.Cut(rest, " ")
				if strings.HasPrefix(more, "(many)") || strings.HasPrefix(more, "interleave") {
					policy += " " + more
				}
			}
			start, err := strconv.ParseUint(at, 16, 64)
			if err != nil || !yield(start, policy) {
				return
			}
		}
	}
}

// MemoryPolicy returns the NUMA policy of a thread, as numa_maps has it; "" where it is not said.
func MemoryPolicy(tid int) string {
	for _, policy := range MemoryPolicies(tid) {
		return policy
	}
	return ""
}

// SeveralNodes reports whether the machine has more than one NUMA node.
func SeveralNodes() bool {
	text, err := read("/sys/devices/system/node/online")
	return err == nil && strings.ContainsAny(string(text), "-,")
}

// MergesMemory reports whether a process has all of its memory merged (PR_SET_MEMORY_MERGE).
func MergesMemory(pid int) bool {
	text, _ := read(fmt.Sprintf("/proc/%d/ksm_stat", pid))
	return bytes.Contains(text, []byte("\nksm_merge_any: yes"))
}

// LocksMemory reports whether a process has memory locked (mlock(2)).
func LocksMemory(pid int) bool {
	words, _ := field(pid, "VmLck")
	return len(words) > 0 && words[0] != "0"
}
