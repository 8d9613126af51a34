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

// LacksMemory reports whether a process waits for pages that another process fills by
// userfaultfd(2). It takes as long as the kernel needs to look at every page.
func LacksMemory(pid int) bool {
	file, err := os.Open("/proc/" + strconv.Itoa(pid) + "/smaps")
	if err != nil {
		return false
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if flags, ok := strings.CutPrefix(lines.Text(), "VmFlags:"); ok && strings.Contains(flags+" ", " um ") {
			return true
		}
	}
	return false
}
