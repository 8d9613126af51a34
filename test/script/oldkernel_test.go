package script_test

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"blcr-cli/test/ctrlsim"
)

// BLCR's module runs on Linux up to 3.17, and mostly on 3.10. This file runs the
// commands with a seccomp filter that answers as Linux 3.10 does to what is newer.

// oldKernelVar makes the test binary execute the program of its arguments under that
// filter.
const oldKernelVar = "SCRIPT_TEST_OLD_KERNEL"

func init() {
	if os.Getenv(oldKernelVar) == "" {
		return
	}
	os.Unsetenv(oldKernelVar)
	runtime.LockOSThread()
	err := oldKernel()
	if err == nil {
		err = syscall.Exec(os.Args[1], os.Args[2:], os.Environ())
	}
	fmt.Fprintln(os.Stderr, "old kernel:", err)
	os.Exit(99)
}

// oldKernel makes the calling thread, and what it executes, see Linux 3.10, as far as
// system calls and their flags are concerned.
func oldKernel() error {
	const (
		ld  = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		jeq = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		jge = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
		and = unix.BPF_ALU | unix.BPF_AND | unix.BPF_K
		ret = unix.BPF_RET | unix.BPF_K

		first = 314 // sched_setattr, of Linux 3.14
		args  = 16  // offset in struct seccomp_data
	)
	prog := []unix.SockFilter{{Code: ld, K: 0}}
	fail := func(errno syscall.Errno) unix.SockFilter {
		return unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_ERRNO | uint32(errno)}
	}
	allow := unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_ALLOW}
	prog = append(prog, unix.SockFilter{Code: jge, K: first, Jf: 1}, fail(unix.ENOSYS))
	// look examines an argument of one call. A block ends in a return.
	look := func(nr, arg uint32, block ...unix.SockFilter) {
		prog = append(prog, unix.SockFilter{Code: jeq, K: nr, Jf: uint8(len(block) + 1)}, unix.SockFilter{Code: ld, K: args + 8*arg})
		prog = append(prog, block...)
	}
	// Locks of open file descriptions, of Linux 3.15, are 36 to 38; seals are above.
	look(unix.SYS_FCNTL, 1,
		unix.SockFilter{Code: jge, K: unix.F_OFD_GETLK, Jf: 3}, unix.SockFilter{Code: jge, K: unix.F_OFD_SETLKW + 1, Jt: 2},
		fail(unix.EINVAL), allow,
		unix.SockFilter{Code: jge, K: unix.F_ADD_SEALS, Jf: 1}, fail(unix.EINVAL), allow)
	look(unix.SYS_PRCTL, 0,
		unix.SockFilter{Code: jge, K: unix.PR_SET_THP_DISABLE, Jf: 1}, fail(unix.EINVAL), allow)
	look(unix.SYS_MADVISE, 2,
		unix.SockFilter{Code: jge, K: unix.MADV_DODUMP + 1, Jf: 1}, fail(unix.EINVAL), allow)
	// O_TMPFILE, of Linux 3.11, was O_DIRECTORY with an unknown flag.
	look(unix.SYS_OPENAT, 2,
		unix.SockFilter{Code: and, K: unix.O_TMPFILE}, unix.SockFilter{Code: jeq, K: unix.O_TMPFILE, Jf: 1}, fail(unix.EISDIR), allow)
	prog = append(prog, allow)
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	fprog := unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
	return unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&fprog)), 0, 0)
}

// TestOldKernel: the commands do the same on an old kernel, and say the same.
func TestOldKernel(t *testing.T) {
	t.Parallel()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	runs := append([]launch{
		{name: "cr_checkpoint", args: []string{"-v", "-f", "new", "TARGET"}},
		{name: "cr_checkpoint", args: []string{"--backup", "--kmsg-warning", "-f", "old", "TARGET"}},
		{name: "cr_checkpoint", args: []string{"--clobber", "--term", "-f", "old", "TARGET"}},
		{name: "cr_checkpoint", args: []string{"--noclobber", "--nosync", "-T", "TARGET"}},
		{name: "cr_checkpoint", args: []string{"-F", "1", "TARGET"}},
		{name: "cr_checkpoint", args: []string{"--backup=a/b", "-f", "missing/new", "TARGET"}},
		{name: "cr_checkpoint", args: []string{"--time", "1", "-d", ".", "TARGET"}},
		{name: "cr_checkpoint", args: []string{"--help"}},
		{name: "cr_restart", args: []string{"-v"}},
		{name: "cr_restart", args: []string{"-F", "0"}},
		{name: "cr_restart", args: []string{"missing"}},
		{name: "cr_restart", args: []string{"--kmsg-error", "--run-on-success", "echo hook", "--relocate", "/a=/b", "ctx"}},
		{name: "cr_restart", args: []string{"--no-restore-pid", "-S", "USR1", "ctx"}},
		{name: "cr_run", args: []string{"sh", "-c", "echo run"}},
		{name: "cr_info", args: []string{"--json", "ctx"}},
	}, launches...)
	for i, l := range runs {
		t.Run(fmt.Sprint(i, " ", l.name), func(t *testing.T) {
			t.Parallel()
			run := func(old bool) string {
				dir := t.TempDir()
				for _, name := range []string{"ctx", "old"} {
					var context []byte
					for _, word := range []uint32{'C', 'R', 8, 3, 5} { // version, scope, architecture
						context = binary.NativeEndian.AppendUint32(context, word)
					}
					if err := os.WriteFile(filepath.Join(dir, name), context, 0o600); err != nil {
						t.Fatal(err)
					}
				}
				in, err := os.Open(dir + "/ctx")
				if err != nil {
					t.Fatal(err)
				}
				defer in.Close()
				target := startTarget(t)
				var out strings.Builder
				c := &ctrlsim.Command{
					Path: filepath.Join(bin, l.name), Argv0: l.name, Dir: dir, Linger: linger,
					Env:      append([]string{"PATH=" + bin + ":/bin:/usr/bin"}, agentOf(t, "well")...),
					Scenario: ctrlsim.MustScenario("rstrt-read no\njob exit 7\nchkpt-log a line"),
					Stdin:    in, Stdout: &out, Stderr: &out,
				}
				for _, arg := range l.args {
					c.Args = append(c.Args, strings.ReplaceAll(arg, "TARGET", fmt.Sprint(target)))
				}
				if old {
					c.Args = append([]string{c.Path, c.Argv0}, c.Args...)
					c.Path, c.Argv0 = exe, exe
					c.Env = append(c.Env, oldKernelVar+"=1")
				}
				r, err := c.Run()
				if err != nil {
					t.Fatal(err)
				}
				files, _ := filepath.Glob(dir + "/*")
				hidden, _ := filepath.Glob(dir + "/.*")
				result := fmt.Sprintf("exit %d, signal %d, left %d, problems %q, output %q, files %q", r.ExitCode, int(r.Signal),
					len(r.Leftover), r.Problems, out.String(), append(files, hidden...))
				for _, line := range r.Requests() {
					result += "\n" + line
				}
				return strings.NewReplacer(dir, "DIR", fmt.Sprint(target), "TARGET", fmt.Sprint(c.Pid()), "PID").Replace(result)
			}
			want, got := run(false), run(true)
			if got != want {
				t.Errorf("%q on an old kernel:\n%s\nwant:\n%s", l.args, got, want)
			}
		})
	}
}
