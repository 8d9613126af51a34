package pstree

import (
	"fmt"
	"math/bits"
	"syscall"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/proc"
	"blcr-cli/internal/show"
)

// stopped refuses a stopped process that has SIGSTOP pending, as each checkpoint leaves it,
// and another signal. CRIU has to continue the process for a moment until SIGSTOP comes, and
// drops what comes first. What is blocked does not come. It is looked for before CRIU is
// started: once the process is frozen CRIU has done that.
func (p *preflight) stopped(s *subject) {
	if p.frozen || s.State != 'T' {
		return
	}
	const stop = 1 << (unix.SIGSTOP - 1)
	for _, tid := range append([]int{s.Pid}, s.threads...) {
		set := proc.Deliverable(tid)
		if others := set &^ stop; set&stop != 0 && others != 0 {
			name := show.Signal(syscall.Signal(bits.TrailingZeros64(others) + 1))
			p.refuse(syscall.EBUSY, s, fmt.Sprintf("is stopped and has %s pending, and SIGSTOP, as a checkpoint leaves it: criu would lose %s", name, name),
				fmt.Sprintf("continue it first: kill -CONT %d", s.Pid))
			return
		}
	}
}

// continued refuses a first process that has SIGCONT pending, which it blocks. CRIU traces that
// process when it gets its signals again, and the kernel stops it for CRIU then, which takes it
// for a failure: see halted.go.
func (p *preflight) continued(s *subject) {
	if s.Pid != p.Root {
		return
	}
	for _, tid := range append([]int{s.Pid}, s.threads...) {
		if proc.Pending(tid)&(1<<(unix.SIGCONT-1)) != 0 {
			p.refuseNow(passedLimit, s.Pid, "has SIGCONT pending, which it blocks, and criu cannot restore that in a first process", "try again, when the program has received it")
			return
		}
	}
}
