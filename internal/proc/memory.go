package proc

import (
	"bufio"
	"os"
	"strconv"
	"strings"
)

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
