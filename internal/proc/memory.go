package proc

import (
	"bufio"
	"os"
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
		if mappings, ok := registered(threadDir(pid, tid) + "/smaps"); ok {
			return mappings
		}
	}
	return nil
}

// registered reads a smaps file. It is not ok if there are no mappings at all.
func registered(path string) (mappings []Registered, ok bool) {
	file, err := os.Open(path)
	if err != nil {
		return nil, false
	}
	defer file.Close()
	var m Registered
	for lines := bufio.NewScanner(file); lines.Scan(); {
		// "7f5a6b000-7f5a6d000 rw-p …", and later "VmFlags: rd wr mr mw me um ac "
		first, rest, _ := strings.Cut(lines.Text(), " ")
		if start, end, found := strings.Cut(first, "-"); found {
			m = Registered{}
			m.Start, _ = strconv.ParseUint(start, 16, 64)
			m.End, _ = strconv.ParseUint(end, 16, 64)
			ok = true
		}
		if flags := " " + rest + " "; first == "VmFlags:" && strings.Contains(flags, " um ") {
			m.WriteProtect = strings.Contains(flags, " uw ")
			mappings = append(mappings, m)
		}
	}
	return mappings, ok
}

// LacksMemory reports whether a process may have to wait for pages that another process
// fills by userfaultfd(2).
func LacksMemory(pid int) bool { return len(RegisteredMappings(pid)) > 0 }
