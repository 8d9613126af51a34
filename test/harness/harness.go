// Package harness is what the tests of several packages share: independence of
// the process that started them, what to do where something is missing, a check
// for leaks, and a network of their own. Only tests import it. What only one
// package's tests need stays with them.
//
// It imports no package of the module, so that every package's tests can use it.
package harness

import (
	"flag"
	"fmt"
	"maps"
	"math"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// All says whether everything is to be tested, and nothing may be skipped because
// this machine lacks it: CI=true in the environment, which "make check" and .ci/run
// set. Without it, tests that repeat one thing for many cases take a sample.
func All() bool { return os.Getenv("CI") == "true" }

// Missing ends a test that cannot run on this machine. The test is skipped, or
// fails where [All] holds.
func Missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if All() {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// Tool returns the path of the first of these programs that is in PATH. If there
// is none it ends the test as [Missing] does. Which package has a program is in
// test/tools.
func Tool(t testing.TB, names ...string) string {
	t.Helper()
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	Missing(t, "not in PATH: %s; see test/tools", strings.Join(names, ", "))
	return ""
}

// Compiler returns the path of a C compiler, or ends the test as [Missing] does.
func Compiler(t testing.TB) string {
	t.Helper()
	return Tool(t, "cc", "gcc", "clang")
}

// Start makes the test process independent of what started it. It is for the
// beginning of TestMain.
//
//   - Signals that are ignored (by nohup, a shell's background, tmux) have their
//     default action again. exec would hand SIG_IGN down to the programs under test.
//   - If the process group is orphaned (cron, setsid, CI), the process becomes the
//     leader of a new one, which is not, since its parent is in the same session.
//     The kernel discards SIGTSTP, SIGTTIN and SIGTTOU in an orphaned group.
//   - The umask is 022.
//   - Descriptors from 3 on, with which something else has left this process, are not
//     handed down by exec.
//   - In a process of [OwnNetwork] the loopback interface is up.
func Start() {
	directory, _ = os.Getwd()
	for sig := 1; sig <= 64; sig++ {
		defaultIfIgnored(sig)
	}
	if orphaned() {
		_ = unix.Setpgid(0, 0) // it fails for a session's leader, whose group is orphaned in any case
	}
	unix.Umask(0o022)
	_ = unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
	if InOwnNetwork() {
		if err := loopbackUp(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

// sigaction is struct kernel_sigaction, <asm/signal.h>. Where an architecture has
// no restorer what follows the flags is of no use here either.
type sigaction struct {
	handler, flags, restorer uintptr
	mask                     [2]uint64
}

func defaultIfIgnored(sig int) {
	const sigIgn = 1
	var act sigaction
	_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), 0, uintptr(unsafe.Pointer(&act)), 8, 0, 0)
	if errno == 0 && act.handler == sigIgn {
		act = sigaction{}
		unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&act)), 0, 8, 0, 0)
	}
}

// orphaned says whether no ancestor keeps our process group from being orphaned:
// one whose parent is in another group of the same session.
func orphaned() bool {
	group, _ := unix.Getpgid(0)
	session, _ := unix.Getsid(0)
	for pid := os.Getpid(); pid > 1; {
		parent, pgrp, sid := parentOf(pid)
		if pgrp != group || sid != session {
			return sid != session
		}
		pid = parent
	}
	return true
}

// parentOf reads fields 4 to 6 of /proc/PID/stat, proc_pid_stat(5).
func parentOf(pid int) (parent, pgrp, session int) {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	s := string(b)
	f := strings.Fields(s[strings.LastIndexByte(s, ')')+1:])
	if len(f) < 4 {
		return 0, 0, 0
	}
	number := func(i int) int { n, _ := strconv.Atoi(f[i]); return n }
	return number(1), number(2), number(3)
}

// Commands builds the commands into a directory, as the Makefile does; their
// version is 0.0.0-test.
func Commands(dir string) error {
	flags := "-s -w -funcalign 16 -X blcr-cli/internal/cli.Version=0.0.0-test"
	if runtime.GOARCH == "amd64" {
		flags += " -E blcr-cli/internal/entry.entry"
	}
	args := []string{"-tags", "urfave_cli_no_docs", "-ldflags", flags}
	for _, path := range []string{"fmt", "reflect", "regexp/...", "text/template/...", "time", "github.com/urfave/cli/v2"} {
		args = append(args, "-gcflags="+path+"=-l")
	}
	return Build(dir, append(args, "blcr-cli/cmd/...")...)
}

// Build runs "go build", without cgo, with these arguments and the directory to
// build into.
func Build(dir string, args ...string) error {
	build := exec.Command("go", append([]string{"build", "-trimpath", "-buildvcs=false", "-o", dir}, args...)...)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(build.Args, " "), err, out)
	}
	return nil
}

// Main does [Start], runs the tests, and returns the status to exit with. It is 1
// if the tests have left goroutines or descriptors behind.
func Main(m *testing.M) int {
	Start()
	warmUp()
	goroutines, files := runtime.NumGoroutine(), Descriptors()
	status := m.Run()
	// The fuzzing engine keeps a goroutine and descriptors of its own.
	if fuzz := flag.Lookup("test.fuzz"); status != 0 || fuzz != nil && fuzz.Value.String() != "" {
		return status
	}
	return leaks(goroutines, files)
}

// warmUp makes the runtime open what it then keeps: its poller, and the pidfd by
// which package os finds out whether there are any.
func warmUp() {
	if r, w, err := os.Pipe(); err == nil {
		r.Close()
		w.Close()
	}
	if l, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err == nil {
		unix.Close(l)
	}
	_ = exec.Command("/proc/self/exe/none").Run()
}

// Descriptors are the open descriptors of this process and what they lead to. To
// look at them it needs no poller, which package os would open.
func Descriptors() map[int]string {
	open := map[int]string{}
	dir, err := unix.Open("/proc/self/fd", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		panic(err)
	}
	defer unix.Close(dir)
	buf, link := make([]byte, 4096), make([]byte, 4096)
	for {
		n, err := unix.ReadDirent(dir, buf)
		if err != nil || n == 0 {
			return open
		}
		_, _, names := unix.ParseDirent(buf[:n], -1, nil)
		for _, name := range names {
			fd, err := strconv.Atoi(name)
			if err != nil || fd == dir {
				continue
			}
			if n, err := unix.Readlinkat(dir, name, link); err == nil {
				open[fd] = string(link[:n])
			}
		}
	}
}

// leaks waits until there are no more goroutines and descriptors than there were.
func leaks(goroutines int, files map[int]string) int {
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if runtime.NumGoroutine() <= goroutines && maps.Equal(Descriptors(), files) {
			return 0
		}
	}
	stacks := make([]byte, 1<<20)
	fmt.Fprintf(os.Stderr, "leak: %d goroutines, were %d; descriptors:\n%v, were:\n%v\n%s\n", runtime.NumGoroutine(), goroutines,
		Descriptors(), files, stacks[:runtime.Stack(stacks, true)])
	return 1
}

// Patience is how long a test waits for a state that is sure to come. It is no
// measure of how long that takes: a busy machine may need many times of it.
const Patience = 60 * time.Second

// Poll waits until a condition holds, and fails the test if it does not come.
func Poll(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(Patience); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("does not come: %s", what)
		}
	}
}

// WriteProgram is os.WriteFile for a file that is to be executed. No process that
// another goroutine forks meanwhile has it open for writing, for which execve(2)
// would fail with ETXTBSY.
func WriteProgram(path string, content []byte, mode os.FileMode) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return os.WriteFile(path, content, mode)
}
