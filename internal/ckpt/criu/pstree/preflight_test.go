package pstree

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/proc"
	"blcr-cli/test/harness"
)

// oddities is a program that becomes something that CRIU cannot restore, named by its
// argument, prints a line and waits. It ends at once if this machine, or this user,
// cannot have that.
const oddities = `
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int flags;
static char stack[1 << 16];
static pthread_t main_thread;

static int need(int result)
{
	if (result < 0)
		kill(0, SIGKILL); /* all of this session */
	return result;
}

static void ready(void)
{
	need(write(1, "ready\n", 6));
	for (;;)
		pause();
}

static int child(void *none) { ready(); return 0; }
static void *unsharing(void *none) { need(unshare(flags)); ready(); return 0; }
static void *plain(void *none) { ready(); return 0; }
static void *last(void *none) { pthread_join(main_thread, 0); ready(); return 0; }

static void owns(int fd)
{
	struct f_owner_ex owner = { F_OWNER_TID, syscall(SYS_gettid) };
	need(fcntl(fd, F_SETOWN_EX, &owner));
	ready();
}

static void *owning(void *none) { owns(flags); return 0; }

/* Unmaps what the kernel has mapped under a name that begins so. */
static void unmap(const char *name)
{
	char line[4096], *at;
	unsigned long start, end;
	FILE *maps = fopen("/proc/self/maps", "r");

	while (fgets(line, sizeof line, maps))
		if ((at = strstr(line, name)) && sscanf(line, "%lx-%lx", &start, &end) == 2)
			need(munmap((void *)start, end - start));
	fclose(maps);
}

static void thread(void *(*f)(void *))
{
	pthread_t t;
	need(-pthread_create(&t, 0, f, 0));
}

int main(int argc, char **argv)
{
	const char *what = argv[1];
	int f;

	flags = argc > 2 ? strtol(argv[2], 0, 0) : 0;
	if (!strcmp(what, "thread")) { /* unshares something */
		thread(flags ? unsharing : plain);
	} else if (!strcmp(what, "last")) { /* its first thread ends */
		main_thread = pthread_self();
		thread(last);
		pthread_exit(0);
	} else if (!strcmp(what, "shares")) { /* something with its child */
		if (need(clone(child, stack + sizeof stack, flags | SIGCHLD, 0)) == 0)
			return 0;
	} else if (!strcmp(what, "signal")) { /* has a child with that signal at its end */
		if (need(syscall(SYS_clone, (long)flags, 0, 0, 0, 0)) == 0)
			ready();
	} else if (!strcmp(what, "ended")) { /* the same, which has ended */
		siginfo_t info;
		if (need(syscall(SYS_clone, (long)flags, 0, 0, 0, 0)) == 0)
			_exit(0);
		need(waitid(P_ALL, 0, &info, WEXITED | WNOWAIT | __WALL));
		ready();
	} else if (!strcmp(what, "status")) { /* has a child that has ended with that status */
		siginfo_t info;
		if (need(fork()) == 0)
			_exit(flags);
		need(waitid(P_ALL, 0, &info, WEXITED | WNOWAIT));
		ready();
	} else if (!strcmp(what, "pipes")) {
		int ends[2];
		struct rlimit many = { 4096, 4096 };
		need(setrlimit(RLIMIT_NOFILE, &many));
		while (flags-- > 0) {
			need(pipe(ends));
			if (flags & 1)
				close(ends[1]);
		}
		ready();
	} else if (!strcmp(what, "vfork")) {
		if (need(vfork()) == 0)
			ready();
	} else if (!strcmp(what, "child")) { /* is in a namespace of its own */
		if (need(fork()) == 0) {
			need(unshare(flags));
			ready();
		}
	} else if (!strcmp(what, "self")) { /* is itself */
		need(unshare(flags));
		ready();
	} else if (!strcmp(what, "policy")) {
		struct { unsigned size, policy; unsigned long flags; int nice; unsigned priority; unsigned long runtime, deadline, period; } a =
			{ sizeof a, flags, 0, 0, 0, 1000000, 100000000, 100000000 };
		if (flags == SCHED_RESET_ON_FORK)
			a.policy = SCHED_OTHER, a.flags = 1;
		need(syscall(SYS_sched_setattr, 0, &a, 0));
		ready();
	} else if (!strcmp(what, "memfd")) {
		char path[32];
		FILE *in = fopen("/proc/self/exe", "r");
		int n, fd = need(memfd_create("program", 0));
		while ((n = fread(stack, 1, sizeof stack, in)) > 0)
			need(write(fd, stack, n));
		sprintf(path, "/proc/self/fd/%d", fd);
		execl(path, "program", "thread", (char *)0);
	} else if (!strcmp(what, "owner")) { /* a thread gets the signals of a pipe */
		int ends[2];
		need(pipe(ends));
		if (flags) {
			flags = ends[0];
			thread(owning);
		} else {
			owns(ends[0]);
		}
	} else if (!strcmp(what, "vdso")) {
		if (flags & 1)
			unmap("[vdso]");
		if (flags & 2)
			unmap("[vvar");
		ready();
	} else if (!strcmp(what, "reserve")) {
		if (mmap(0, (size_t)flags << 40, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) == MAP_FAILED)
			need(-1);
		ready();
	}
	for (;;)
		pause();
}
`

// odd starts that program in a session of its own, and returns its pid when it is what
// it was told to be.
func odd(t *testing.T, program string, args ...string) int {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := cmd.Process.Pid
	t.Cleanup(func() {
		pids, _ := proc.Descend(pid)
		for _, pid := range pids {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if line, _ := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Skipf("%v is not to be had here", args)
	}
	return pid
}

func compile(t *testing.T, source string) string {
	t.Helper()
	dir := t.TempDir()
	name := filepath.Join(dir, "odd")
	if err := os.WriteFile(name+".c", []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(harness.Compiler(t), "-w", "-o", name, name+".c", "-lpthread").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return name
}

// TestPreflight: each process that CRIU would not bring back as it is gets a refusal
// that says what it has, and each that only looks like one gets none.
func TestPreflight(t *testing.T) {
	program := compile(t, oddities)
	const (
		unsupported = syscall.EOPNOTSUPP
		fs          = "0x200"
		files       = "0x400"
	)
	for _, c := range []struct {
		args  string
		errno syscall.Errno // 0 for one that can be saved
		said  string
	}{
		{"thread", 0, ""},
		{"thread " + fs, unsupported, "has a thread, TID, with a working directory of its own"},
		{"thread " + files, unsupported, "has a thread, TID, with open descriptors of its own"},
		{"thread 0x40000000", unsupported, "has a thread, TID, with a network namespace of its own"},
		{"thread 0x4000000", unsupported, "has a thread, TID, with a uts namespace of its own"},
		{"last", unsupported, "has lost its first thread"},
		{"shares 0", 0, ""},
		{"shares " + files, 0, ""},
		{"shares " + fs, unsupported, "has its working directory in common with its parent PID"},
		{"shares 0x100", unsupported, "has its memory in common with its parent PID"},
		{"signal 17", 0, ""},
		{"signal 10", unsupported, "sends its parent PID SIGUSR1 when it ends"},
		{"signal 0", unsupported, "sends its parent PID no signal when it ends"},
		{"ended 17", 0, ""},
		{"ended 28", unsupported, "sends its parent PID SIGWINCH when it ends"},
		{"status 127", 0, ""},
		{"status 255", syscall.EBUSY, "has ended with status 255, which criu would restore as 127, and process PID has not waited for it yet"},
		{"pipes 1000", 0, ""},
		{"pipes 1100", unsupported, "the processes have 1100 pipes open, and criu saves no more than 1024"},
		{"vfork", syscall.EBUSY, "process PID (odd) waits in vfork(2) for process"},
		{"child 0x20000", unsupported, "is in a mount namespace of its own"},
		{"child 0x40000000", unsupported, "is in a network namespace of its own"},
		{"child 0x8000000", unsupported, "is in an ipc namespace of its own"},
		{"self 0x20000", unsupported, "process PID (odd) is in a mount namespace of its own"},
		{"self 0x40000000", 0, ""}, // CRIU saves it
		{"self 0x8000000", 0, ""},
		{"self 0x10000000", unsupported, "process PID (odd) is in a user namespace of its own"},
		{"self 0x20000000", unsupported, "process PID (odd) has made a pid namespace for its children"},
		{"policy 0", 0, ""},
		{"policy 3", 0, ""},
		{"policy 0x40000000", 0, ""}, // SCHED_RESET_ON_FORK
		{"policy 6", unsupported, "has the scheduling policy SCHED_DEADLINE"},
		{"memfd", unsupported, "runs a program that is only in memory, /memfd:program"},
		{"owner 0", 0, ""},
		{"owner 1", unsupported, "as descriptor 3 that sends its signals to thread TID (F_OWNER_"},
		{"vdso 0", 0, ""},
		{"vdso 1", unsupported, "has unmapped the kernel's code for it, [vdso]"},
		{"vdso 2", 0, ""}, // CRIU restores it
		{"vdso 3", 0, ""},
		{"reserve 20", 0, ""}, // as AddressSanitizer
		{"reserve 86", unsupported, "has reserved 86 TiB of address space"},
	} {
		t.Run(strings.ReplaceAll(c.args, " ", "-"), func(t *testing.T) {
			pid := odd(t, program, strings.Fields(c.args)...)
			// What a process becomes while the line is on its way.
			_, err := resolve(t, &ckpt.CheckpointRequest{ID: int32(pid), Scope: ckpt.ScopeTree, Limit: 100 * time.Millisecond})
			if c.errno == 0 {
				if err != nil {
					t.Errorf("refused: %v, %q", err, detail(err))
				}
				return
			}
			said := strings.ReplaceAll(c.said, "PID", fmt.Sprint(pid))
			for _, tid := range proc.Threads(pid) {
				if tid != pid {
					said = strings.ReplaceAll(said, "TID", fmt.Sprint(tid))
				}
			}
			checkError(t, err, c.errno, said)
			if d := detail(err); len(d) != 2 {
				t.Errorf("says %q, want what is wrong and what to do", d)
			}
		})
	}
}

// busyProgram is a program whose threads and children come and go all the time.
const busyProgram = `
#include <pthread.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

static void *nothing(void *none) { return 0; }

static void *spawning(void *none)
{
	for (;;) {
		pid_t pid;
		char *argv[] = { "true", 0 }, *env[] = { 0 };
		if (posix_spawn(&pid, "/bin/true", 0, 0, argv, env) == 0)
			waitpid(pid, 0, 0);
		if ((pid = fork()) == 0)
			_exit(0);
		waitpid(pid, 0, 0);
	}
}

int main(void)
{
	pthread_t t;

	pthread_create(&t, 0, spawning, 0);
	write(1, "ready\n", 6);
	for (;;) {
		pthread_create(&t, 0, nothing, 0);
		pthread_join(t, 0);
	}
}
`

// TestPreflightBusy: nothing is refused of a program for what its threads and children
// are for a moment.
func TestPreflightBusy(t *testing.T) {
	pid := odd(t, compile(t, busyProgram))
	for n, begin := 0, time.Now(); n < 50 || time.Since(begin) < time.Second; n++ {
		if _, err := resolve(t, &ckpt.CheckpointRequest{ID: int32(pid), Scope: ckpt.ScopeTree}); err != nil {
			t.Fatalf("look %d: %v, %q", n, err, detail(err))
		}
	}
}

// TestLauncher: srun is refused, whatever it is started by; a name that begins so is not.
func TestLauncher(t *testing.T) {
	program := compile(t, busyProgram)
	for name, errno := range map[string]syscall.Errno{"srun": syscall.EOPNOTSUPP, "sruns": 0} {
		path := filepath.Join(t.TempDir(), name)
		if err := os.Rename(program, path); err != nil {
			t.Fatal(err)
		}
		program = path
		_, err := resolve(t, &ckpt.CheckpointRequest{ID: int32(odd(t, path)), Scope: ckpt.ScopeTree})
		if errno == 0 {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		checkError(t, err, errno, "(srun) has its tasks run by SLURM")
	}
}

func detail(err error) []string {
	if e, ok := err.(*ckpt.Error); ok {
		return e.Detail
	}
	return nil
}

// insideEnv has this binary only ask whether it may restore, as root of a user namespace.
const insideEnv = "PSTREE_TEST_INSIDE"

func TestMain(m *testing.M) {
	if os.Getenv(insideEnv) != "" {
		fmt.Println(detail(mayRestore()))
		os.Exit(0)
	}
	mayRestore = func() error { return nil }
	os.Exit(harness.Main(m))
}

// TestMayRestore: root of a user namespace without power over its network may not.
func TestMayRestore(t *testing.T) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
	}
	out, err := cmd.Output()
	if err != nil {
		t.Skipf("no user namespaces here: %v", err)
	}
	if !strings.Contains(string(out), "root has no power over the network here (CAP_NET_ADMIN)") {
		t.Errorf("%s", out)
	}
}

// TestPreflightFrozen: a process that becomes one that cannot be saved after it was
// looked at is refused when it is looked at again.
func TestPreflightFrozen(t *testing.T) {
	pid := odd(t, compile(t, oddities), "thread", "0x400")
	tree := &Tree{Root: pid, PIDs: []int{pid}}
	checkError(t, tree.Refresh(), syscall.EOPNOTSUPP, "open descriptors of its own")
}

// TestFrozenGroup: a process in a frozen control group is refused at once, with the
// group.
func TestFrozenGroup(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("makes a control group, which takes root")
	}
	for _, kind := range []struct{ dir, file, frozen, thawed string }{
		{"/sys/fs/cgroup/freezer", "freezer.state", "FROZEN", "THAWED"},
		{"/sys/fs/cgroup", "cgroup.freeze", "1", "0"},
		{"/sys/fs/cgroup/unified", "cgroup.freeze", "1", "0"},
	} {
		group := fmt.Sprintf("%s/blcr-cli-test-%d", kind.dir, os.Getpid())
		if os.Mkdir(group, 0o755) != nil {
			continue
		}
		defer os.Remove(group)
		state := filepath.Join(group, kind.file)
		if _, err := os.Stat(state); err != nil {
			continue
		}
		t.Run(kind.file, func(t *testing.T) {
			pid, _, _ := start(t, "/bin/cat")
			inside := filepath.Join(group, "inside")
			if err := os.Mkdir(inside, 0o755); err != nil {
				t.Fatal(err)
			}
			defer os.Remove(inside)
			if err := os.WriteFile(inside+"/cgroup.procs", fmt.Append(nil, pid), 0); err != nil {
				t.Skip(err)
			}
			outside := filepath.Join(kind.dir, "cgroup.procs")
			defer os.WriteFile(outside, fmt.Append(nil, pid), 0)
			if err := os.WriteFile(state, []byte(kind.frozen), 0); err != nil {
				t.Skip(err)
			}
			defer os.WriteFile(state, []byte(kind.thawed), 0)
			_, err := resolve(t, &ckpt.CheckpointRequest{ID: int32(pid), Scope: ckpt.ScopeTree})
			checkError(t, err, syscall.EBUSY, fmt.Sprintf("process %d (cat) is frozen by its control group /blcr-cli-test-%d", pid, os.Getpid()))
		})
	}
}

// BenchmarkPreflight is the look at one process, and at 1,000.
func BenchmarkPreflight(b *testing.B) {
	for _, n := range []int{1, 1000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			cmd := exec.Command("/bin/sh", "-c", `i=1; while [ $i -lt $0 ]; do sleep 1000 & i=$((i+1)); done; echo; exec sleep 1000`, strconv.Itoa(n))
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
			out, err := cmd.StdoutPipe()
			if err == nil {
				err = cmd.Start()
			}
			if err != nil {
				b.Fatal(err)
			}
			defer func() {
				_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
				_ = cmd.Wait()
			}()
			if _, err := out.Read(make([]byte, 1)); err != nil {
				b.Fatal(err)
			}
			tree, err := Resolve(b.Context(), &ckpt.CheckpointRequest{ID: int32(cmd.Process.Pid), Scope: ckpt.ScopeTree})
			if err != nil {
				b.Fatal(err)
			}
			defer tree.Close()
			for b.Loop() {
				if found := tree.preflight(); len(found) > 0 {
					b.Fatal(found)
				}
			}
		})
	}
}
