package pstree

import (
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
