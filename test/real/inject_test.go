//go:build real && amd64

package real

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// These tests trace cr_checkpoint by ptrace(2), write down the system calls by which it
// treats the context and its directory, and make one of them fail. Its worker is traced
// as well, and CRIU, which comes by vfork, is not.
// The tracer is a process of its own, this program again: here, reap waits for children.

// injectEnv says what the tracer is to do: "DIR LOG CALL NTH ERRNO". CALL is as in the
// log, with "/" for the blank.
const injectEnv = "REALTEST_INJECT"

// treated are the calls that are looked at, and where the descriptor or the name is among
// their arguments.
var treated = map[uint64]struct {
	name string
	fd   int
	path int // -1: none
}{
	unix.SYS_WRITE: {"write", 0, -1}, unix.SYS_PWRITE64: {"pwrite", 0, -1}, unix.SYS_PREAD64: {"pread", 0, -1}, unix.SYS_SPLICE: {"splice", 2, -1},
	unix.SYS_FSYNC: {"fsync", 0, -1}, unix.SYS_FDATASYNC: {"fdatasync", 0, -1}, unix.SYS_FALLOCATE: {"fallocate", 0, -1}, unix.SYS_FTRUNCATE: {"ftruncate", 0, -1},
	unix.SYS_SYNC_FILE_RANGE: {"sync_file_range", 0, -1}, unix.SYS_FLOCK: {"flock", 0, -1}, unix.SYS_FSTAT: {"fstat", 0, -1},
	unix.SYS_LSEEK: {"lseek", 0, -1}, unix.SYS_OPENAT: {"openat", -1, 1}, unix.SYS_UNLINKAT: {"unlinkat", -1, 1},
	unix.SYS_RENAME: {"rename", -1, 0}, unix.SYS_RENAMEAT: {"renameat", -1, 1}, unix.SYS_RENAMEAT2: {"renameat", -1, 1},
	unix.SYS_LINK: {"link", -1, 0}, unix.SYS_LINKAT: {"linkat", -1, 1}, unix.SYS_UNLINK: {"unlinkat", -1, 0},
}

// inject is the tracer. Its arguments are a command; it ends as that does.
func inject() int {
	runtime.LockOSThread()
	spec := strings.Split(os.Getenv(injectEnv), " ")
	os.Unsetenv(injectEnv)
	t := tracer{dir: spec[0], call: strings.Replace(spec[2], "/", " ", 1), count: map[string]int{}, threads: map[int]*traced{}}
	t.nth, _ = strconv.Atoi(spec[3])
	errno, _ := strconv.Atoi(spec[4])
	t.errno = syscall.Errno(errno)
	var err error
	if t.log, err = os.Create(spec[1]); err != nil {
		return complain("%v", err)
	}
	pid, err := syscall.ForkExec(os.Args[1], os.Args[1:], &syscall.ProcAttr{
		Env: os.Environ(), Files: []uintptr{0, 1, 2}, Sys: &syscall.SysProcAttr{Ptrace: true},
	})
	if err != nil {
		return complain("%v", err)
	}
	status, err := t.run(pid)
	if err != nil {
		_ = unix.Kill(pid, unix.SIGKILL)
		return complain("tracing: %v", err)
	}
	return status
}

// traced is a thread that is traced.
type traced struct {
	inside bool // of a system call
	fails  bool // that call is not to be made
}

type tracer struct {
	dir, call string
	nth       int
	errno     syscall.Errno
	log       *os.File
	count     map[string]int
	threads   map[int]*traced
}

func (t *tracer) run(pid int) (status int, err error) {
	var ws unix.WaitStatus
	if _, err := unix.Wait4(pid, &ws, unix.WALL, nil); err != nil {
		return 0, err
	}
	t.threads[pid] = &traced{}
	const options = unix.PTRACE_O_EXITKILL | unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_TRACEFORK | unix.PTRACE_O_TRACEEXEC
	if err := unix.PtraceSetOptions(pid, options); err != nil {
		return 0, err
	}
	if err := unix.PtraceSyscall(pid, 0); err != nil {
		return 0, err
	}
	for {
		tid, err := unix.Wait4(-1, &ws, unix.WALL, nil)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return 0, err
		case !ws.Stopped():
			if tid != pid {
				continue
			}
			if ws.Signaled() {
				return 128 + int(ws.Signal()), nil
			}
			return ws.ExitStatus(), nil
		}
		thread, signal := t.threads[tid], 0
		switch s := ws.StopSignal(); {
		case s == unix.SIGTRAP|0x80:
			if thread != nil {
				err = t.step(tid, thread)
			}
		case s == unix.SIGTRAP && ws.TrapCause() > 0:
		case s == unix.SIGSTOP && thread == nil: // a new thread
			t.threads[tid] = &traced{}
		default:
			signal = int(s)
		}
		if err == nil {
			err = unix.PtraceSyscall(tid, signal)
		}
		if err != nil && err != unix.ESRCH { // it may be killed at any time
			return 0, err
		}
	}
}

// step is the beginning or the end of a system call.
func (t *tracer) step(tid int, thread *traced) error {
	thread.inside = !thread.inside
	if !thread.inside && !thread.fails {
		return nil
	}
	var regs unix.PtraceRegs
	if err := unix.PtraceGetRegs(tid, &regs); err != nil {
		return err
	}
	if !thread.inside {
		thread.fails = false
		regs.Rax = -uint64(t.errno)
		return unix.PtraceSetRegs(tid, &regs)
	}
	name := t.name(tid, &regs)
	if name == "" {
		return nil
	}
	fmt.Fprintln(t.log, name)
	if t.count[name]++; name == t.call && t.count[name] == t.nth {
		thread.fails = true
		regs.Orig_rax = ^uint64(0) // no call
		return unix.PtraceSetRegs(tid, &regs)
	}
	return nil
}

// name returns a call and the file in the directory that it is for; "" for others.
func (t *tracer) name(tid int, regs *unix.PtraceRegs) string {
	call, ok := treated[regs.Orig_rax]
	if !ok {
		return ""
	}
	args := []uint64{regs.Rdi, regs.Rsi, regs.Rdx}
	path := ""
	if call.path >= 0 {
		var b [4096]byte
		n, _ := unix.PtracePeekData(tid, uintptr(args[call.path]), b[:])
		path, _, _ = strings.Cut(string(b[:n]), "\x00")
	} else {
		path, _ = os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", tid, int32(args[call.fd])))
	}
	if path != t.dir && filepath.Dir(path) != t.dir {
		return ""
	}
	return call.name + " " + filepath.Base(strings.TrimSuffix(path, " (deleted)"))
}

// injected runs cr_checkpoint with a call that fails, or none, and returns its status, its
// message and the calls.
func (v *victim) injected(call string, nth int, errno syscall.Errno, args ...string) (status int, said string, calls []string) {
	v.t.Helper()
	self, err := os.Executable()
	if err != nil {
		v.t.Fatal(err)
	}
	log := filepath.Join(v.dir, "calls")
	env := v.env
	v.env = append(slices.Clone(env), fmt.Sprintf("%s=%s %s %s %d %d", injectEnv, filepath.Dir(v.ctx), log, strings.Replace(call, " ", "/", 1), nth, int(errno)))
	p := v.start("inject", slices.Concat([]string{self, filepath.Join(bin, "cr_checkpoint")}, args, []string{"-f", v.ctx, strconv.Itoa(v.pid)}), nil)
	v.env = env
	end := v.wait(p)
	text, _ := os.ReadFile(log)
	stderr, _ := os.ReadFile(p.stderr)
	if !end.Exited() {
		v.t.Fatalf("%s fails the %d. time: %s\n%s", call, nth, describe(end), stderr)
	}
	return end.ExitStatus(), string(stderr), strings.Split(strings.TrimSpace(string(text)), "\n")
}

// TestFaultCalls makes the calls by which a context is written fail: the first, one in the
// middle and the last of each kind. Then the old context is there, or the new one, whole;
// nothing else is, and the job has not noticed.
func TestFaultCalls(t *testing.T) {
	v := newVictim(t)
	status, said, calls := v.injected("none", 0, 0)
	if status != 0 || said != "" {
		t.Fatalf("status %d, %q", status, said)
	}
	v.note()
	total := map[string]int{}
	var kinds []string
	for _, call := range calls {
		if total[call]++; total[call] == 1 {
			kinds = append(kinds, call)
		}
	}
	for _, must := range []string{"splice .ctx.tmp", "pread .ctx.tmp", "pwrite .ctx.tmp", "fsync .ctx.tmp", "fsync to", "fallocate .ctx.tmp"} {
		if total[must] == 0 {
			t.Errorf("there is no call %s: %v", must, total)
		}
	}
	faults, failures := 0, 0
	fatal := map[string]syscall.Errno{} // calls that must succeed the first time
	for i, call := range kinds {
		nths := []int{1, (total[call] + 1) / 2, total[call]}
		for _, nth := range slices.Compact(nths) {
			errno := []syscall.Errno{unix.EIO, unix.ENOSPC}[(i+nth)%2]
			status, said, _ := v.injected(call, nth, errno)
			if faults++; status == 0 {
				// Nothing that has to succeed.
				if text, status := v.told("--verify", v.ctx); status != 0 {
					t.Errorf("%s fails the %d. time with %v unnoticed: %s", call, nth, errno, text)
				}
				v.note()
			} else {
				if failures++; nth == 1 {
					fatal[call] = errno
				}
				if said == "" {
					t.Errorf("%s fails the %d. time with %v: status %d without a message", call, nth, errno, status)
				}
			}
			v.intact()
			if t.Failed() {
				t.Fatalf("%s has failed the %d. time of %d with %v: status %d, %s", call, nth, total[call], errno, status, said)
			}
		}
	}
	t.Logf("%d faults at %d calls of %d kinds, of which %d made the checkpoint fail", faults, len(calls), len(kinds), failures)
	if failures < 5 || len(fatal) < 3 {
		t.Error("too few of them have had an effect")
	}
	// The signal is sent when nothing can fail any more.
	for call, errno := range fatal {
		status, said, _ := v.injected(call, 1, errno, "--kill")
		v.intact()
		if status == 0 || t.Failed() {
			t.Fatalf("--kill, and %s has failed with %v: status %d, %s", call, errno, status, said)
		}
	}
	t.Logf("%d of them with --kill", len(fatal))
	v.finish()
}

// TestPowerOrder holds the order of a whole cr_checkpoint's calls against what a loss of
// power at any moment may leave: with all data synced before the name leads to it, and
// the directory afterwards, the name leads to a whole context, old or new. What may be
// left of renames and links is tested with internal/target.
func TestPowerOrder(t *testing.T) {
	v := newVictim(t)
	for _, args := range [][]string{nil, {"--backup"}, {"--backup=older"}, {"--compress"}} {
		status, said, calls := v.injected("none", 0, 0, args...)
		if status != 0 || said != "" {
			t.Fatalf("%v: status %d, %q", args, status, said)
		}
		if err := ordered(calls); err != nil {
			t.Errorf("%v: %v, in %v", args, err, slices.Compact(calls))
		}
		for _, name := range []string{"ctx.~1~", "older"} {
			os.Remove(filepath.Join(filepath.Dir(v.ctx), name))
		}
		v.note()
		v.intact()
	}
	v.finish()
}

// ordered returns what is wrong with the order of calls.
func ordered(calls []string) error {
	const file, dir = ".ctx.tmp", "to"
	last := func(names ...string) int {
		for i := len(calls) - 1; i >= 0; i-- {
			if slices.Contains(names, calls[i]) {
				return i
			}
		}
		return -1
	}
	written := last("pwrite "+file, "write "+file, "splice "+file, "ftruncate "+file)
	synced, renamed := last("fsync "+file), last("renameat "+file, "rename "+file)
	switch {
	case written < 0 || renamed < 0:
		return errors.New("it is not written and renamed")
	case synced < written:
		return errors.New("it is written to after it was synced")
	case renamed < synced:
		return errors.New("it gets its name before it is synced")
	case last("fsync "+dir) < renamed:
		return errors.New("the directory is not synced after the rename")
	case last("pwrite ctx", "write ctx", "splice ctx") >= 0:
		return errors.New("it is written to under its name")
	}
	return nil
}
