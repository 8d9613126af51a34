package lazyguard

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/criu/memory"
)

// waits makes this test a process that has memory for which a userfaultfd waits.
const waits = "LAZYGUARD_WAITS"

func TestMain(m *testing.M) {
	if os.Getenv(waits) != "" {
		wait()
	}
	os.Exit(m.Run())
}

// wait registers memory, always at the same address, says which descriptor the userfaultfd
// is, and sleeps.
func wait() {
	const at, size = 0x20000000, 1 << 20
	fd, _, _ := unix.Syscall(unix.SYS_USERFAULTFD, unix.O_CLOEXEC|unix.O_NONBLOCK, 0, 0)
	api := struct{ api, features, ioctls uint64 }{api: 0xaa}
	register := struct{ start, length, mode, ioctls uint64 }{start: at, length: size, mode: 1}
	_, err := unix.MmapPtr(-1, 0, unsafe.Add(nil, at), size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_FIXED_NOREPLACE)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, 0xc018aa3f, uintptr(unsafe.Pointer(&api)))
	_, _, errno2 := unix.Syscall(unix.SYS_IOCTL, fd, 0xc020aa00, uintptr(unsafe.Pointer(&register)))
	if err != nil || errno != 0 || errno2 != 0 {
		panic(fmt.Sprint(err, errno, errno2))
	}
	fmt.Println(fd)
	select {}
}

// start starts such a process, and returns its userfaultfd, too.
func start(t *testing.T) (cmd *exec.Cmd, uffd int) {
	t.Helper()
	cmd = exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), waits+"=1")
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	var theirs int
	if _, err := fmt.Fscan(stdout, &theirs); err != nil {
		t.Fatal(err)
	}
	pidfd, err := unix.PidfdOpen(cmd.Process.Pid, 0)
	if err != nil {
		t.Skip("needs pidfds:", err)
	}
	defer unix.Close(pidfd)
	if uffd, err = unix.PidfdGetfd(pidfd, theirs, 0); err != nil {
		t.Skip("needs pidfd_getfd(2):", err)
	}
	t.Cleanup(func() { unix.Close(uffd) })
	return cmd, uffd
}

// Those whose userfaultfds the guard has are killed, wherever they are in the tree of
// processes, and nobody else, even with memory at the same address.
func TestKill(t *testing.T) {
	if !memory.CanFill() {
		t.Skip("needs userfaultfd")
	}
	first, firstFD := start(t)
	other, otherFD := start(t)
	second, secondFD := start(t)
	if memory.Gone(firstFD) {
		t.Error("a process that lives is said to be gone")
	}
	j := job{end: -1, uffds: []int{firstFD, secondFD}}
	j.kill()
	for _, cmd := range []*exec.Cmd{first, second} {
		_ = cmd.Wait()
		if status := cmd.ProcessState.Sys().(syscall.WaitStatus); !status.Signaled() || status.Signal() != unix.SIGKILL {
			t.Errorf("got %v", cmd.ProcessState)
		}
	}
	if memory.Gone(otherFD) || unix.Kill(other.Process.Pid, 0) != nil {
		t.Error("another process was killed")
	}
}

// TestKeep: the userfaultfds of those that have ended are closed, and no others.
func TestKeep(t *testing.T) {
	if !memory.CanFill() {
		t.Skip("needs userfaultfd")
	}
	ended, endedFD := start(t)
	_, livingFD := start(t)
	_ = ended.Process.Kill()
	_ = ended.Wait()
	j := job{end: -1}
	j.keep([]int{livingFD})
	for range 10 * leastSwept {
		fd, err := unix.Dup(endedFD)
		if err != nil {
			t.Fatal(err)
		}
		j.keep([]int{fd})
	}
	if len(j.uffds) > leastSwept || j.uffds[0] != livingFD {
		t.Errorf("kept %v", j.uffds)
	}
	for _, fd := range j.uffds[1:] {
		unix.Close(fd)
	}
}

// TestLost: that a guard was killed is said in words.
func TestLost(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[0])
	unix.Close(pair[1])
	g := Guard{conn: pair[0]}
	var e *ckpt.Error
	if err := g.Job(1); !errors.As(err, &e) || e.Errno != unix.EIO || len(e.Detail) != 2 {
		t.Errorf("%#v", err)
	}
}
