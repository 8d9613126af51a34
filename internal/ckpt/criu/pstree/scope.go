package pstree

import (
	"fmt"
	"os"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/atwork"
	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/criu/binary"
	"blcr-cli/internal/proc"
)

// self is this process's pid. It is a variable for the tests' tables.
var self = os.Getpid

// restartProgram is the command whose pid stands for the job below it.
const restartProgram = "cr_restart"

// Includes reports whether the request means the calling process as well. It
// leaves no descriptor open and uses no poller.
func Includes(r *ckpt.CheckpointRequest) bool {
	id := int(r.ID)
	switch r.Scope {
	case ckpt.ScopeGroup:
		return id == 0 || unix.Getpgrp() == id
	case ckpt.ScopeSession:
		sid, err := unix.Getsid(0)
		return err == nil && (id == 0 || sid == id)
	}
	root, err := proc.Leader(id)
	if err != nil {
		return false
	}
	for pid := os.Getpid(); pid > 0; {
		if pid == root {
			return true
		}
		p, err := proc.Read(pid)
		if err != nil {
			return false
		}
		pid = p.PPid
	}
	return false
}

// find sets the root and the pids.
func (t *Tree) find(r *ckpt.CheckpointRequest) error {
	switch r.Scope {
	case ckpt.ScopeGroup:
		return t.findMembers(r, "process group", func(p *proc.Process) int { return p.Pgid })
	case ckpt.ScopeSession:
		return t.findMembers(r, "session", func(p *proc.Process) int { return p.Sid })
	}
	if r.ID < 1 {
		return none()
	}
	pid, err := proc.Leader(int(r.ID))
	if err != nil {
		return none()
	}
	return t.findProcess(r, pid)
}

// findProcess finds the tree that a pid means, with or without descendants.
func (t *Tree) findProcess(r *ckpt.CheckpointRequest, pid int) error {
	if t.table[pid] == nil {
		p, err := proc.Read(pid)
		if err != nil {
			return none()
		}
		t.table[pid] = p // a thread of the kernel, or new
	}
	job, err := t.job(pid)
	if err != nil {
		return err
	}
	t.Root, t.PIDs = job, t.table.Tree(job)
	if r.Scope != ckpt.ScopeProcess || job != pid {
		return nil
	}
	// A process that asks for its own checkpoint has at least the child that waits
	// for that.
	children := slices.DeleteFunc(slices.Clone(t.PIDs[1:]), func(pid int) bool { return pid == int(r.Requester) })
	if len(children) > 0 && t.ownAncestor() == 0 {
		if out, _ := t.leftOut(r); out[pid] {
			return none()
		}
		return refusal(syscall.EOPNOTSUPP, "process %d has children (%s), and criu saves a process only together with them", pid, list(children))
	}
	return nil
}

// job returns the process that is meant by pid: of a cr_restart the restarted job,
// otherwise pid itself.
func (t *Tree) job(pid int) (int, error) {
	named := pid
	children := t.table.Children()
	for isRestart(t.table[pid]) {
		if atwork.Claimed(pid) {
			return 0, busy("the job of %s %d is still being restarted", restartProgram, named)
		}
		var jobs []int
		for _, child := range children[pid] {
			if t.table[child].Dead() {
				continue
			}
			if binary.Runs(child) {
				return 0, busy("the job of %s %d is still being restarted", restartProgram, named)
			}
			jobs = append(jobs, child)
		}
		switch len(jobs) {
		case 0:
			// It has not made its job yet, or the job has ended and it will end, too.
			if proc.Ended(named) {
				return 0, none()
			}
			return 0, busy("the job of %s %d is still being restarted, or has ended", restartProgram, named)
		case 1:
			pid = jobs[0]
		default:
			// While the job is being made, the processes that make it are children
			// as well.
			return 0, busy("%s %d has more children (%s) than its job", restartProgram, named, list(jobs))
		}
	}
	return pid, nil
}

// isRestart reports whether a process is a cr_restart, which has its job below it.
func isRestart(p *proc.Process) bool {
	return p.Comm == restartProgram && proc.Program(p.Pid) == restartProgram
}

// findMembers finds the tree of all processes with a number in common, their group
// or session. They must be one tree without gaps. This process and its parent are
// left out.
func (t *Tree) findMembers(r *ckpt.CheckpointRequest, kind string, number func(*proc.Process) int) error {
	id := int(r.ID)
	if requester := t.requester(r); id == 0 && requester != nil {
		id = number(requester)
	}
	what := fmt.Sprintf("%s %d", kind, id)
	members := make(map[int]bool)
	for pid, p := range t.table {
		if number(p) == id && !p.Kernel && !p.Dead() && pid != self() && pid != os.Getppid() {
			members[pid] = true
		}
	}
	var roots []int
	for pid := range members {
		if !members[t.table[pid].PPid] {
			roots = append(roots, pid)
		}
	}
	slices.Sort(roots)
	switch {
	case len(roots) == 0:
		return none()
	case len(roots) > 1:
		return refusal(syscall.EOPNOTSUPP, "%s is no single tree: %s have no parent in it, and criu saves a process and its descendants", what, list(roots))
	}
	job, err := t.job(roots[0])
	if err != nil {
		return err
	}
	t.Root, t.PIDs = job, t.table.Tree(job)
	for _, pid := range t.PIDs {
		if p := t.table[pid]; number(p) != id && !p.Dead() {
			return refusal(syscall.EOPNOTSUPP, "process %d, a child of %d, is not in %s, and criu would save it, too", pid, p.PPid, what)
		}
	}
	return nil
}

// requester is the process whose own group and session the number 0 means. If the
// request was delegated, this process may have left them.
func (t *Tree) requester(r *ckpt.CheckpointRequest) *proc.Process {
	if r.Requester != 0 {
		return t.table[int(r.Requester)]
	}
	return t.table[self()]
}
