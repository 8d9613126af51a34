//go:build real

// Package real runs the built commands on real processes: programs of all
// kinds are saved and restored several times over, and check themselves that
// nothing has happened to them.
//
// It has to be run as root, on a machine with CRIU, and is left out without its
// build tag:
//
//	go test -tags real ./test/real
//	go test -tags real ./test/real -cycles 10 [-lazy] -run 'TestPrograms/(pty|shell)'
//
// What each program does is in its file in the directory programs; how they are
// run is in programs/selfcheck.h.
//
// In the environment:
//
//	CR_BIN		a directory with the commands; without it they are built
//	CR_CRIU		the criu that they use; without it .criu/criu at the top of the
//			source, if that is there
//	REALTEST_CYCLES	how many cycles, for TestPrograms (as -cycles) and TestManyCycles
//	REALTEST_KNOWN=1	tries what is known not to work, too
//	REALTEST_DRY=1	the programs are only run, not saved
package real

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"blcr-cli/test/harness"

	"golang.org/x/sys/unix"
)

var (
	cycles = flag.Int("cycles", 3, "how often each program is saved and restored")
	lazy   = flag.Bool("lazy", false, "restart the programs with --lazy")
	dry    = os.Getenv("REALTEST_DRY") != ""

	// bin has the commands, progs the compiled programs, scratch everything.
	bin, progs, scratch string
)

func TestMain(m *testing.M) {
	if status, is := role(); is {
		os.Exit(status)
	}
	flag.Parse()
	// In some sandboxes our session is one of another pid namespace; nothing that
	// belongs to it can be saved. The leader of a process group, which Start may make
	// us, cannot have a session of its own any more.
	if sid, err := unix.Getsid(0); err == nil && sid == 0 {
		if _, err := unix.Setsid(); err != nil {
			os.Exit(complain("setsid: %v", err))
		}
	}
	harness.Start()
	os.Exit(func() int {
		if os.Geteuid() != 0 {
			return complain("saving and restoring processes takes root")
		}
		if n := os.Getenv("REALTEST_CYCLES"); n != "" {
			var err error
			if *cycles, err = strconv.Atoi(n); err != nil {
				return complain("REALTEST_CYCLES: %v", err)
			}
		}
		var err error
		if scratch, err = os.MkdirTemp("", "realtest"); err != nil {
			return complain("%v", err)
		}
		defer os.RemoveAll(scratch)
		defer forgetAnswers()
		if err := prepare(); err != nil {
			return complain("%v", err)
		}
		// While there is nobody else who waits for its children. An error is told where it
		// is needed.
		_, _ = userCriu()
		// From here on dead processes are reaped here, whoever started them:
		// an unreaped one would keep its pid from being restored.
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
			return complain("%v", err)
		}
		// cr_restart has to see to it itself that it leaves no core file.
		unlimited := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
		if err := unix.Setrlimit(unix.RLIMIT_CORE, &unlimited); err != nil {
			return complain("%v", err)
		}
		go reap()
		stop := make(chan os.Signal, 1)
		signal.Notify(stop, unix.SIGINT, unix.SIGTERM)
		go func() {
			<-stop
			killMarked("", 0)
			forgetAnswers()
			os.RemoveAll(scratch)
			os.Exit(complain("interrupted"))
		}()

		before := surroundings()
		status := m.Run()
		if left := killMarked("", time.Second); len(left) > 0 {
			status = complain("processes are left: %v", left)
		}
		for what := range surroundings() {
			if !before[what] {
				status = complain("left behind: %s", what)
			}
		}
		return status
	}())
}

func complain(format string, args ...any) int {
	fmt.Fprintf(os.Stderr, "realtest: "+format+"\n", args...)
	return 1
}

// prepare builds the commands and the programs.
func prepare() error {
	// A user without rights runs the commands, too.
	if err := os.Chmod(scratch, 0o755); err != nil {
		return err
	}
	progs = filepath.Join(scratch, "programs")
	if err := os.Mkdir(progs, 0o755); err != nil {
		return err
	}
	if os.Getenv("CR_CRIU") == "" {
		if criu, err := filepath.Abs("../../.criu/criu"); err == nil {
			if _, err := os.Stat(criu); err == nil {
				os.Setenv("CR_CRIU", criu)
			}
		}
	}
	if bin = os.Getenv("CR_BIN"); bin == "" && !dry {
		bin = filepath.Join(scratch, "bin")
		if err := os.Mkdir(bin, 0o755); err != nil {
			return err
		}
		if err := harness.Commands(bin); err != nil {
			return err
		}
	}
	if err := harness.Build(progs, "./programs/goroutines", "./programs/selfexec"); err != nil {
		return err
	}
	files, err := filepath.Glob("programs/*.c")
	if err != nil {
		return err
	}
	// Two at a time, as everything here.
	var group sync.WaitGroup
	errs := make([]error, 2)
	for half := range 2 {
		group.Go(func() {
			for i := half; i < len(files) && errs[half] == nil; i += 2 {
				out := filepath.Join(progs, strings.TrimSuffix(filepath.Base(files[i]), ".c"))
				errs[half] = run("cc", "-O1", "-Wall", "-Wextra", "-Werror", "-pthread", "-o", out, files[i], "-lm")
			}
		})
	}
	group.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func run(name string, args ...string) error {
	c := exec.Command(name, args...)
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %v\n%s", strings.Join(c.Args, " "), err, text)
	}
	return nil
}

// forgetAnswers removes what the commands have noted of the criu of a test, which
// goes with it.
func forgetAnswers() {
	names, _ := filepath.Glob("/run/blcr-cli/criu-check-*")
	for _, name := range names {
		if text, err := os.ReadFile(name); err == nil && strings.Contains(string(text), scratch+"/") {
			os.Remove(name)
		}
	}
}

// surroundings is what the tests must not change: mounts, open descriptors of
// the harness, scratch files of the commands where everybody can see them.
func surroundings() map[string]bool {
	seen := map[string]bool{}
	if mounts, err := os.ReadFile("/proc/self/mountinfo"); err == nil {
		for line := range strings.Lines(string(mounts)) {
			seen["mount "+strings.TrimSpace(line)] = true
		}
	}
	for _, pattern := range []string{"/tmp/blcr-cli*", "/tmp/criu*", "/dev/shm/*realtest*"} {
		names, _ := filepath.Glob(pattern)
		for _, name := range names {
			// The other tests of this project may be running, and the ordinary user's
			// file of locks stays, as all of /run/blcr-cli does.
			if name != fmt.Sprintf("/tmp/blcr-cli-%d", ordinary.Uid) && !strings.HasPrefix(name, "/tmp/blcr-cli-test") {
				seen[name] = true
			}
		}
	}
	for _, fd := range descriptors() {
		seen["descriptor "+fd] = true
	}
	return seen
}

// descriptors are those of this process, with what they lead to; not those that
// the Go runtime opens when it first needs them, and the one for looking.
func descriptors() []string {
	var open []string
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, e := range entries {
		to, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err == nil && !strings.HasPrefix(to, "anon_inode:") && !strings.HasPrefix(to, "/proc/") && !strings.HasPrefix(to, "/sys/fs/cgroup") {
			open = append(open, e.Name()+" to "+to)
		}
	}
	return open
}

// reap waits for all children. Those that were started by start are told.
func reap() {
	for {
		var end syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &end, 0, nil)
		if err == syscall.ECHILD {
			// Until there is one.
			<-started
			continue
		}
		if err != nil {
			continue
		}
		children.Lock()
		if p := children.of[pid]; p != nil {
			delete(children.of, pid)
			p.end = end
			close(p.ended)
		}
		children.Unlock()
	}
}

var (
	started  = make(chan struct{}, 1)
	children = struct {
		sync.Mutex
		of map[int]*process
	}{of: map[int]*process{}}
)
