package selfckpt_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt/kernel/abi"
	"blcr-cli/test/harness"
)

// roleEnv makes the test binary, run again by one of its tests, play a role.
const roleEnv = "SELFCKPT_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(roleEnv) {
	case "nothing":
		os.Exit(0)
	case "first":
		fmt.Print(atInit)
		os.Exit(0)
	case "kept":
		kept()
		os.Exit(0)
	case "requests":
		requests()
		os.Exit(0)
	case "saved":
		saved()
		os.Exit(0)
	case "busy":
		busy()
		os.Exit(0)
	case "policies":
		policies()
		os.Exit(0)
	case "callback thread":
		callbackThread()
		os.Exit(0)
	case "collect":
		collect()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// asRole returns a command that runs this test binary in a role. It works for
// users who may not enter the directory that "go test" built it in.
func asRole(role string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleEnv+"="+role)
	cmd.Stderr = os.Stderr
	return cmd
}

// siginfo is the kernel's siginfo_t, as far as signals of processes go.
type siginfo struct {
	signo, errno, code int32
	_                  int32
	pid                int32
	uid                uint32
	value              uintptr
	_                  [96]byte
}

const (
	siKernel = 0x80 // si_code of the module's requests
	siUser   = 0    // of kill
	siQueue  = -1   // of sigqueue
)

// queue sends signal 64 to this process, with si_code and si_pid of the
// caller's choice, which Linux allows no other process.
func queue(code, pid int32) error {
	info := &siginfo{signo: 64, code: code, pid: pid}
	// The id has to be that of the thread that calls, which is the caller's
	// business to lock.
	_, _, errno := unix.Syscall(unix.SYS_RT_SIGQUEUEINFO, uintptr(unix.Gettid()), 64, uintptr(unsafe.Pointer(info)))
	if errno != 0 {
		return errno
	}
	return nil
}

// queueHere is queue for the calling thread only, which has handled the signal
// when this returns.
func queueHere(code, pid int32) error {
	info := &siginfo{signo: 64, code: code, pid: pid}
	_, _, errno := unix.Syscall6(unix.SYS_RT_TGSIGQUEUEINFO, uintptr(unix.Getpid()), uintptr(unix.Gettid()), 64, uintptr(unsafe.Pointer(info)), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// The kernel's structures of seccomp user notifications.
type (
	notification struct {
		id    uint64
		pid   uint32
		flags uint32
		nr    int32
		arch  uint32
		ip    uint64
		args  [6]uint64
	}
	answer struct {
		id    uint64
		val   int64
		errno int32
		flags uint32
	}
)

const (
	ioctlNotifRecv = 0xc0502100
	ioctlNotifSend = 0xc0182101
)

// trap installs a seccomp filter that notifies of every BLCR ioctl and every
// getppid of this process instead of carrying it out, and returns the listener.
func trap() (listener int, err error) {
	const (
		offNr   = 0  // in struct seccomp_data
		offArg1 = 24 // low half of the second argument
	)
	program := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offNr},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_GETPPID, Jt: 4},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_IOCTL, Jf: 4},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offArg1},
		{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: 0xff00},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: abi.IocType << 8, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_USER_NOTIF},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return -1, err
	}
	const flags = unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_TSYNC | unix.SECCOMP_FILTER_FLAG_TSYNC_ESRCH
	prog := &unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(prog)))
	if errno != 0 {
		return -1, errno
	}
	return int(fd), nil
}

// trapFD is the socket between a program in a role and the test.
const trapFD = 3

// trapSelf has the test answer every answer of this process to a request, from
// all of its threads.
func trapSelf() {
	listener, err := trap()
	if err != nil {
		fmt.Println(err)
		os.Exit(noTrap)
	}
	if err := unix.Sendmsg(trapFD, []byte{0}, unix.UnixRights(listener), nil, 0); err != nil {
		panic(err)
	}
	unix.Close(listener)
}

// noTrap is trapSelf's exit status on machines without seccomp user
// notifications, which came with Linux 5.0.
const noTrap = 3

// runTrapped runs this binary in a role that begins with trapSelf, and returns
// what it prints. It makes the trapped system calls return what see does: a
// result, a negated errno, or noAnswer for none. See may wake the program where it
// reads from trapFD.
func runTrapped(t *testing.T, role string, see func(n notification, wake func()) int64) string {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[0])
	theirs := os.NewFile(uintptr(pair[1]), "socket")
	cmd := asRole(role)
	cmd.ExtraFiles = []*os.File{theirs}
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	// A request without an answer could make the program wait for ever.
	deadline := time.AfterFunc(20*time.Second, func() { cmd.Process.Kill() })
	defer deadline.Stop()

	oob := make([]byte, unix.CmsgSpace(4))
	_, oobn, _, _, err := unix.Recvmsg(pair[0], make([]byte, 1), oob, unix.MSG_CMSG_CLOEXEC)
	if err == nil && oobn > 0 {
		msgs, err := unix.ParseSocketControlMessage(oob[:oobn])
		if err != nil {
			t.Fatal(err)
		}
		fds, err := unix.ParseUnixRights(&msgs[0])
		if err != nil {
			t.Fatal(err)
		}
		answerAll(t, fds[0], func(n notification) int64 {
			return see(n, func() { unix.Write(pair[0], []byte{0}) })
		})
		unix.Close(fds[0])
	}
	if err := cmd.Wait(); err != nil {
		if cmd.ProcessState.ExitCode() != noTrap {
			t.Fatalf("%v: %s", err, out.String())
		}
		harness.Missing(t, "this kernel cannot show what the handler does: seccomp: %s", out.String())
	}
	return out.String()
}

// noAnswer leaves a call without an answer, until its process ends.
const noAnswer = -1 << 62

// answerAll makes every trapped system call return what see does. It returns when
// no process has the filter any more.
func answerAll(t *testing.T, listener int, see func(notification) int64) {
	t.Helper()
	for {
		set := []unix.PollFd{{Fd: int32(listener), Events: unix.POLLIN}}
		if _, err := unix.Poll(set, -1); err == unix.EINTR {
			continue
		}
		if set[0].Revents&unix.POLLIN == 0 {
			return // POLLHUP
		}
		var n notification
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(listener), ioctlNotifRecv, uintptr(unsafe.Pointer(&n)))
		switch errno {
		case 0:
		case unix.EINTR, unix.ENOENT: // again; its process has been killed
			continue
		default:
			t.Fatal(errno)
		}
		result := see(n)
		if result == noAnswer {
			continue
		}
		a := &answer{id: n.id, val: max(result, 0), errno: int32(min(result, 0))}
		_, _, errno = unix.Syscall(unix.SYS_IOCTL, uintptr(listener), ioctlNotifSend, uintptr(unsafe.Pointer(a)))
		if errno != 0 && errno != unix.ENOENT {
			t.Fatal(errno)
		}
	}
}
