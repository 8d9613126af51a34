// Package reexec starts another process of this program in an inner role: as the worker
// of a cr_checkpoint, as the first process of a pid namespace, as CRIU's action script.
//
// A role is a name and a function. Packages register their roles at initialization.
// main calls Main first, which runs the role that the process was started in. The name
// and the role's parameters, which are numbers, are passed in argv[0]:
//
//	/usr/bin/cr_checkpoint:monitor 5 6 4711
//
// so that the other arguments are unchanged. The environment is this process's, with
// what Attr.Env sets; the package that starts the role chooses that. Open descriptors
// are inherited, and identified by these numbers.
//
// The work of a role belongs to the package that registers it.
package reexec

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/entry"
	"blcr-cli/internal/forkexec"
	"blcr-cli/internal/proc"
)

// A Role is an inner role of this program.
type Role struct {
	// Name is unique, in lower case and without blanks.
	Name string

	// Run does the work of the role. It gets the numbers that were passed to Start and
	// the process's other arguments, and returns the exit status.
	Run func(numbers []int, args []string) (status int)

	// Numbers is the number of its parameters.
	Numbers int

	// Asked is for a role in which another program starts this one without giving the
	// name of the role: it reports whether this process was started in it. It is nil
	// for other roles.
	Asked func() bool
}

var roles []Role

// Register adds a role. Init functions call it.
func Register(r Role) { roles = append(roles, r) }

// Main runs the role that the process was started in, and returns its exit status.
// inner is false if the process was not started in a role; then Main has done nothing.
func Main() (status int, inner bool) {
	for _, r := range roles {
		if r.Asked != nil && r.Asked() {
			return r.Run(nil, os.Args[1:]), true
		}
	}
	if len(os.Args) == 0 {
		return 0, false
	}
	program, role := split(os.Args[0])
	words := strings.Fields(role)
	if len(words) == 0 {
		return 0, false
	}
	for _, r := range roles {
		if r.Asked != nil || r.Name != words[0] || r.Numbers != len(words)-1 {
			continue
		}
		numbers := make([]int, 0, r.Numbers)
		for _, word := range words[1:] {
			n, err := strconv.Atoi(word)
			if err != nil {
				return 0, false
			}
			numbers = append(numbers, n)
		}
		os.Args[0] = program // as if a user had started it
		return r.Run(numbers, os.Args[1:]), true
	}
	return 0, false
}

// In reports whether the process was started in a role, for init functions.
func In(role string) bool {
	if len(os.Args) == 0 {
		return false
	}
	_, name := split(os.Args[0])
	name, _, _ = strings.Cut(name, " ")
	return name == role
}

// split separates the role in an argv[0] from the program.
func split(argv0 string) (program, role string) {
	i := strings.IndexByte(filepath.Base(argv0), ':')
	if i < 0 {
		return argv0, ""
	}
	i += len(argv0) - len(filepath.Base(argv0))
	return argv0[:i], argv0[i+1:]
}

// argv0 returns the argv[0] of a process in a role.
func argv0(role string, numbers []int) string {
	var b strings.Builder
	program, _ := split(os.Args[0])
	fmt.Fprintf(&b, "%s:%s", program, role)
	for _, n := range numbers {
		fmt.Fprintf(&b, " %d", n)
	}
	return b.String()
}

// Attr are the attributes of a process in a role.
type Attr struct {
	// Env is added to this process's environment, and overrides it.
	Env []string

	// Bare says that Env is the whole environment, for a process that others may look at.
	Bare bool

	// Files are the descriptors from 0 on, given by their numbers in this process. nil
	// means the standard descriptors with which this process was started. Other
	// descriptors that are not close-on-exec are inherited as well.
	Files []uintptr

	// Inherited are close-on-exec descriptors that are inherited with their numbers.
	// Negative ones are ignored.
	Inherited []int

	// Setsid and Pdeathsig are as in forkexec.Attr.
	Setsid    bool
	Pdeathsig syscall.Signal

	// Cloneflags are flags of clone(2). If there are any, the calling process must not
	// be one that BLCR's module may ask to take part in a checkpoint; see package
	// forkexec.
	Cloneflags uintptr

	// UserIDs, if not nil, are the only user and the only group of a new user namespace;
	// AmbientCaps are capabilities in there that the process has. They need Cloneflags.
	UserIDs     *[2]int
	AmbientCaps []uintptr
}

// Start starts this program in a role, with these arguments, and returns the pid. The
// process is a child of the calling thread.
func Start(role string, numbers []int, args []string, attr Attr) (pid int, err error) {
	for _, fd := range attr.Inherited {
		if fd < 0 {
			continue
		}
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
			return 0, err
		}
		defer unix.CloseOnExec(fd)
	}
	files := attr.Files
	if files == nil {
		files = entry.Standard()
	}
	argv := append([]string{argv0(role, numbers)}, args...)
	env := attr.Env
	if !attr.Bare {
		env = environment(env)
	}
	if attr.Cloneflags != 0 {
		sys := &syscall.SysProcAttr{Setsid: attr.Setsid, Pdeathsig: attr.Pdeathsig, Cloneflags: attr.Cloneflags, AmbientCaps: attr.AmbientCaps}
		if ids := attr.UserIDs; ids != nil {
			sys.UidMappings = []syscall.SysProcIDMap{{ContainerID: ids[0], HostID: ids[0], Size: 1}}
			sys.GidMappings = []syscall.SysProcIDMap{{ContainerID: ids[1], HostID: ids[1], Size: 1}}
		}
		path := proc.Self()
		if attr.Cloneflags&unix.CLONE_PARENT != 0 {
			// The caller may have mounted the /proc of the child's pid namespace.
			path = proc.OwnExecutable
		}
		return syscall.ForkExec(path, argv, &syscall.ProcAttr{Env: env, Files: files, Sys: sys})
	}
	return forkexec.Start(proc.Self(), argv, &forkexec.Attr{
		Env: env, Files: files, Setsid: attr.Setsid, Pdeathsig: attr.Pdeathsig, Answers: true,
	})
}

// Exec replaces this process by one in a role, with the same arguments and descriptors. It
// returns only if that fails.
func Exec(role string, numbers []int) error {
	return syscall.Exec(proc.Self(), append([]string{argv0(role, numbers)}, os.Args[1:]...), os.Environ())
}

// Again executes this program again, in no role, with the same arguments. It returns only if
// that fails.
func Again() error { return syscall.Exec(proc.Self(), os.Args, os.Environ()) }

// environment returns this process's environment with some variables set.
func environment(set []string) []string {
	env := append([]string(nil), set...)
	for _, v := range os.Environ() {
		// If a name occurs twice, the first one is used.
		name, _, _ := strings.Cut(v, "=")
		if !has(set, name) {
			env = append(env, v)
		}
	}
	return env
}

func has(env []string, name string) bool {
	for _, v := range env {
		if strings.HasPrefix(v, name+"=") {
			return true
		}
	}
	return false
}
