package script_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"blcr-cli/test/ctrlsim"
	"blcr-cli/test/harness"
)

// This file looks at the two processes of a cr_checkpoint: the one that was started,
// which waits, and its worker. They separate at the entry point.

// callsOf runs a cr_checkpoint and returns the numbers of the system calls of each of
// its processes, that of the one that was started first.
func callsOf(t *testing.T, scenario, argv0 string, env []string, args ...string) (calls [][]int) {
	t.Helper()
	var mu sync.Mutex
	var pids []int
	c := &ctrlsim.Command{
		Path: filepath.Join(bin, "cr_checkpoint"), Argv0: argv0, Args: args, Dir: t.TempDir(), Linger: linger,
		Scenario: ctrlsim.MustScenario(scenario),
		Env:      append([]string{"PATH=/bin:/usr/bin", "CR_FTB=off"}, env...),
		OnCall: func(call ctrlsim.SystemCall) {
			mu.Lock()
			defer mu.Unlock()
			i := slices.Index(pids, call.Pid)
			if i < 0 {
				i = len(pids)
				pids, calls = append(pids, call.Pid), append(calls, nil)
			}
			calls[i] = append(calls[i], call.Number)
		},
	}
	r, err := c.Run()
	if err != nil || len(r.Leftover) > 0 {
		t.Fatalf("%v, %+v", err, r)
	}
	return calls
}

// TestWorker pins that nothing is executed to make the worker, and that the process
// that waits for it makes no other calls than these: it has no thread of the Go runtime
// and no descriptor that BLCR's module could not save.
func TestWorker(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"99999"}, {"--version"}, {"--help"}, {"--no-such-option"}, {"-d", ".", "99999"}, {"-F", "77", "99999"}} {
		calls := callsOf(t, "", "cr_checkpoint", nil, args...)
		if len(calls) != 2 {
			t.Fatalf("%q: %d processes", args, len(calls))
		}
		clone := slices.Index(calls[0], unix.SYS_CLONE)
		if clone < 0 || slices.Contains(calls[1], unix.SYS_EXECVE) {
			t.Fatalf("%q: calls %v", args, calls)
		}
		for _, call := range calls[0][clone+1:] {
			switch call {
			case unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGPROCMASK, unix.SYS_WAIT4, unix.SYS_EXIT_GROUP:
			default:
				t.Errorf("%q: the process that waits makes call %d", args, call)
			}
		}
		if clone > 100 {
			t.Errorf("%q: %d calls before the worker is made", args, clone)
		}
	}
}

// TestWorkerElsewhere pins when the worker is made at the entry point: in a program
// that was started by the name of cr_checkpoint, with whatever engine.
func TestWorkerElsewhere(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		argv0     string
		env       []string
		processes int
	}{
		{"cr_checkpoint", nil, 2},
		{"/usr/bin/cr_checkpoint", nil, 2},
		{"./cr_checkpoint", []string{"CR_ENGINE=kernel"}, 2},
		{"cr_checkpoint", []string{"CR_ENGINE=criu"}, 2},
		{"cr_checkpoint:worker", nil, 1},
		{"cr_checkpoints", nil, 1},
		{"cr_checkpoint/", nil, 1},
		{"cr_check", nil, 1},
		{"cr_restart", nil, 1},
	} {
		if got := len(callsOf(t, "", c.argv0, c.env, "--version")); got != c.processes {
			t.Errorf("%q with %q: %d processes, want %d", c.argv0, c.env, got, c.processes)
		}
	}
	// Without the module, or without permission to use it.
	for _, scenario := range []string{"open ENOENT", "open EACCES"} {
		if got := len(callsOf(t, scenario, "cr_checkpoint", nil, "--version")); got != 2 {
			t.Errorf("%s: %d processes, want 2", scenario, got)
		}
	}
}

// TestWorkerSignals sends each signal to the process that waits, or to both. A signal
// that ends programs ends the worker, which removes what it has made, and the process
// dies of it, too. Others change nothing, and so do those that were ignored.
func TestWorkerSignals(t *testing.T) {
	t.Parallel()
	// Those that do not end a program by default, are kept from os/signal, or stop it.
	harmless := []syscall.Signal{unix.SIGCHLD, unix.SIGCONT, unix.SIGURG, unix.SIGWINCH, 64}
	for sig := syscall.Signal(1); sig <= 64; sig++ {
		switch sig {
		case unix.SIGKILL, unix.SIGSTOP, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU, 33:
			continue
		}
		t.Run(fmt.Sprint(int(sig)), func(t *testing.T) {
			t.Parallel()
			for _, ignored := range []bool{false, true} {
				if ignored && sig == 32 {
					continue // bash cannot ignore it
				}
				ends := !ignored && !slices.Contains(harmless, sig)
				c := &ctrlsim.Command{
					Path: "/bin/bash", Argv0: "bash", Dir: t.TempDir(), Linger: linger,
					Args:        []string{"-c", `exec cr_checkpoint -f ctx 99999`},
					Env:         []string{"PATH=" + bin + ":/bin:/usr/bin", "CR_FTB=off", "CR_ENGINE=kernel"},
					SysProcAttr: &syscall.SysProcAttr{Setpgid: true},
					Scenario:    ctrlsim.MustScenario("chkpt-delay never\nchkpt-reap 0"),
				}
				if ignored {
					c.Args[1] = fmt.Sprintf("trap '' %d; %s", int(sig), c.Args[1])
				}
				if err := c.Start(); err != nil {
					t.Fatal(err)
				}
				if err := c.WaitTranscript("CHKPT_REQ", hang); err != nil {
					t.Fatal(err)
				}
				kill := c.Signal
				if sig%2 == 0 {
					kill = func(sig syscall.Signal) error { return unix.Kill(-c.Pid(), sig) }
				}
				if err := kill(sig); err != nil {
					t.Error(err)
				}
				want := sig
				if !ends {
					want = unix.SIGTERM
					if sig == want {
						want = unix.SIGHUP
					}
					if err := kill(want); err != nil {
						t.Error(err)
					}
				}
				r, err := c.Wait()
				if err != nil || r.Signal != want || len(r.Leftover) > 0 {
					t.Errorf("ignored %v: %v, %+v, want signal %d", ignored, err, r, int(want))
				}
				if files, _ := os.ReadDir(c.Dir); len(files) > 0 {
					t.Errorf("left behind: %v", files)
				}
			}
		})
	}
}

// TestTermAtCall has SIGTERM come at each system call of a cr_checkpoint's two
// processes: to the one that was started, or to both. It dies of that or does what it
// does otherwise, and nothing is left.
func TestTermAtCall(t *testing.T) {
	t.Parallel()
	starts := 20
	if harness.All() {
		starts = 600
	}
	run := func(at int) (r *ctrlsim.Result, calls int) {
		var mu sync.Mutex
		first := 0 // the process that was started
		c := &ctrlsim.Command{
			Path: filepath.Join(bin, "cr_checkpoint"), Argv0: "cr_checkpoint", Args: []string{"-f", "new", "99999"}, Dir: t.TempDir(), Linger: linger,
			Env:         []string{"PATH=/bin:/usr/bin", "CR_ENGINE=kernel", "CR_FTB=off"},
			SysProcAttr: &syscall.SysProcAttr{Setpgid: true},
			OnCall: func(call ctrlsim.SystemCall) {
				mu.Lock()
				defer mu.Unlock()
				if exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", call.Tid)); filepath.Base(exe) != "cr_checkpoint" {
					return
				}
				if first == 0 {
					first = call.Pid
				}
				if calls++; calls == at {
					pid := first
					if at%2 == 0 {
						pid = -pid
					}
					_ = unix.Kill(pid, unix.SIGTERM)
				}
			},
		}
		r, err := c.Run()
		if err != nil {
			t.Fatal(err)
		}
		if files, _ := os.ReadDir(c.Dir); len(files) > 0 || len(r.Leftover) > 0 {
			t.Errorf("SIGTERM at call %d: left behind: %v, %d processes", at, files, len(r.Leftover))
		}
		return r, calls
	}
	_, all := run(0)
	for i := range starts {
		at := 1 + i*all/starts
		if r, _ := run(at); r.Signal != unix.SIGTERM && r.ExitCode != 3 {
			t.Fatalf("SIGTERM at call %d of %d: exit %d, signal %d\n%s", at, all, r.ExitCode, int(r.Signal), r.TranscriptText())
		}
	}
}
