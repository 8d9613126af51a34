//go:build real

package real

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// program is one of those in the directory programs.
type program struct {
	name string

	// restart are options of cr_restart that it needs.
	restart []string

	// runOn: it is also saved with --run, goes on, is killed, and is restored
	// to what it was. Not for those that have some of their state in files.
	runOn bool

	// relocate: its directory is renamed each time.
	relocate bool

	// cannot says why it cannot be saved or restored here, or "".
	cannot func() string
}

// inGroups are for those that have process groups or sessions of their own.
// Without, all of a job joins cr_restart's.
var inGroups = []string{"--restore-pgid", "--restore-sid"}

var programs = []program{
	// Memory and registers.
	{name: "changing"},
	{name: "counter", runOn: true},
	{name: "big", runOn: true},
	{name: "family"},
	{name: "filled"},
	{name: "fpu", runOn: true},
	{name: "memfd", runOn: true},
	{name: "mlock", runOn: true},
	{name: "mapped_locks", runOn: true},
	{name: "mmap_deleted"},
	{name: "faults", runOn: true},
	{name: "mmap_private", runOn: true},
	{name: "mmap_shared"},
	{name: "named_semaphore"},
	{name: "posix_shm", runOn: true},
	{name: "reserve", runOn: true},
	{name: "shm_anon", runOn: true},
	{name: "wiped", runOn: true},
	{name: "stack", runOn: true},
	{name: "torn", runOn: true},
	{name: "upheaval", runOn: true},

	// Files and descriptors.
	{name: "append"},
	{name: "cwd"},
	{name: "devices", runOn: true},
	{name: "dup"},
	{name: "epoll", runOn: true},
	{name: "eventfd", runOn: true},
	{name: "eventfd_semaphore", runOn: true, cannot: linuxBefore(6, 5, "it does not tell which eventfds are semaphores")},
	{name: "fdtable", runOn: true},
	{name: "fifo"},
	{name: "inotify"},
	{name: "locks"},
	{name: "offsets"},
	{name: "noted", runOn: true, cannot: criuBefore(4, 2, "it asks for a socket option that new kernels do not have for UDP")},
	{name: "openflags"},
	{name: "pipes", runOn: true},
	{name: "relocate", relocate: true},
	{name: "signalfd", runOn: true},
	{name: "socketpair", runOn: true},
	{name: "tcp", runOn: true, cannot: criuBefore(4, 2, "it asks for a socket option that new kernels do not have")},
	{name: "timerfd", runOn: true},
	{name: "timerfd_due", cannot: known("CRIU disarms a periodic timerfd that is due")},
	{name: "udp", cannot: criuBefore(4, 2, "it asks for a socket option that new kernels do not have for UDP")},
	{name: "ghosts"},
	{name: "gone"},
	{name: "unix_socket"},
	{name: "unlinked"},
	{name: "unlinked_big"},
	{name: "unlinked_link", runOn: true},

	// Signals and time.
	{name: "alarm", runOn: true},
	{name: "alarm_once", runOn: true},
	{name: "clocks", runOn: true},
	{name: "itimers", runOn: true},
	{name: "posix_timers", runOn: true},
	{name: "sighandlers", runOn: true},
	{name: "sigpending", runOn: true},
	{name: "sleep", runOn: true},

	// Processes and threads.
	{name: "argv", runOn: true},
	{name: "attributes", runOn: true},
	{name: "credentials", runOn: true},
	{name: "execed", runOn: true},
	{name: "futex", runOn: true},
	{name: "jobcontrol", restart: inGroups},
	{name: "limits", runOn: true},
	{name: "orphan", runOn: true},
	{name: "parent_death"},
	{name: "pty", restart: inGroups},
	{name: "session", restart: inGroups},
	{name: "stopped", runOn: true},
	{name: "threads", runOn: true},
	{name: "threadsig", runOn: true},
	{name: "told", runOn: true},
	{name: "tree", restart: inGroups},
	{name: "users", runOn: true, cannot: noResourceCapability},
	{name: "zombie", runOn: true},

	// Other languages.
	{name: "goroutines"},
	{name: "python.py"},
	{name: "shell.sh"},
}

// known is for what is known not to work; REALTEST_KNOWN=1 tries it nevertheless.
func known(why string) func() string {
	return func() string {
		if os.Getenv("REALTEST_KNOWN") != "" {
			return ""
		}
		return why
	}
}

// criuBefore is for what CRIU's versions before that one cannot do.
func criuBefore(major, minor int, why string) func() string {
	return func() string {
		criu := os.Getenv("CR_CRIU")
		if criu == "" {
			criu = "criu"
		}
		text, _ := exec.Command(criu, "--version").Output()
		var a, b int
		if _, err := fmt.Sscanf(string(text), "Version: %d.%d", &a, &b); err == nil && (a < major || a == major && b < minor) {
			return fmt.Sprintf("CRIU %d.%d: %s", a, b, why)
		}
		return ""
	}
}

// linuxBefore is for what earlier versions of Linux than that one cannot do.
func linuxBefore(major, minor int, why string) func() string {
	return func() string {
		var u unix.Utsname
		var a, b int
		if unix.Uname(&u) == nil {
			_, _ = fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &a, &b)
		}
		if a < major || a == major && b < minor {
			return fmt.Sprintf("Linux %d.%d: %s", a, b, why)
		}
		return ""
	}
}

// noResourceCapability: without CAP_SYS_RESOURCE nobody can ask for the limits
// of another user's process, not even root.
func noResourceCapability() string {
	var header = unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err == nil && data[0].Effective&(1<<unix.CAP_SYS_RESOURCE) == 0 {
		return "this machine's root is without CAP_SYS_RESOURCE, which CRIU needs for processes of other users"
	}
	return ""
}

// TestComplete: no program is forgotten in the list above.
func TestComplete(t *testing.T) {
	helpers := []string{"ender.c", "hugepages.c", "hung.c", "killer.c", "saved.c", "selfexec", "selfsystem.c", "spin.c", "selfcheck.h"}
	entries, err := os.ReadDir("programs")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		is := func(p program) bool { return p.name == strings.TrimSuffix(e.Name(), ".c") }
		if !slices.Contains(helpers, e.Name()) && !slices.ContainsFunc(programs, is) {
			t.Errorf("programs/%s is not run", e.Name())
		}
	}
}

// TestPrograms takes each program through the cycles.
func TestPrograms(t *testing.T) {
	for _, p := range programs {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			j := newJob(t, p.name)
			j.launch()
			if p.cannot != nil && !dry {
				if why := p.cannot(); why != "" {
					j.finish()
					t.Skip(why)
				}
			}
			if !dry {
				for n := range *cycles {
					j.cycle(p, n)
				}
				if p.runOn {
					j.goOn(p)
				}
			}
			j.finish()
		})
	}
}

// id is what the nth cr_checkpoint is given: the job's pid and, by turns, that
// of its cr_restart, which means the same.
func (j *job) id(n int) string {
	if n%2 == 1 {
		return strconv.Itoa(j.proc.pid)
	}
	return strconv.Itoa(j.pid)
}

// cycle saves and kills the job, and restores it.
func (j *job) cycle(p program, n int) {
	j.t.Helper()
	ctx := fmt.Sprintf("%s/ctx.%d", j.dir, n)
	all := tree(j.pid)
	j.checkpoint(ctx, "--kill", j.id(n))
	j.killed(all)
	args := p.restart
	if *lazy {
		args = append(slices.Clone(args), "--lazy")
	}
	if p.relocate {
		from, to := j.dir+"/A", j.dir+"/B"
		if n%2 == 1 {
			from, to = to, from
		}
		if err := os.Rename(from, to); err != nil {
			j.t.Fatal(err)
		}
		args = append(slices.Clone(args), "--relocate", from+"="+to)
	}
	j.restart(ctx, args...)
	if err := os.Remove(ctx); err != nil {
		j.t.Fatal(err)
	}
}

// goOn saves the job while it goes on, kills it after a while, and restores what
// was saved.
func (j *job) goOn(p program) {
	j.t.Helper()
	ctx := filepath.Join(j.dir, "ctx.run")
	j.checkpoint(ctx, "--run", j.id(*cycles))
	j.advances()
	j.goBack(ctx, p.restart...)
}

// goBack kills the job, which has gone on since it was saved, and restores it.
func (j *job) goBack(ctx string, args ...string) {
	j.t.Helper()
	all := tree(j.pid)
	// All at once: none of them is to see another one gone.
	for _, sig := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGKILL} {
		for _, pid := range all {
			_ = syscall.Kill(pid, sig)
		}
	}
	j.killed(all)
	j.rewind()
	j.restart(ctx, args...)
}

// TestDetects: the programs find the damage that they are told to do to
// themselves. Without that they would prove nothing.
func TestDetects(t *testing.T) {
	for _, p := range programs {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			kinds := 1
			for kind := 1; kind <= kinds; kind++ {
				j := newJob(t, p.name)
				kinds = j.launch()
				if kinds == 0 {
					t.Fatal("knows no damage")
				}
				j.write("damage.new", strconv.Itoa(kind))
				if err := os.Rename(j.dir+"/damage.new", j.dir+"/damage"); err != nil {
					t.Fatal(err)
				}
				for begin := time.Now(); time.Since(begin) < 300*time.Millisecond && !j.exists("wrong"); {
					time.Sleep(5 * time.Millisecond)
				}
				j.write("finish", "")
				end := j.wait(j.proc)
				if end == 42<<8 {
					t.Errorf("damage %d is not found", kind)
				} else if end != 1<<8 && !strings.HasPrefix(p.name, "alarm") {
					t.Errorf("damage %d: %s", kind, describe(end))
				}
				// Children may be left; they are not the point here.
				killMarked(j.marker(), 0)
			}
		})
	}
}
