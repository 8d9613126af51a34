package criu

import (
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"

	"blcr-cli/internal/proc"
)

// TestHalted: a criu that waits for its action script is not ended, however long that takes.
func TestHalted(t *testing.T) {
	runtime.LockOSThread() // the tracer
	defer runtime.UnlockOSThread()
	start := func(script string) int {
		c := exec.Command("/bin/sh", "-c", script)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			for _, pid := range append(children(t, c.Process.Pid), c.Process.Pid) {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
			_ = c.Wait()
		})
		return c.Process.Pid
	}
	asleep := func(pid int, kids int) {
		for begin := time.Now(); ; time.Sleep(time.Millisecond) {
			if p, err := proc.Read(pid); err == nil && p.State == 'S' && len(children(t, pid)) == kids {
				return
			}
			if time.Since(begin) > 10*time.Second {
				t.Fatalf("process %d does not sleep", pid)
			}
		}
	}
	job, idle, busy := start("exec sleep 100"), start("exec sleep 100"), start("sleep 100; :")
	asleep(job, 0)
	asleep(idle, 0)
	asleep(busy, 1)
	if halted(idle, job) {
		t.Error("halted, and nobody is traced")
	}
	if err := syscall.PtraceAttach(job); err != nil {
		t.Skip(err)
	}
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(job, &status, syscall.WALL, nil); err != nil || !status.Stopped() {
		t.Fatal(status, err)
	}
	if !halted(idle, job) {
		t.Error("not halted, and the job is stopped for its tracer")
	}
	if halted(busy, job) {
		t.Error("halted, and an action script runs")
	}
	_ = syscall.PtraceDetach(job)
}

func children(t *testing.T, pid int) []int {
	pids, err := proc.Children(pid)
	if err != nil {
		t.Skip(err)
	}
	return pids
}
