package hints

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestHolder: processes, zombies, threads, groups and sessions.
func TestHolder(t *testing.T) {
	check := func(id int, want string) {
		t.Helper()
		if got := Holder(id); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	start := func(args ...string) *exec.Cmd {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true}
		if err := cmd.Start(); err != nil {
			t.Skip(err)
		}
		return cmd
	}
	sleep := start("sleep", "1000")
	pid := sleep.Process.Pid
	waitFor := func(pid int, is func(stat string) bool) {
		for range 2000 {
			if text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil && is(string(text)) {
				return
			}
			unix.Nanosleep(&unix.Timespec{Nsec: 1e6}, nil)
		}
		t.Fatal("waited in vain")
	}
	waitFor(pid, func(s string) bool { return strings.Contains(s, "(sleep)") })
	check(pid, fmt.Sprintf("it is that of process %d (sleep)", pid))
	_ = sleep.Process.Kill()
	waitFor(pid, func(s string) bool { return strings.Contains(s, ") Z ") })
	check(pid, fmt.Sprintf("process %d (sleep) has ended, and keeps its pid until its parent, %s, has taken notice", pid, Process(os.Getpid())))
	_ = sleep.Wait()
	if got := Holder(pid); got != "" {
		t.Errorf("nobody: %q", got)
	}
	self, threads := os.Getpid(), 0
	entries, _ := os.ReadDir("/proc/self/task")
	for _, e := range entries {
		var tid int
		if fmt.Sscan(e.Name(), &tid); tid != self {
			check(tid, fmt.Sprintf("%d is a thread of %s", tid, Process(self)))
			threads++
		}
	}
	if threads == 0 {
		t.Errorf("no threads")
	}
	shell := start("sh", "-c", "sleep 1000 & echo")
	_ = shell.Wait()
	var child int
	names, _ := filepath.Glob("/proc/[0-9]*")
	for _, name := range names {
		var n int
		fmt.Sscan(filepath.Base(name), &n)
		if sid, err := unix.Getsid(n); err == nil && sid == shell.Process.Pid {
			child = n
		}
	}
	if child == 0 {
		t.Fatal("the shell's child is lost")
	}
	waitFor(child, func(s string) bool { return strings.Contains(s, "(sleep)") })
	check(shell.Process.Pid, fmt.Sprintf("it is the number of the session of %s", Process(child)))
	_ = unix.Kill(child, unix.SIGKILL)
}
