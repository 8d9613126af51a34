package signals

import (
	"bytes"
	"fmt"
	"os/exec"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"blcr-cli/test/harness"
)

// forwardRole starts a program that catches nothing and forwards signals to it;
// with "held" only after the first one. It prints what ended the program, and what
// the Forwarder has seen.
func forwardRole(args string) {
	f := NewForwarder()
	cmd := exec.Command("sleep", "600")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	seen := atomic.LoadUint32(&arrivals)
	must(cmd.Start())
	if args == "held" {
		fmt.Println("ready")
		sleep(seen)
	}
	f.To(cmd.Process.Pid)
	if args != "held" {
		fmt.Println("ready")
	}
	cmd.Wait()
	var forwarded []int
	for sig := syscall.Signal(1); sig <= maxSignal; sig++ {
		if f.seen(sig) {
			forwarded = append(forwarded, int(sig))
		}
	}
	fmt.Println(int(cmd.ProcessState.Sys().(syscall.WaitStatus).Signal()), forwarded)
}

// TestForwarder: a signal ends the other process and not this one, which knows of
// it; also if it came before To.
func TestForwarder(t *testing.T) {
	for _, how := range []string{"at once", "held"} {
		for _, sig := range ending {
			p := start(t, "forward", how)
			p.says(t, "ready")
			p.kill(t, sig)
			p.ends(t, fmt.Sprintf("%d [%d]\n", sig, sig), "exit 0")
		}
	}
}

// awaitRole prints the answers of seen and Await for signals that come and that do
// not.
func awaitRole() {
	f := NewForwarder()
	fmt.Println(f.seen(unix.SIGTERM), f.Await(unix.SIGTERM))
	add(unix.SIGTERM)
	fmt.Println(f.seen(unix.SIGTERM), f.Await(unix.SIGHUP))
	go func() {
		time.Sleep(2 * time.Millisecond)
		add(unix.SIGINT)
	}()
	fmt.Println(f.Await(unix.SIGINT))
}

// TestAwait: a signal that comes a moment late is seen.
func TestAwait(t *testing.T) {
	start(t, "await").ends(t, "false false\ntrue false\ntrue\n", "exit 0")
}

// pipeRole writes signals to a pipe, prints the first one that comes out of it,
// closes the reader, and says which of the following end this process.
func pipeRole() {
	var pipe [2]int
	must(unix.Pipe2(pipe[:], unix.O_CLOEXEC))
	NewForwarder().ToPipe(pipe[1], func(sig syscall.Signal) bool {
		fmt.Println("alone", int(sig))
		return sig == unix.SIGTERM
	})
	fmt.Println("ready")
	var b [2]byte
	n, err := unix.Read(pipe[0], b[:])
	must(err)
	unix.Close(pipe[0])
	fmt.Println("read", b[:n])
	waitForEOF()
}

// TestToPipe: signals are written to the pipe while it has a reader; afterwards the
// function decides.
func TestToPipe(t *testing.T) {
	p := start(t, "pipe")
	p.says(t, "ready")
	p.kill(t, unix.SIGUSR1)
	p.says(t, "read [10]")
	p.kill(t, unix.SIGHUP)
	p.says(t, "alone 1")
	p.kill(t, unix.SIGTERM)
	p.ends(t, "alone 15\n", "signal 15")
}

// addRole prints what AddFromPipe and AddSet count.
func addRole() {
	counted := func() {
		for _, sig := range pending() {
			fmt.Print(int(sig), "*", take(sig), " ")
		}
		fmt.Println()
	}
	AddFromPipe(bytes.NewReader([]byte{40, 15, 255, 64, 18, 33, 9, 20, 40, 1, 65}))
	counted()
	AddSet(1<<0 | 1<<4 | 1<<14 | 1<<16 | 1<<19 | 1<<32 | 1<<62 | 1<<63)
	counted()
}

// TestAdd: signals of the other process are counted as if they had been caught
// here, but only those that end programs. A SIGTRAP that is pending for a frozen process
// is not for the worker: CRIU executes system calls in it by that signal.
func TestAdd(t *testing.T) {
	start(t, "add").ends(t, "15*1 40*2 1*1 \n1*1 15*1 63*1 \n", "exit 0")
}

// keepRole catches signals and does nothing with them.
func keepRole() {
	NewForwarder()
	fmt.Println("ready")
	time.Sleep(time.Hour)
}

// TestCaughtBy: what a process has caught and not taken is seen by another one, also if it
// is stopped.
func TestCaughtBy(t *testing.T) {
	p := start(t, "keep")
	p.says(t, "ready")
	if set := CaughtBy(p.Process.Pid); set != 0 {
		t.Errorf("caught at first: %#x", set)
	}
	p.kill(t, unix.SIGTERM)
	p.kill(t, unix.SIGUSR1)
	want := uint64(1<<(unix.SIGTERM-1) | 1<<(unix.SIGUSR1-1))
	harness.Poll(t, "the signals to be caught", func() bool { return CaughtBy(p.Process.Pid) == want })
	p.kill(t, unix.SIGSTOP)
	if set := CaughtBy(p.Process.Pid); set != want {
		t.Errorf("caught: %#x, want %#x", set, want)
	}
	p.kill(t, unix.SIGKILL)
	p.ends(t, "", "signal 9")
	if set := CaughtBy(p.Process.Pid); set != 0 {
		t.Errorf("caught by a process that has ended: %#x", set)
	}
}

// TestCaughtByHandler: a signal is seen for which the handler has been entered, and has
// executed nothing yet.
func TestCaughtByHandler(t *testing.T) {
	p := start(t, "keep")
	p.says(t, "ready")
	pid := p.Process.Pid
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// It stops the first thread only.
	if err := unix.PtraceAttach(pid); err != nil {
		harness.Missing(t, "ptrace: %v", err)
	}
	stopped := func(want syscall.Signal) {
		t.Helper()
		var status unix.WaitStatus
		if _, err := unix.Wait4(pid, &status, unix.WALL, nil); err != nil || status.StopSignal() != want {
			t.Fatalf("%v, status %#x; want a stop by %v", err, status, want)
		}
	}
	stopped(unix.SIGSTOP)
	if err := unix.Tgkill(pid, pid, unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := unix.PtraceCont(pid, 0); err != nil {
		t.Fatal(err)
	}
	stopped(unix.SIGTERM)
	// The kernel makes the frame for the handler, and stops.
	if _, _, errno := unix.RawSyscall6(unix.SYS_PTRACE, unix.PTRACE_SINGLESTEP, uintptr(pid), 0, uintptr(unix.SIGTERM), 0, 0); errno != 0 {
		t.Fatal(errno)
	}
	stopped(unix.SIGTRAP)
	if set := CaughtBy(pid); set != 1<<(unix.SIGTERM-1) {
		t.Errorf("about to be caught: %#x", set)
	}
	if err := unix.PtraceDetach(pid); err != nil {
		t.Fatal(err)
	}
	harness.Poll(t, "the signal to be counted", func() bool {
		var counted [maxSignal + 1]uint32
		return read(pid, uintptr(unsafe.Pointer(&counts)), &counted) && counted[unix.SIGTERM] == 1 && CaughtBy(pid) == 1<<(unix.SIGTERM-1)
	})
	p.kill(t, unix.SIGKILL)
	p.ends(t, "", "signal 9")
}
