package criu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/atwork"
	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/criu/binary"
	"blcr-cli/internal/hints"
	"blcr-cli/internal/proc"
)

// Criu saves trees: a process and all its descendants. A scope that is none
// cannot be saved, and the request is refused.

// restartProgram is the command whose pid stands for the job below it.
const restartProgram = "cr_restart"

// scope is the processes that a request means.
type scope struct {
	root  int
	tree  []int // all of them, the root first
	table proc.Table

	// skipped says that a process that is in there is to be left out because of
	// a debugger, and with it everything.
	skipped bool
}

// refusal is an error that says why these processes cannot be saved.
func refusal(errno syscall.Errno, format string, args ...any) error {
	return &ckpt.Error{Op: "checkpoint", Object: "processes", Errno: errno, Detail: []string{fmt.Sprintf(format, args...)}}
}

// advised adds to a refusal what to do about it.
func advised(err error, way string) error {
	e := err.(*ckpt.Error)
	e.Detail = append(e.Detail, way)
	return e
}

// nobody is the error for a scope without processes.
func nobody() error {
	return &ckpt.Error{Op: "checkpoint", Object: "processes", Errno: syscall.ESRCH}
}

// resolve finds the tree that the request means. The error is ESRCH for nobody,
// EOPNOTSUPP for what is no tree, and EBUSY for one in which others are at work.
func resolve(ctx context.Context, r *ckpt.CheckpointRequest) (*scope, error) {
	deadline := time.Now().Add(busyPatience)
	if r.Limit > 0 {
		deadline = time.Now().Add(min(r.Limit, busyPatience))
	}
	for {
		s, err := look(r)
		if err == nil {
			err = atWork(s.tree)
		}
		var busy *atWorkError
		if !errors.As(err, &busy) || time.Now().After(deadline) {
			return s, err
		}
		if err := interrupted(ctx, "checkpoint"); err != nil {
			return nil, err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// busyPatience is how long another request of ours may go on in the tree. There
// is nothing of it that could be saved, but soon it is over. BLCR's tools hold
// checkpoints off so long.
const busyPatience = 10 * time.Second

// atWorkError is the refusal for the time of another request.
type atWorkError struct{ error }

func (e *atWorkError) Unwrap() error { return e.error }

func atWorkRefusal(format string, args ...any) error {
	return &atWorkError{refusal(syscall.EBUSY, format, args...)}
}

// atWork is an error if there is a process in the tree that makes a checkpoint or
// a restart.
func atWork(tree []int) error {
	for _, pid := range tree {
		if atwork.Claimed(pid) || binary.Runs(pid) {
			return atWorkRefusal("%s makes another checkpoint or restart", hints.Process(pid))
		}
	}
	return nil
}

// look finds the tree as it is now.
func look(r *ckpt.CheckpointRequest) (*scope, error) {
	table, err := proc.All()
	if err != nil {
		return nil, &ckpt.Error{Op: "read", Object: "/proc", Errno: errnoOf(err)}
	}
	s := &scope{table: table}
	switch r.Scope {
	case ckpt.ScopeGroup:
		err = s.members(r, "process group", func(p *proc.Process) int { return p.Pgid })
	case ckpt.ScopeSession:
		err = s.members(r, "session", func(p *proc.Process) int { return p.Sid })
	default:
		err = s.process(r)
	}
	if err != nil {
		return nil, err
	}
	if table[s.root].Dead() {
		return nil, nobody()
	}
	if pid := s.requester(); pid != 0 {
		// We have left the tree, or it did not include us: then its root is, or has
		// in it, whom orphans are given to.
		return nil, refusal(syscall.EOPNOTSUPP, "process %d, which asks for the checkpoint, is itself among those to be saved, and cannot leave them", pid)
	}
	return s, s.check(r)
}

// caller is who has been asked for the checkpoint, whose own group and session 0
// means; it may have left them.
func (s *scope) caller(r *ckpt.CheckpointRequest) *proc.Process {
	if r.Requester != 0 {
		return s.table[int(r.Requester)]
	}
	return s.table[os.Getpid()]
}

// Includes tells whether the request means the calling process, too. It leaves no
// descriptor open, and asks for nothing that does.
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

// process is the scope that one pid means, with or without descendants.
func (s *scope) process(r *ckpt.CheckpointRequest) error {
	id, alone := int(r.ID), r.Scope == ckpt.ScopeProcess
	if id < 1 {
		return nobody()
	}
	pid, err := proc.Leader(id)
	if err != nil || s.table[pid] == nil {
		return nobody()
	}
	if job, err := s.job(pid); err != nil {
		return err
	} else if job != pid {
		pid, alone = job, false
	}
	s.root, s.tree = pid, s.table.Tree(pid)
	if !alone {
		return nil
	}
	// Somebody who saves himself has at least the one who waits for us.
	children := slices.DeleteFunc(slices.Clone(s.tree[1:]), func(pid int) bool { return pid == int(r.Requester) })
	if len(children) > 0 && s.requester() == 0 {
		return refusal(syscall.EOPNOTSUPP, "process %d has children (%s), and criu saves a process only together with them", pid, list(children))
	}
	return nil
}

// job returns the process that is meant by pid: the restarted job where that is
// a cr_restart, pid itself else.
func (s *scope) job(pid int) (int, error) {
	named := pid
	for isRestart(s.table[pid]) {
		if atwork.Claimed(pid) {
			return 0, atWorkRefusal("the job of %s %d is still being restarted", restartProgram, named)
		}
		var jobs []int
		for _, child := range s.table.Children()[pid] {
			if s.table[child].Dead() {
				continue
			}
			if binary.Runs(child) {
				return 0, atWorkRefusal("the job of %s %d is still being restarted", restartProgram, named)
			}
			jobs = append(jobs, child)
		}
		switch len(jobs) {
		case 0:
			// One that has not come so far yet, or one whose job has ended, which
			// then ends as well.
			if ended(named) {
				return 0, nobody()
			}
			return 0, atWorkRefusal("the job of %s %d is still being restarted, or has ended", restartProgram, named)
		case 1:
			pid = jobs[0]
		default:
			// What makes the job is among them until it is there.
			return 0, atWorkRefusal("%s %d has more children (%s) than its job", restartProgram, named, list(jobs))
		}
	}
	return pid, nil
}

// isRestart tells whether a process is a cr_restart that a job may be below.
func isRestart(p *proc.Process) bool {
	return p.Comm == restartProgram && proc.Program(p.Pid) == restartProgram
}

// members is the scope of all processes of which that is the number, which must be
// one tree without gaps. The requester's own two processes are left out.
func (s *scope) members(r *ckpt.CheckpointRequest, kind string, number func(*proc.Process) int) error {
	id := int(r.ID)
	if caller := s.caller(r); id == 0 && caller != nil {
		id = number(caller)
	}
	what := fmt.Sprintf("%s %d", kind, id)
	belongs := func(p *proc.Process) bool { return number(p) == id }
	in := make(map[int]bool)
	for pid, p := range s.table {
		if belongs(p) && !p.Kernel && !p.Dead() && pid != os.Getpid() && pid != os.Getppid() {
			in[pid] = true
		}
	}
	if len(in) == 0 {
		return nobody()
	}
	var roots []int
	for pid := range in {
		if !in[s.table[pid].PPid] {
			roots = append(roots, pid)
		}
	}
	slices.Sort(roots)
	if len(roots) > 1 {
		return refusal(syscall.EOPNOTSUPP, "%s is no single tree: %s have no parent in it, and criu saves a process and its descendants", what, list(roots))
	}
	if job, err := s.job(roots[0]); err != nil {
		return err
	} else {
		s.root, s.tree = job, s.table.Tree(job)
	}
	for _, pid := range s.tree {
		if p := s.table[pid]; !belongs(p) && !p.Dead() {
			return refusal(syscall.EOPNOTSUPP, "process %d, a child of %d, is not in %s, and criu would save it, too", pid, p.PPid, what)
		}
	}
	return nil
}

// requester returns the pid of ours that is in the tree, 0 for none.
func (s *scope) requester() int {
	for pid := os.Getpid(); pid > 0; {
		if slices.Contains(s.tree, pid) {
			return pid
		}
		p := s.table[pid]
		if p == nil {
			break
		}
		pid = p.PPid
	}
	return 0
}

// check refuses what must not or cannot be saved.
func (s *scope) check(r *ckpt.CheckpointRequest) error {
	in := make(map[int]bool, len(s.tree))
	for _, pid := range s.tree {
		in[pid] = true
	}
	for _, pid := range s.tree {
		if s.table[pid].Kernel {
			return refusal(syscall.EPERM, "%d (%s) is a thread of the kernel", pid, s.table[pid].Comm)
		}
		if err := unix.Kill(pid, 0); err == unix.EPERM {
			return &ckpt.Error{Op: "checkpoint", Object: "processes", Errno: syscall.EPERM, Detail: forbidden(pid)}
		}
		if s.table[pid].Sid == 0 {
			// As of a program that a container's runtime has put there without a
			// new session. criu would say so too, after it has frozen everything.
			return refusal(syscall.EOPNOTSUPP, "process %d is in a session of another pid namespace, which criu cannot save: start it with setsid(1)", pid)
		}
	}
	for pid := range s.table {
		tracer, err := proc.Tracer(pid)
		if err != nil || tracer == 0 {
			continue
		}
		switch {
		case in[pid] && r.PtracedSkip:
			s.skipped = true
		case in[pid] && binary.Restores(tracer):
			return atWorkRefusal("process %d is still being restarted", pid)
		case in[pid] && binary.Runs(tracer):
			return refusal(syscall.EBUSY, "process %d is being saved by another request (criu is process %d)", pid, tracer)
		case in[pid]:
			// Also where it is allowed: criu has to trace it itself.
			return advised(refusal(ckpt.EPtraced, "%s is traced by %s", hints.Process(pid), hints.Tracer(pid)),
				"detach it there, or end that")
		}
		switch {
		case in[tracer] && binary.Runs(tracer):
			// As atWork says, or will say.
		case in[tracer] && r.PtracerSkip:
			s.skipped = true
		case in[tracer]:
			return advised(refusal(ckpt.EPtracer, "%s traces %s", hints.Tracer(pid), hints.Process(pid)),
				"have it let go of that, or save others")
		}
	}
	if s.skipped {
		if len(s.tree) == 1 {
			return nobody()
		}
		return refusal(syscall.EOPNOTSUPP, "criu cannot leave a process out that traces or is traced, and save the others")
	}
	return nil
}

// forbidden is BLCR's line for a process that may not be saved, and why.
func forbidden(pid int) []string {
	lines := []string{fmt.Sprintf("Bad permissions to checkpoint task %d", pid)}
	if why := hints.Permission(pid); why != "" {
		lines = append(lines, why)
	}
	return lines
}

// list is some pids for a message.
func list(pids []int) string {
	const most = 5
	var b strings.Builder
	for i, pid := range pids {
		if i == most {
			fmt.Fprintf(&b, " and %d more", len(pids)-most)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprint(&b, pid)
	}
	return b.String()
}
