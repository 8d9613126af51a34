// Package forkexec starts a program from a process that BLCR's module may ask to
// take part in a checkpoint at any moment.
//
// syscall.ForkExec cannot be used there. It creates the child with CLONE_VFORK and
// CLONE_VM: the parent waits in the kernel, uninterruptible, until the child has
// called exec. If a request arrives meanwhile, the child gets signal 64, answers it
// with the parent's handler, and waits in the module until all processes in scope
// have answered. The parent cannot answer, so both wait for ever, and so does the
// requester. BLCR's own tools use fork.
//
// So this package uses clone(SIGCHLD), unless it is told that no request can come. Until
// exec the child runs assembly only, on a stack by which package selfckpt recognizes it:
// its answer is "omit me". For the exec itself it ignores signal 64. The module drops a
// process that calls exec from its request.
//
// What belongs here: fork and exec, what has to happen in between, and a fork without
// exec that only keeps a descriptor open. The package does not wait for programs and
// knows no roles of a program.
package forkexec

import (
	"fmt"
	"syscall"
)

// Attr are the attributes of the new program.
type Attr struct {
	// Env is its environment, each string "NAME=VALUE".
	Env []string

	// Files are its descriptors 0, 1, …, given by their numbers in this process. ^0
	// leaves a descriptor closed, and so are those of 0 to 2 that are missing in Files.
	// Descriptors with higher numbers are inherited if they are not close-on-exec.
	Files []uintptr

	// Setsid makes it the leader of a new session.
	Setsid bool

	// Ignored are signals that the program is started with ignored, besides those that
	// are ignored here.
	Ignored []syscall.Signal

	// Pdeathsig, if not 0, is sent to it when the calling thread ends.
	Pdeathsig syscall.Signal

	// Forked, if not nil, is called with the new process's id before the program is
	// executed. An error ends the process, and is that of Start. If this process ends
	// first, the program is not executed. Where there is no clone of our own, on
	// other architectures, it is called afterwards.
	Forked func(pid int) error

	// Vfork has the child use the memory of this process until exec, for which the calling
	// thread waits, as with vfork(2): to copy a memory takes time, and so does what is
	// written to it afterwards. It is for where no request of the module's can come, and not
	// together with Forked.
	Vfork bool

	// Answers says that it is a program of ours, which answers signal 64 from
	// its entry point on. It is then started with that signal ignored: with the
	// default action a request during exec would kill it. To the module an
	// ignored signal is a missing handler: it asks again after half a second.
	Answers bool
}

// Ignoring returns the program and the arguments that make a shell ignore signals and
// execute a program, for a caller that cannot use Attr.Ignored. The program gets its path
// as its name.
func Ignoring(path string, argv []string, ignored []syscall.Signal) (string, []string) {
	if len(ignored) == 0 {
		return path, argv
	}
	script := `trap ""`
	for _, sig := range ignored {
		script += fmt.Sprintf(" %d", int(sig))
	}
	return "/bin/sh", append([]string{"sh", "-c", script + `; exec "$@"`, argv[0], path}, argv[1:]...)
}
