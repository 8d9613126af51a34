package script_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/test/ctrlsim"
	"blcr-cli/test/harness"
)

// This file looks at the commands at every system call that they make, from the
// program's exec on.

// launch is a command in a directory with a context "ctx" of the module's.
type launch struct {
	name   string
	args   []string
	status int
	output string
}

// launches are the commands, each on the longest way that ends by itself at once.
var launches = []launch{
	{"cr_checkpoint", []string{"-f", "new", "99999"}, 3, "Checkpoint failed: no processes checkpointed\n"},
	{"cr_restart", []string{"--run-on-success", "exit 0", "ctx"}, 7, ""},
	{"cr_run", []string{"/bin/true"}, 0, ""},
	{"cr_info", []string{"ctx"}, 1, ""},
	{"ftb-publish", []string{"CHKPT_BEGIN"}, 0, ""},
	{"ftb-watch", []string{"--count", "1", "--timeout", "0.1"}, 4, "ftb-watch: timed out: not as many events as --count asks for\n"},
}

// batchLaunch is cr_batch, which is not among them. It is the parent of what is saved, in
// a session of its own, and never in the tree itself. A request for a tree that it is in,
// such as that of the job script, is to fail, as it does with the runtime's poller open: a
// second cr_batch that is restored would be at work on the same job and directory.
var batchLaunch = launch{"cr_batch", []string{"-q", "-d", "gen", "--", "/bin/true"}, 0, ""}

// traced is one run of a command.
type traced struct {
	*ctrlsim.Result
	output string
	calls  int // of processes that execute the command's file
}

// cannotBeSaved are files that BLCR's module cannot save a process with: those of
// the Go runtime's poller, of its timers and of os.Process, and those of control
// groups.
var cannotBeSaved = regexp.MustCompile(`^(anon_inode:|/sys/)`)

// TestIgnoredAtCall pins that signals that were ignored are ignored from the program's
// first instruction on. The Go runtime would catch them at its start, and die of them.
func TestIgnoredAtCall(t *testing.T) {
	const ignored = 1<<0 | 1<<1 | 1<<2 | 1<<9 | 1<<11 | 1<<12 | 1<<13 | 1<<14 | 1<<23 | 1<<33 | 1<<49
	const trap = `trap "" HUP INT QUIT USR1 USR2 PIPE ALRM TERM XCPU 34 50; exec "$0" "$@"`
	for _, l := range append(slices.Clone(launches), batchLaunch) {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			held := false // from here on cr_restart catches them all, for the job
			trace(t, l, agentOf(t, "well"), func(_ *testing.T, c *ctrlsim.Command) {
				c.Args = append([]string{"-c", trap, c.Path}, c.Args...)
				c.Path, c.Argv0 = "/bin/bash", "bash"
			}, func(number int, call ctrlsim.SystemCall) {
				held = held || call.Number == unix.SYS_IOCTL && l.name == "cr_restart"
				status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", call.Tid))
				_, set, _ := strings.Cut(string(status), "\nSigIgn:\t")
				set, _, _ = strings.Cut(set, "\n")
				if got, err := strconv.ParseUint(set, 16, 64); err == nil && !held && got&ignored != ignored {
					t.Errorf("call %d, number %d: ignored %#x", number, call.Number, got)
				}
			})
		})
	}
}

// way is a configuration in which cr_checkpoint and cr_restart run.
type way struct {
	name      string
	agent     string // as agentOf's
	args      []string
	slow      bool // it takes seconds
	configure func(*testing.T, *ctrlsim.Command)
}

var ways = []way{
	{name: "no events"},
	{name: "agent", agent: "well"},
	{name: "no agent", agent: "refuse"},
	{name: "silent agent", agent: "deaf", slow: true},
	{name: "kernel log", args: []string{"--kmsg-error"}, agent: "well"},
	{name: "verbose", agent: "well", configure: func(_ *testing.T, c *ctrlsim.Command) {
		if c.Argv0 == "cr_checkpoint" {
			c.Args = append([]string{"-v"}, c.Args...)
		}
	}},
	{name: "renamed", configure: func(_ *testing.T, c *ctrlsim.Command) { c.Argv0 = "renamed" }},
	{name: "terminal", configure: onTerminal},
	{name: "progress", slow: true, configure: func(t *testing.T, c *ctrlsim.Command) {
		onTerminal(t, c)
		c.Scenario.ChkptDelay, c.Scenario.RstrtDelay = 3*time.Second, 3*time.Second
	}},
	{name: "non-blocking", configure: onNonBlocking},
	{name: "closed", agent: "well", configure: func(t *testing.T, c *ctrlsim.Command) {
		c.Args = append([]string{"-c", `exec <&- >&- 2>&- "$0" "$@"`, c.Path}, c.Args...)
		c.Path, c.Argv0 = "/bin/sh", "sh"
	}},
}

// TestDescriptorsAtCall pins that a command has none of these open at any of its
// system calls, since a request may come there. Only the runtime's start has files
// of control groups open, when the answer still is "omit me".
func TestDescriptorsAtCall(t *testing.T) {
	for _, c := range ways {
		commands := launches[:2]
		if c.name == "agent" {
			// Those that cannot be asked leave none open either. Cr_run ignores requests,
			// and reads files by package os.
			commands = slices.DeleteFunc(slices.Clone(launches), func(l launch) bool { return l.name == "cr_run" })
		}
		for _, l := range commands {
			t.Run(c.name+"/"+l.name, func(t *testing.T) {
				t.Parallel()
				l.args = append(slices.Clone(c.args), l.args...)
				seen, first := map[string]bool{}, map[int]int{}
				trace(t, l, agentOf(t, c.agent), c.configure, func(number int, call ctrlsim.SystemCall) {
					const start = 150 // its calls, from the entry point on
					if first[call.Pid] == 0 || call.Number == unix.SYS_EXECVE {
						first[call.Pid] = number
					}
					entries, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", call.Tid)) // none of one that has been killed
					for _, fd := range entries {
						name, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", call.Tid, fd.Name()))
						if strings.HasPrefix(name, "/sys/") && number < first[call.Pid]+start {
							continue
						}
						if what := fd.Name() + " " + name; cannotBeSaved.MatchString(name) && !seen[what] {
							seen[what] = true
							t.Errorf("at call %d (number %d) descriptor %s is open", number, call.Number, what)
						}
					}
				})
			})
		}
	}
}

// onTerminal gives the command a terminal.
func onTerminal(t *testing.T, c *ctrlsim.Command) {
	t.Helper()
	main, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { main.Close() })
	if err := unix.IoctlSetPointerInt(int(main.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(main.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	terminal, err := os.OpenFile(fmt.Sprint("/dev/pts/", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { terminal.Close() })
	go io.Copy(io.Discard, main)
	c.Stdin, c.Stdout, c.Stderr = terminal, terminal, terminal
}

// onNonBlocking gives the command pipes with O_NONBLOCK as its standard descriptors.
func onNonBlocking(t *testing.T, c *ctrlsim.Command) {
	t.Helper()
	pipe := func() (r, w *os.File) {
		var fds [2]int
		if err := unix.Pipe2(fds[:], unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
		r, w = os.NewFile(uintptr(fds[0]), "pipe"), os.NewFile(uintptr(fds[1]), "pipe")
		t.Cleanup(func() { r.Close(); w.Close() })
		return r, w
	}
	in, _ := pipe()
	r, out := pipe()
	go io.Copy(io.Discard, r)
	c.Stdin, c.Stdout, c.Stderr = in, out, out
}

// trace runs a command under a module that asks, with an agent of the event
// backplane, and calls onCall for each system call of the processes that execute
// the command's file, with its number from 1 on, by one goroutine at a time.
// Configure, if not nil, changes the command before.
func trace(t *testing.T, l launch, env []string, configure func(*testing.T, *ctrlsim.Command), onCall func(number int, call ctrlsim.SystemCall)) traced {
	t.Helper()
	dir := t.TempDir()
	var context []byte
	for _, word := range []uint32{'C', 'R', 8, 3, 5} { // version, scope, architecture
		context = binary.NativeEndian.AppendUint32(context, word)
	}
	if err := os.WriteFile(dir+"/ctx", context, 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(bin, l.name)
	var image unix.Stat_t
	if err := unix.Stat(path, &image); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	var r traced
	var mu sync.Mutex
	c := &ctrlsim.Command{
		Path: path, Argv0: l.name, Args: l.args, Dir: dir,
		Env:      append([]string{"PATH=" + bin + ":/bin:/usr/bin", "CR_ENGINE=kernel"}, env...),
		Scenario: ctrlsim.MustScenario("ask yes\nrstrt-read no\njob exit 7"), Stdout: &out, Stderr: &out, Linger: linger,
		OnCall: func(call ctrlsim.SystemCall) {
			mu.Lock()
			defer mu.Unlock()
			var exe unix.Stat_t
			if unix.Stat(fmt.Sprintf("/proc/%d/exe", call.Tid), &exe) == nil && exe.Dev == image.Dev && exe.Ino == image.Ino {
				r.calls++
				onCall(r.calls, call)
			}
		},
	}
	if configure != nil {
		configure(t, c)
	}
	var err error
	if r.Result, err = c.Run(); err != nil {
		t.Error(err)
	}
	if r.Result == nil {
		t.FailNow()
	}
	r.output = out.String()
	if l.name == "cr_info" || l.name == "ftb-watch" || configure != nil {
		r.output, l.output = "", "" // it is not always the same
	}
	if r.ExitCode != l.status || r.output != l.output || len(r.Problems) > 0 || len(r.Leftover) > 0 {
		t.Errorf("exit %d, signal %d, output %q, problems %q, %d left behind\n%s",
			r.ExitCode, int(r.Signal), r.output, r.Problems, len(r.Leftover), r.TranscriptText())
	}
	return r
}

// caught says whether a thread's process has a handler for signal 64.
func caught(tid int) bool {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", tid))
	return regexp.MustCompile(`(?m)^SigCgt:\t[89a-f]`).Match(status)
}

// TestEntry pins that each command has a handler for signal 64 from its first
// system call on, which is the one that installs it. Exceptions are a child between
// fork and exec, and cr_run, which soon does without.
func TestEntry(t *testing.T) {
	for _, l := range launches {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			const (
				forked = iota // has not called exec yet
				fresh         // it has, and has made no call since
				handled
				declined
			)
			state := map[int]int{}
			trace(t, l, agentOf(t, "well"), nil, func(number int, call ctrlsim.SystemCall) {
				if number == 1 {
					state[call.Pid] = fresh
				}
				installs := call.Number == unix.SYS_RT_SIGACTION && call.Args[0] == 64 && call.Args[1] != 0
				switch state[call.Pid] {
				case fresh:
					if !installs {
						t.Errorf("the first call of process %d is number %d", call.Pid, call.Number)
					}
					state[call.Pid] = handled
				case forked:
					// The worker of cr_checkpoint does not call exec.
					if l.name == "cr_checkpoint" && !caught(call.Tid) {
						t.Errorf("call %d, number %d: signal 64 is not caught in the worker", number, call.Number)
					}
				case handled:
					if !caught(call.Tid) {
						t.Errorf("call %d, number %d: signal 64 is not caught", number, call.Number)
					}
					if installs && l.name == "cr_run" {
						state[call.Pid] = declined
					}
				}
				if call.Number == unix.SYS_EXECVE {
					state[call.Pid] = fresh
				}
			})
		})
	}
}

// TestRequestAtCall has a request arrive at each system call of a command, one for
// each start. The command does what it does otherwise, and the request is answered
// by all.
func TestRequestAtCall(t *testing.T) {
	starts := 8
	if harness.All() {
		starts = 1000
	}
	for _, l := range launches {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			requestAtCall(t, l, agentOf(t, "well"), nil, starts)
		})
	}
}

// TestRequestAtCallWays does the same in other configurations.
func TestRequestAtCallWays(t *testing.T) {
	starts := 2
	if harness.All() {
		starts = 100
	}
	for _, c := range ways {
		if c.slow {
			continue
		}
		for _, l := range launches[:2] {
			t.Run(c.name+"/"+l.name, func(t *testing.T) {
				t.Parallel()
				l.args = append(slices.Clone(c.args), l.args...)
				requestAtCall(t, l, agentOf(t, c.agent), c.configure, starts)
			})
		}
	}
}

// answers matches the transcript of a request that is answered.
var answers = regexp.MustCompile(`(?m)^(HAND_ABORT|HAND_CHKPT|HAND_CHKPT_INFO|CHKPT_FWD) |^STRANGER .* = (0 saved|-ESRCH|-EBUSY)`)

func requestAtCall(t *testing.T, l launch, env []string, configure func(*testing.T, *ctrlsim.Command), starts int) {
	t.Helper()
	declined := 1 << 30 // the call from which on cr_run ignores requests
	all := trace(t, l, env, configure, func(number int, call ctrlsim.SystemCall) {
		if l.name == "cr_run" && number > 1 && call.Number == unix.SYS_RT_SIGACTION && call.Args[0] == 64 && call.Args[1] != 0 {
			declined = min(declined, number)
		}
	}).calls
	starts = min(starts, all)
	for i := range starts {
		at := 1 + i*all/starts
		var r traced
		answered := false
		// The command may end before the thread that a request has woken runs, on a busy
		// machine. It does not do so again and again at one call.
		for tries := 0; tries < 5 && !answered; tries++ {
			r = trace(t, l, env, configure, func(number int, call ctrlsim.SystemCall) {
				if number == at {
					call.Stranger(ctrlsim.Stranger{Scope: "tree"})
				}
			})
			// Without a result where the command has ended soon afterwards.
			const threads = 8
			answered = t.Failed() || min(r.calls, declined) <= at+threads || answers.MatchString(r.TranscriptText())
		}
		if !answered {
			t.Errorf("the request is not answered:\n%s", r.TranscriptText())
		}
		if t.Failed() {
			t.Fatalf("a request at call %d of %d", at, all)
		}
	}
}

// TestRestoredAtCall has everybody who is saved go on as if restored, from a request
// at a system call of cr_checkpoint. The process that waits ends well, whether its worker
// was saved with it or left out.
func TestRestoredAtCall(t *testing.T) {
	t.Parallel()
	starts := 20
	if harness.All() {
		starts = 600
	}
	l := launches[0]
	env := []string{"CR_FTB=off"}
	all := trace(t, l, env, nil, func(int, ctrlsim.SystemCall) {}).calls
	for i := range starts {
		at := 1 + i*all/starts
		var out strings.Builder
		number := 0
		var mu sync.Mutex
		c := &ctrlsim.Command{
			Path: filepath.Join(bin, l.name), Argv0: l.name, Args: l.args, Dir: t.TempDir(),
			Env:      append([]string{"PATH=/bin:/usr/bin", "CR_ENGINE=kernel"}, env...),
			Scenario: ctrlsim.MustScenario("restarted yes"), Stdout: &out, Stderr: &out, Linger: linger,
			OnCall: func(call ctrlsim.SystemCall) {
				mu.Lock()
				defer mu.Unlock()
				if exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", call.Tid)); filepath.Base(exe) != l.name {
					return
				}
				if number++; number == at {
					call.Stranger(ctrlsim.Stranger{Scope: "tree"})
				}
			},
		}
		r, err := c.Run()
		if err != nil {
			t.Fatal(err)
		}
		// Its worker has reported the failure, or was left out.
		if r.ExitCode != 0 && r.ExitCode != l.status || r.ExitCode == l.status && out.String() != l.output || len(r.Problems) > 0 || len(r.Leftover) > 0 {
			t.Fatalf("a request at call %d of %d: exit %d, signal %d, output %q, problems %q, %d left behind\n%s",
				at, all, r.ExitCode, int(r.Signal), out.String(), r.Problems, len(r.Leftover), r.TranscriptText())
		}
	}
}

// TestRequestAtAnyTime has a request arrive at a random time of a command, which need
// not be that of a system call.
func TestRequestAtAnyTime(t *testing.T) {
	starts := 10
	if harness.All() {
		starts = 300
	}
	for i, l := range launches {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(2, uint64(i)))
			env := agentOf(t, "well")
			// How long it takes to its end, which is not the same each time.
			longest := time.Millisecond
			for range starts {
				at := time.Duration(random.Int64N(int64(longest)))
				r := trace(t, l, env, func(_ *testing.T, c *ctrlsim.Command) {
					c.OnCall = nil
					st := ctrlsim.Stranger{When: "at", At: at, Nth: 1, Scope: "group"}
					c.Scenario.Strangers = append(c.Scenario.Strangers, st)
					c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
				}, nil)
				longest = max(longest, r.Elapsed)
				if t.Failed() {
					t.Fatalf("a request after %v", at)
				}
			}
		})
	}
}

// TestRequestBeforeExec has a request arrive while a child of cr_restart goes on to its
// exec, which takes the handler away.
func TestRequestBeforeExec(t *testing.T) {
	t.Parallel()
	starts := 5
	if harness.All() {
		starts = 100
	}
	l := launches[1]
	for i := range starts {
		var asking sync.WaitGroup
		restart := 0
		trace(t, l, agentOf(t, ""), nil, func(number int, call ctrlsim.SystemCall) {
			if number == 1 {
				restart = call.Pid
			}
			if call.Pid != restart && call.Number == unix.SYS_RT_SIGACTION && call.Args[0] == 64 {
				asking.Go(func() { call.Stranger(ctrlsim.Stranger{Scope: "tree"}) })
				time.Sleep(time.Duration(i%20) * 100 * time.Microsecond)
			}
		})
		asking.Wait()
		if t.Failed() {
			t.FailNow()
		}
	}
}
