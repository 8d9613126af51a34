package kernel

import "syscall"

// supported says that this architecture has the assembly.
const supported = true

// fork makes a child that turns itself into a restored process, and returns
// its pid. The child is a bare one: it has one thread and a copy of the Go
// runtime that nobody may use, so it runs assembly only and never returns. It
// makes args.threads more threads and issues CR_OP_RSTRT_CHILD in each,
// whereupon the module replaces them; where that returns, the whole child exits
// with the errno as its status.
//
// Precondition: every signal is blocked for the calling thread, and signal 64
// is answered by package reply, whose handler the child inherits.
func fork(args *spawnArgs) (pid int, errno syscall.Errno) {
	r := rawFork(args)
	if r < 0 {
		return 0, syscall.Errno(-r)
	}
	return r, 0
}

//go:noescape
func rawFork(args *spawnArgs) int
