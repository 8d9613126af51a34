package attributes

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/proc"
)

// sleeper starts a process to change.
func sleeper(t *testing.T) int {
	t.Helper()
	c := exec.Command("/bin/sleep", "1000")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
	})
	return c.Process.Pid
}

// inner is the number that a process knows itself by.
func inner(t *testing.T, pid int) int32 {
	t.Helper()
	pids, err := proc.InnerPids(pid)
	if err != nil {
		t.Fatal(err)
	}
	return int32(pids[len(pids)-1])
}

// TestSaveAndSet: what one process has set is set for another, and then saved as it
// was.
func TestSaveAndSet(t *testing.T) {
	from, to := sleeper(t), sleeper(t)
	var cpu unix.CPUSet
	if err := unix.SchedGetaffinity(0, &cpu); err != nil {
		t.Fatal(err)
	}
	for i := 1023; cpu.Count() > 1; i-- {
		cpu.Clear(i)
	}
	if err := unix.SchedSetaffinity(from, &cpu); err != nil {
		t.Fatal(err)
	}
	// Another level than the one that follows from the test's own niceness.
	nice, _ := unix.Getpriority(unix.PRIO_PROCESS, 0) // 20 less the niceness
	priority := 2<<ioprioClassShift | (40-nice)/5%7 + 1
	if _, _, errno := unix.RawSyscall(unix.SYS_IOPRIO_SET, ioprioWhoProcess, uintptr(from), uintptr(priority)); errno != 0 {
		t.Fatal(errno)
	}
	for name, value := range map[string]string{coreFilter: "0x7", oomScore: "123"} {
		if err := proc.Set(from, name, value); err != nil {
			t.Fatal(err)
		}
	}
	text := Save([]int{from}, nil, nil)
	for _, want := range []string{"coredump_filter=00000007", "oom_score_adj=123", fmt.Sprintf("ioprio=%d", priority)} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%s is not saved: %q", want, text)
		}
	}
	Parse(text).Restorer().Set(inner(t, from), to)
	var now unix.CPUSet
	if err := unix.SchedGetaffinity(to, &now); err != nil || now != cpu {
		t.Errorf("processors %v, %v, want %v", now, err, cpu)
	}
	want := strings.Replace(string(text), fmt.Sprint(inner(t, from)), fmt.Sprint(inner(t, to)), 1)
	if again := Save([]int{to}, nil, nil); string(again) != want {
		t.Errorf("saved again: %q, want %q", again, want)
	}
}

// TestOwnProcessors: what this process was started for limits what is set.
func TestOwnProcessors(t *testing.T) {
	var all, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil || all.Count() < 2 {
		t.Skip("there is one processor")
	}
	for i := range 1024 {
		if all.IsSet(i) {
			one.Set(i)
			break
		}
	}
	other := all
	for i := range 1024 {
		if one.IsSet(i) {
			other.Clear(i)
		}
	}
	for name, test := range map[string]struct{ saved, own, want unix.CPUSet }{
		"among them": {all, one, one},
		"others":     {other, one, all}, // left as it is
	} {
		t.Run(name, func(t *testing.T) {
			pid := sleeper(t)
			r := &Restorer{own: test.own, bound: true}
			r.setCPUs(pid, formatCPUs(&test.saved))
			var now unix.CPUSet
			if err := unix.SchedGetaffinity(pid, &now); err != nil || now != test.want {
				t.Errorf("processors %v, %v, want %v", now, err, test.want)
			}
		})
	}
}

// TestParse: whatever is in the member, only what is sound counts.
func TestParse(t *testing.T) {
	s := Parse([]byte("7 oom_score_adj=5 personality=0040000\n8 personality=0640000 unknown=x\nx y\n99999999999 oom_score_adj=1\n9\n\n"))
	if len(s) != 2 {
		t.Errorf("%v", s)
	}
	if got := s.Personality([]int32{7, 8}); got != 0x40000 {
		t.Errorf("personality %#x", got)
	}
	if got := s.Personality([]int32{8}); got != 0x240000 { // without READ_IMPLIES_EXEC
		t.Errorf("personality %#x", got)
	}
	if got := s.Personality([]int32{7, 10}); got != 0 {
		t.Errorf("personality %#x", got)
	}
	r := s.Restorer()
	if !r.Needs(7) || r.Needs(10) {
		t.Error("who needs what is not known")
	}
	r.Set(10, os.Getpid())
	for _, bad := range []string{"", "x", "3-", "3-1", "-1", "0-99999", "1 2"} {
		if _, err := proc.ParseCPUs(bad); err == nil {
			t.Errorf("%q is a list of processors", bad)
		}
	}
}

// saved has what is noted of a process's descriptors.
func saved(pid int, add func(name, value string)) {
	d := newDescriptorSaver()
	d.save(pid, add)
}
