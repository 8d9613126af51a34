package entry

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"blcr-cli/test/harness"

	"golang.org/x/sys/unix"
)

// roleEnv makes the test binary print its descriptors.
const roleEnv = "ENTRY_TEST_ROLE"

func TestMain(m *testing.M) {
	if os.Getenv(roleEnv) != "" {
		fmt.Fprint(os.Stderr, files())
		os.Exit(0)
	}
	os.Exit(harness.Main(m))
}

// files returns a line for each descriptor up to 9.
func files() string {
	var lines strings.Builder
	for fd := range 10 {
		name, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
		if err != nil || strings.HasPrefix(name, "/sys/fs/cgroup/") {
			continue // the commands tell the runtime not to open these
		}
		flags, _ := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
		cloexec, _ := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		fmt.Fprintln(&lines, fd, name, flags&unix.O_NONBLOCK != 0, cloexec != 0)
	}
	return lines.String()
}

// TestNonBlocking: standard descriptors that do not block are unchanged when the
// program begins, and the runtime has opened nothing for them.
func TestNonBlocking(t *testing.T) {
	var in, out, errs [2]int
	for _, p := range []struct {
		fds   *[2]int
		flags int
	}{{&in, unix.O_NONBLOCK}, {&out, unix.O_NONBLOCK}, {&errs, 0}} {
		if err := unix.Pipe2(p.fds[:], p.flags|unix.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
		defer unix.Close(p.fds[0])
		defer unix.Close(p.fds[1])
	}
	link := func(fd int) string {
		name, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
		return name
	}
	want := fmt.Sprintf("0 %s true false\n1 %s true false\n2 %s false false\n", link(in[0]), link(out[1]), link(errs[1]))
	pid, err := syscall.ForkExec("/proc/self/exe", []string{"entry.test"}, &syscall.ProcAttr{
		Env:   []string{roleEnv + "=files"},
		Files: []uintptr{uintptr(in[0]), uintptr(out[1]), uintptr(errs[1])},
	})
	if err != nil {
		t.Fatal(err)
	}
	var status unix.WaitStatus
	if _, err := unix.Wait4(pid, &status, 0, nil); err != nil || status != 0 {
		t.Errorf("%v, status %#x", err, status)
	}
	b := make([]byte, 4096)
	n, err := unix.Read(errs[0], b)
	if got := string(b[:max(n, 0)]); got != want {
		t.Errorf("%v, descriptors:\n%swant:\n%s", err, got, want)
	}
}

// TestDiscardPreemption: after it the runtime does not send SIGURG, and one that was
// pending at the start is still pending.
func TestDiscardPreemption(t *testing.T) {
	runtime.LockOSThread() // for good: the thread is not the runtime's any more
	u, p := unblocked, pending
	defer func() { unblocked, pending = u, p }()
	const urgent = uint64(1) << (unix.SIGURG - 1)
	var set unix.Sigset_t
	*(*uint64)(unsafe.Pointer(&set)) = urgent
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, &set, nil); err != nil {
		t.Fatal(err)
	}
	unblocked, pending = ^urgent, 0
	DiscardPreemption()
	for end := time.Now().Add(100 * time.Millisecond); time.Now().Before(end); {
		if pendingSignals()&urgent != 0 {
			t.Fatal("SIGURG is pending")
		}
	}
	if err := unix.Tgkill(unix.Getpid(), unix.Gettid(), unix.SIGURG); err != nil {
		t.Fatal(err)
	}
	pending = urgent
	if DiscardPreemption(); pendingSignals()&urgent == 0 {
		t.Error("a signal from before is not pending any more")
	}
}
