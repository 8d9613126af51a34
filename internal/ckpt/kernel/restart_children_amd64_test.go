package kernel

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt/kernel/abi"
	"blcr-cli/internal/signals"
	"blcr-cli/test/harness"
)

// TestForkArgs pins the offsets by which the assembly reads.
func TestForkArgs(t *testing.T) {
	var a forkArgs
	for name, c := range map[string]struct{ got, want uintptr }{
		"ctrl":       {unsafe.Offsetof(a.ctrl), 0},
		"op":         {unsafe.Offsetof(a.op), 8},
		"threads":    {unsafe.Offsetof(a.threads), 16},
		"cloneFlags": {unsafe.Offsetof(a.cloneFlags), 24},
		"stackTop":   {unsafe.Offsetof(a.stackTop), 32},
		"stackSize":  {unsafe.Offsetof(a.stackSize), 40},
	} {
		if c.got != c.want {
			t.Errorf("%s is at %d, the assembly reads %d", name, c.got, c.want)
		}
	}
}

// blocked runs f with the signals blocked, fork's precondition.
func blocked(t *testing.T, f func()) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	mask, err := signals.BlockAll()
	if err != nil {
		t.Fatal(err)
	}
	defer signals.RestoreMask(mask)
	f()
}

// wait reaps a child that ends by itself.
func wait(t *testing.T, pid int) unix.WaitStatus {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		var status unix.WaitStatus
		got, err := unix.Wait4(pid, &status, unix.WNOHANG, nil)
		if err != nil && err != unix.EINTR {
			t.Fatal(err)
		}
		if got == pid {
			return status
		}
	}
	unix.Kill(pid, unix.SIGKILL)
	t.Fatalf("process %d does not end", pid)
	panic("unreachable")
}

const cloneFlags = 0x410f00 // what the module was seen to ask for

// TestForkFailure pins that a restart child whose restore fails exits with the
// errno, whatever its number of threads, and prints nothing.
func TestForkFailure(t *testing.T) {
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(null)
	for _, c := range []struct {
		ctrl int
		want unix.Errno
	}{
		{-1, unix.EBADF},
		{null, unix.ENOTTY}, // no control file
	} {
		for _, threads := range []int{1, 2, 8, 100} {
			const size = stackSize
			stacks := make([]byte, threads*size)
			blocked(t, func() {
				pid, errno := fork(&forkArgs{
					ctrl: uintptr(c.ctrl), op: abi.OpRstrtChild, threads: uintptr(threads - 1), cloneFlags: cloneFlags,
					stackTop: uintptr(unsafe.Pointer(&stacks[0])) + size, stackSize: size,
				})
				if errno != 0 {
					t.Fatal(errno)
				}
				if status := wait(t, pid); !status.Exited() || status.ExitStatus() != int(c.want) {
					t.Errorf("%d threads: status %#x, want exit %d", threads, status, int(c.want))
				}
			})
			runtime.KeepAlive(stacks)
		}
	}
}

// TestForkCloneFailure pins the same where the threads cannot be created.
func TestForkCloneFailure(t *testing.T) {
	stacks := make([]byte, stackSize)
	blocked(t, func() {
		pid, errno := fork(&forkArgs{
			op: abi.OpRstrtChild, threads: 1, cloneFlags: unix.CLONE_THREAD, // without SIGHAND
			stackTop: uintptr(unsafe.Pointer(&stacks[0])) + stackSize, stackSize: stackSize,
		})
		if errno != 0 {
			t.Fatal(errno)
		}
		if status := wait(t, pid); !status.Exited() || status.ExitStatus() != int(unix.EINVAL) {
			t.Errorf("status %#x, want exit %d", status, int(unix.EINVAL))
		}
	})
	runtime.KeepAlive(stacks)
}

// sleeper starts a child that does nothing until it is killed.
func sleeper() (pid int) {
	pid, err := syscall.ForkExec("/bin/sleep", []string{"sleep", "100"}, &syscall.ProcAttr{
		Sys: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL},
	})
	if err != nil {
		panic(err)
	}
	return pid
}

// grandchild starts a process whose parent is a child of ours, and returns
// both.
func grandchild() (parent, pid int) {
	sh := exec.Command("/bin/sh", "-c", "sleep 100 & echo $!; exec sleep 100")
	sh.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := sh.StdoutPipe()
	if err == nil {
		err = sh.Start()
	}
	if err == nil {
		_, err = fmt.Fscan(out, &pid)
	}
	if err != nil {
		panic(err)
	}
	out.Close()
	parent = sh.Process.Pid
	sh.Process.Release()
	return parent, pid
}

// isChild says whether there is a child of ours with that pid, and ends it.
func isChild(pid int) bool {
	if !ownChild(pid) {
		return false
	}
	unix.Kill(pid, unix.SIGKILL)
	unix.Wait4(pid, nil, 0, nil)
	return true
}

// roleAbandon abandons a restart and prints which processes are still there.
func roleAbandon([]string) {
	old := sleeper()
	parent, foreign := grandchild()
	c := &restartChildren{unrelated: children()}
	if !c.unrelated[old] || !c.unrelated[parent] {
		fmt.Println("children are not listed")
	}
	forked, restored := sleeper(), sleeper()
	// The last one is another process's child that has got the number of a
	// process that has ended.
	c.forked = []int{forked, foreign}
	c.abandon()
	fmt.Println("forked", isChild(forked), "restored", isChild(restored), "old", isChild(old))
	fmt.Println("foreign", unix.Kill(foreign, unix.SIGKILL) == nil, "its parent", isChild(parent))

	// Afterwards a later child is left alone, and none is forked.
	late := sleeper()
	c.abandon()
	fmt.Println("late", isChild(late))
	say("spawn", c.spawn(control(-1), &abi.ProcsTbl{Threads: 1}))

	// A released child is left alone.
	c = &restartChildren{unrelated: children()}
	c.forked = []int{sleeper()}
	c.release()
	c.abandon()
	fmt.Println("restored", isChild(c.forked[0]))

	// Stopped and dead ones are reaped as well.
	for _, sig := range []syscall.Signal{unix.SIGSTOP, unix.SIGKILL} {
		pid := sleeper()
		unix.Kill(pid, sig)
		end(pid)
		fmt.Println("signal", int(sig), isChild(pid))
	}
}

// TestAbandon pins which processes are killed when a restart fails: the forked
// ones, and, as a restored process may have another pid than the forked one had,
// every child that was not there before.
func TestAbandon(t *testing.T) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleEnv+"=abandon")
	out, err := cmd.CombinedOutput()
	const want = `forked false restored false old true
foreign true its parent true
late true
spawn: fork: EINTR
restored true
signal 19 false
signal 9 false
`
	if strings.HasPrefix(string(out), "children are not listed\n") {
		harness.Missing(t, "this kernel does not list children")
	}
	if err != nil || string(out) != want {
		t.Errorf("%v, output:\n%swant:\n%s", err, out, want)
	}
}

// TestSpawnStacks pins that spawn leaves no stack mapped, whatever the number of
// threads, and that a child's failure is no failure of spawn.
func TestSpawnStacks(t *testing.T) {
	c := &restartChildren{unrelated: map[int]bool{}} // not nil: nothing watches them
	blocked(t, func() {
		for _, threads := range []int32{0, 1, 2, 100} {
			if err := c.spawn(control(-1), &abi.ProcsTbl{Threads: threads, CloneFlags: cloneFlags}); err != nil {
				t.Errorf("%d threads: %v", threads, err)
			}
		}
		for _, pid := range c.forked {
			if status := wait(t, pid); !status.Exited() || status.ExitStatus() != int(unix.EBADF) {
				t.Errorf("status %#x", status)
			}
		}
		if len(c.forked) != 4 {
			t.Errorf("forked %v", c.forked)
		}
		before := mapped(t)
		for range 3 {
			if err := c.spawn(control(-1), &abi.ProcsTbl{Threads: 1001, CloneFlags: cloneFlags}); err != nil {
				t.Error(err)
			}
			wait(t, c.forked[len(c.forked)-1])
		}
		if grown := mapped(t) - before; grown >= 1000*stackSize {
			t.Errorf("%d bytes stay mapped", grown)
		}
	})
}

// mapped is the size of our address space.
func mapped(t *testing.T) int {
	t.Helper()
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	var pages int
	if _, err := fmt.Sscan(string(statm), &pages); err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}
