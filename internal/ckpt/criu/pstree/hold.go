package pstree

import (
	"math/bits"
	"slices"
	"time"

	"blcr-cli/internal/ckpt/criu/binary"
	"blcr-cli/internal/proc"
)

// Held reports whether a CRIU traces a process of the tree, or one that has been made
// since: CRIU may have code of its own in it.
func (t *Tree) Held() bool {
	if now, err := proc.Descend(t.Root); err == nil && held(now) {
		return true
	}
	return held(t.PIDs)
}

func held(pids []int) bool {
	for _, pid := range pids {
		for _, tid := range proc.Threads(pid) {
			if tracer, err := proc.Tracer(tid); err == nil && tracer != 0 && binary.Runs(tracer) {
				return true
			}
		}
	}
	return false
}

// Frozen returns a process of the tree that its control group keeps from running, and
// the name of that group. ok is false if there is none.
func (t *Tree) Frozen() (pid int, group string, ok bool) {
	for _, pid := range t.PIDs {
		if g, frozen := proc.Frozen(pid); frozen {
			return pid, g.Name, true
		}
	}
	return 0, "", false
}

// AwaitReturn is for after the death of a CRIU that held processes of the tree. Its code
// in them notices that, and gives them back their registers and signal masks. AwaitReturn
// returns when that has happened in all of them, or after a second: processes that block
// all signals themselves look alike.
func (t *Tree) AwaitReturn() {
	for deadline := time.Now().Add(time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if !slices.ContainsFunc(t.PIDs, blocksAll) {
			return
		}
	}
}

// blocksAll reports whether a thread of a process blocks every signal, as CRIU's code
// has it.
func blocksAll(pid int) bool {
	for _, tid := range proc.Threads(pid) {
		// Without KILL and STOP, which nothing can block, and those of the C library.
		if blocked, err := proc.Blocked(tid); err == nil && bits.OnesCount64(blocked) >= 60 {
			return true
		}
	}
	return false
}
