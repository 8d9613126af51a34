package script_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/test/ctrlsim"
	"blcr-cli/test/ftbsim"
	"blcr-cli/test/harness"
)

// BLCR's module cannot save a process with a descriptor of the poller's, of a
// cgroup file or the like, all of which the Go runtime opens without being asked.
// So what waits, and may be saved while it does, must have none.

// inWait returns the pid of a process's child that it is waiting for, when it is.
func inWait(t *testing.T, pid int) int {
	t.Helper()
	for deadline := time.Now().Add(hang); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/syscall", pid))
		for _, thread := range threads {
			call, _ := os.ReadFile(thread)
			if f := strings.Fields(string(call)); len(f) > 1 && f[0] == strconv.Itoa(unix.SYS_WAIT4) {
				if child, err := strconv.ParseInt(f[1], 0, 64); err == nil && child > 0 {
					return int(child)
				}
			}
		}
	}
	t.Fatalf("process %d does not wait", pid)
	return 0
}

// descriptors are what the descriptors of a process lead to, by number; what has
// no name has its kind only. The control file is a socket here.
func descriptors(t *testing.T, pid int) map[int]string {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	fds := map[int]string{}
	for _, e := range entries {
		name, err := os.Readlink(filepath.Join(dir, e.Name()))
		if err != nil {
			continue
		}
		fd, _ := strconv.Atoi(e.Name())
		if kind, _, ok := strings.Cut(name, ":["); ok && kind != "anon_inode" {
			name = kind
		}
		fds[fd] = name
	}
	return fds
}

// onlyInherited makes sure that there is nothing but what the program was given,
// and so many control files.
func onlyInherited(t *testing.T, pid, controls int, inherited ...int) {
	t.Helper()
	fds := descriptors(t, pid)
	for _, fd := range inherited {
		if fds[fd] == "" {
			t.Errorf("descriptor %d is closed", fd)
		}
		delete(fds, fd)
	}
	for fd, name := range fds {
		if controls > 0 && name == "socket" {
			controls--
			delete(fds, fd)
		}
	}
	if len(fds) > 0 || controls > 0 {
		t.Errorf("descriptors %v besides the inherited ones, %d control files missing", fds, controls)
	}
}

// agentOf returns the environment for an agent with a fault, "" for none of either.
func agentOf(t *testing.T, fault string) []string {
	t.Helper()
	if fault == "" {
		return []string{"CR_FTB=off"}
	}
	config := ftbsim.Config{}
	if fault != "well" {
		f, err := ftbsim.ParseFault(fault)
		if err != nil {
			t.Fatal(err)
		}
		config.Fault = f
	}
	agent, err := ftbsim.Start(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { agent.Close() })
	return []string{fmt.Sprint(agentVar, "=", agent.Port())}
}

// waiting is one way to a command that waits.
type waiting struct {
	name      string
	args      []string
	agent     string // its fault, "well" for none, "" for no agent
	engine    string // CR_ENGINE
	scenario  string
	signals   []syscall.Signal // sent while it waits
	inherited bool
	source    bool // stdin is a pipe with a context, in small pieces
}

// harmless are signals that end neither a command nor a job.
var harmless = []syscall.Signal{unix.SIGCONT, unix.SIGWINCH, unix.SIGURG, 64}

func TestDescriptorsRestart(t *testing.T) {
	t.Parallel()
	for _, w := range []waiting{
		{name: "plain", args: []string{"ctx"}},
		{name: "hook", args: []string{"--run-on-success", "echo ran; sleep 0.01", "ctx"}},
		{name: "signals", args: []string{"ctx"}, signals: harmless},
		{name: "agent", args: []string{"ctx"}, agent: "well"},
		{name: "agent-refuses", args: []string{"ctx"}, agent: "refuse"},
		{name: "agent-deaf", args: []string{"ctx"}, agent: "deaf"},
		{name: "inherited", args: []string{"ctx"}, inherited: true},
		{name: "chosen", args: []string{"ctx"}, engine: "choose"},
		{name: "pipe", args: []string{"-F", "0"}, source: true},
		{name: "pipe-chosen", args: []string{"-F", "0"}, engine: "choose", source: true},
		{name: "many", args: []string{"ctx"}, scenario: "procs 3 1 4\nprocs-block 20ms\nrstrt-delay 50ms\njob exit 0"},
		{name: "kmsg", args: []string{"--kmsg-warning", "ctx"}, scenario: "rstrt-log a line"},
		{name: "asked", args: []string{"--omit-never", "ctx"}, scenario: "ask yes\nstranger before rstrt-log@1\nstranger after chkpt-fwd@1 scope process"},
		{name: "everything", args: []string{"--run-on-success", "echo ran", "-F", "0"}, agent: "well", engine: "choose", source: true, inherited: true,
			signals: harmless, scenario: "ask yes\nstranger before rstrt-log@1"},
	} {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			c := w.command(t, "cr_restart", "job sh read go <go; exit 7")
			goOn := fifo(t, c.Dir)
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			if strings.Contains(w.scenario, "stranger") {
				if err := c.WaitTranscript("STRANGER", hang); err != nil {
					t.Error(err)
				}
			}
			// Before it waits for the job, it waits for a process that keeps the agent's
			// socket, if there is one.
			var job int
			harness.Poll(t, "a wait for the job", func() bool {
				job = inWait(t, c.Pid())
				exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", job))
				return err == nil && filepath.Base(exe) != "cr_restart"
			})
			w.look(t, c, job, 1)
			if _, err := unix.Write(goOn, []byte("go\n")); err != nil {
				t.Error(err)
			}
			r, err := c.Wait()
			if err != nil || r.ExitCode != 7 {
				t.Errorf("%v, %+v", err, r)
			}
		})
	}
}

func TestDescriptorsCheckpoint(t *testing.T) {
	t.Parallel()
	for _, w := range []waiting{
		{name: "plain"},
		{name: "agent", agent: "well"},
		{name: "agent-refuses", agent: "refuse"},
		{name: "agent-deaf", agent: "deaf"},
		{name: "inherited", inherited: true},
		{name: "chosen", engine: "choose"},
		{name: "signals", signals: harmless},
		{name: "verbose", args: []string{"-vv"}},
		{name: "limit", args: []string{"--time", "30"}},
		{name: "backup", args: []string{"--backup"}},
	} {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			w.args = append(w.args, "-f", "ctx", "4711")
			c := w.command(t, "cr_checkpoint", "chkpt-delay never\nchkpt-reap 0")
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			if err := c.WaitTranscript("CHKPT_REQ", hang); err != nil {
				t.Fatal(err)
			}
			worker := inWait(t, c.Pid())
			w.look(t, c, worker, 0)
			// The worker has the context and the like, but nothing that it could
			// not be saved with.
			for fd, name := range descriptors(t, worker) {
				if strings.HasPrefix(name, "anon_inode") || strings.HasPrefix(name, "/sys/") || strings.HasPrefix(name, "/proc/") {
					t.Errorf("the worker's descriptor %d is %s", fd, name)
				}
			}
			c.Signal(unix.SIGTERM)
			if r, err := c.Wait(); err != nil || r.Signal != unix.SIGTERM {
				t.Errorf("%v, %+v", err, r)
			}
		})
	}
}

// command is the command, in a directory with a context and a fifo.
func (w *waiting) command(t *testing.T, name, scenario string) *ctrlsim.Command {
	t.Helper()
	c := &ctrlsim.Command{
		Path: filepath.Join(bin, name), Argv0: name, Args: w.args, Dir: t.TempDir(), Linger: linger,
		Env:      append([]string{"PATH=" + bin + ":/bin:/usr/bin"}, agentOf(t, w.agent)...),
		Scenario: ctrlsim.MustScenario("rstrt-read no\n" + scenario + "\n" + w.scenario),
	}
	if w.engine == "" {
		c.Env = append(c.Env, "CR_ENGINE=kernel")
	}
	context := make([]byte, 64)
	context[0], context[4] = 'C', 'R'
	if err := os.WriteFile(c.Dir+"/ctx", context, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(c.Dir+"/go", 0o600); err != nil {
		t.Fatal(err)
	}
	if w.inherited {
		r, wr, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.Close(); wr.Close() })
		c.ExtraFiles = []*os.File{r, nil, wr}
	}
	if w.source {
		r, wr, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		c.Stdin = r
		t.Cleanup(func() { r.Close() })
		go func() {
			// One piece does not tell what it is.
			wr.Write(context[:3])
			time.Sleep(30 * time.Millisecond)
			wr.Write(context[3:])
			wr.Close()
		}()
	}
	return c
}

// fifo opens the fifo of a command's directory, so that nobody waits at its
// opening.
func fifo(t *testing.T, dir string) int {
	t.Helper()
	fd, err := unix.Open(dir+"/go", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// look looks at a command that waits for a child, before and after signals.
func (w *waiting) look(t *testing.T, c *ctrlsim.Command, child, controls int) {
	t.Helper()
	inherited := []int{0, 1, 2}
	if w.source {
		inherited = inherited[1:] // a later checkpoint is not to depend on a context
	}
	if w.inherited {
		inherited = append(inherited, 3, 5)
	}
	onlyInherited(t, c.Pid(), controls, inherited...)
	for _, sig := range w.signals {
		if err := c.Signal(sig); err != nil {
			t.Error(err)
		}
	}
	if len(w.signals) > 0 {
		// Handed on in an order of their own; what they leave is there for good.
		for deadline := time.Now().Add(100 * time.Millisecond); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
			onlyInherited(t, c.Pid(), controls, inherited...)
		}
	}
	if got := inWait(t, c.Pid()); got != child {
		t.Errorf("it waits for process %d, was for %d", got, child)
	}
}
