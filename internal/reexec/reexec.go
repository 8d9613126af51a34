// Package reexec starts this program once more in an inner role: as the worker of
// a cr_checkpoint, as the first process of a pid namespace, as CRIU's action
// script.
//
// A role is a name and a function. Packages register theirs at initialization;
// main asks once, before anything else, whether the process was started in one
// (Main). The name and what the role has to know, numbers and no more, travel in
// argv[0]:
//
//	/usr/bin/cr_checkpoint:monitor 5 6 4711
//
// so that the other arguments and the environment remain what they are. Open
// descriptors are inherited, and named by these numbers.
//
// What a role does belongs to the package that registers it.
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

	// Run is the role. It gets the numbers that Start was given and the process's
	// other arguments, and returns the exit status.
	Run func(numbers []int, args []string) (status int)

	// Numbers is how many numbers it takes.
	Numbers int

	// Asked is for a role in which another program starts this one, and cannot
	// name it: it tells whether this is such a process. Nil otherwise.
	Asked func() bool
}

var roles []Role

// Register adds a role. It is called by init functions.
func Register(r Role) { roles = append(roles, r) }

// Main runs the role that the process was started in, and reports its exit
// status. Inner is false for a process that a user has started: then nothing has
// happened.
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

// split separates the role in an argv[0] from the program.
func split(argv0 string) (program, role string) {
	i := strings.IndexByte(filepath.Base(argv0), ':')
	if i < 0 {
		return argv0, ""
	}
	i += len(argv0) - len(filepath.Base(argv0))
	return argv0[:i], argv0[i+1:]
}

// argv0 is the argv[0] of a process in a role.
func argv0(role string, numbers []int) string {
	var b strings.Builder
	program, _ := split(os.Args[0])
	fmt.Fprintf(&b, "%s:%s", program, role)
	for _, n := range numbers {
		fmt.Fprintf(&b, " %d", n)
	}
	return b.String()
}

// Attr is how a role is started.
type Attr struct {
	// Env is added to this process's environment, and wins.
	Env []string

	// Files are the descriptors from 0 on, by the numbers that they have here; nil
	// is for the standard ones as this process was given them. Others that are not
	// close-on-exec are inherited as well.
	Files []uintptr

	// Inherited are descriptors that are inherited under the numbers that they have,
	// though they are close-on-exec. Negative ones are none.
	Inherited []int

	// Setsid and Pdeathsig are as in forkexec.Attr.
	Setsid    bool
	Pdeathsig syscall.Signal

	// Cloneflags are of clone(2). With any the calling process must not be one that
	// BLCR's module may ask; see package forkexec.
	Cloneflags uintptr
}

// Start starts this program in a role, with these arguments, and returns its pid.
// It is a child of the calling thread.
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
	env := environment(attr.Env)
	if attr.Cloneflags != 0 {
		sys := &syscall.SysProcAttr{Setsid: attr.Setsid, Pdeathsig: attr.Pdeathsig, Cloneflags: attr.Cloneflags}
		return syscall.ForkExec(proc.Self(), argv, &syscall.ProcAttr{Env: env, Files: files, Sys: sys})
	}
	return forkexec.Start(proc.Self(), argv, &forkexec.Attr{
		Env: env, Files: files, Setsid: attr.Setsid, Pdeathsig: attr.Pdeathsig, Answers: true,
	})
}

// environment is ours with some variables set.
func environment(set []string) []string {
	env := append([]string(nil), set...)
	for _, v := range os.Environ() {
		// The first of a name is the one that counts.
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
