package kernel

import "syscall"

// supported says that this architecture has the assembly.
const supported = true

// fork creates a restart child and returns its pid. The child has one thread and
// a copy of the Go runtime that cannot be used, so it runs assembly only and
// never returns. It sets the selector of %fs to 0, creates args.threads more
// threads and issues CR_OP_RSTRT_CHILD in each, by which the module replaces
// them; where that returns, the whole child exits with the errno as its status.
//
// Precondition: every signal is blocked for the calling thread, and signal 64
// has the handler of package selfckpt, which the child inherits.
func fork(args *forkArgs) (pid int, errno syscall.Errno) {
	r := rawFork(args)
	if r < 0 {
		return 0, syscall.Errno(-r)
	}
	return r, 0
}

//go:noescape
func rawFork(args *forkArgs) int
