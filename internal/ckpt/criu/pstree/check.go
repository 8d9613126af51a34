package pstree

import (
	"syscall"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/atwork"
	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/criu/binary"
	"blcr-cli/internal/hints"
	"blcr-cli/internal/proc"
)

// check refuses what must not or cannot be saved.
func (t *Tree) check(r *ckpt.CheckpointRequest) error {
	for _, pid := range t.PIDs {
		p := t.table[pid]
		switch {
		case p.Kernel:
			return refusal(syscall.EPERM, "%d (%s) is a thread of the kernel", pid, p.Comm)
		case p.Sid == 0:
			// As of a program that a container's runtime has started there without a
			// new session. CRIU would say it only when everything is frozen.
			return refusal(syscall.EOPNOTSUPP, "process %d is in a session of another pid namespace, which criu cannot save: start it with setsid(1)", pid)
		}
	}
	return t.checkTracers(r)
}

// checkTracers refuses processes that are traced, or trace others: CRIU has to
// trace them itself. Where all are to be left out for that, there is none to be saved.
func (t *Tree) checkTracers(r *ckpt.CheckpointRequest) error {
	in := t.contains()
	out, tracers := t.leftOut(r)
	for pid, tracer := range tracers {
		switch {
		case !in(pid) || out[pid]:
		case binary.Restores(tracer):
			return busy("process %d is still being restarted", pid)
		case binary.Runs(tracer):
			return refusal(syscall.EBUSY, "process %d is being saved by another request (criu is process %d)", pid, tracer)
		case ours(tracer):
			return busy("process %d is being looked at by another request (process %d)", pid, tracer)
		default:
			// Also with PtracedAllow.
			return tracedError(pid, false)
		}
		if in(tracer) && !out[tracer] && !ours(tracer) {
			return tracedError(pid, true)
		}
	}
	switch len(out) {
	case 0:
		return nil
	case len(t.PIDs):
		return none()
	default:
		return refusal(syscall.EOPNOTSUPP, "criu cannot leave a process out that traces or is traced, and save the others")
	}
}

// ours reports whether a tracer belongs to another request, which is waited for: a criu, a
// command of ours, or the process that does its work, which asks threads by ptrace(2).
func ours(tracer int) bool {
	if atWork(tracer) {
		return true
	}
	p, err := proc.Read(tracer)
	return err == nil && atwork.Claimed(p.PPid)
}

// tracedError is the error for a process that is traced, or for its tracer. One that has
// been let go of since it was looked at, or has ended, is worth another look.
func tracedError(pid int, tracer bool) error {
	by := hints.Tracer(pid)
	switch {
	case by == "":
		return busy("process %d was just being traced", pid)
	case tracer:
		return with(refusal(ckpt.EPtracer, "%s traces %s", by, hints.Process(pid)), "have it let go of that, or save others")
	}
	return with(refusal(ckpt.EPtraced, "%s is traced by %s", hints.Process(pid), by), "detach it there, or end that")
}

// leftOut returns which processes of the tree the request leaves out because they are
// traced or trace others, with what is below them; and all tracers, by whom they trace.
// With a group or session what is below them is not left out.
func (t *Tree) leftOut(r *ckpt.CheckpointRequest) (out map[int]bool, tracers map[int]int) {
	in := t.contains()
	out, tracers = make(map[int]bool), make(map[int]int)
	for pid, p := range t.table {
		if p.Kernel { // which nobody traces
			continue
		}
		tracer, err := proc.Tracer(pid)
		if err != nil || tracer == 0 {
			continue
		}
		tracers[pid] = tracer
		if r.PtracedSkip && in(pid) {
			out[pid] = true
		}
		if r.PtracerSkip && in(tracer) && !ours(tracer) {
			out[tracer] = true
		}
	}
	for _, pid := range t.PIDs { // parents first
		if (r.Scope == ckpt.ScopeTree || r.Scope == ckpt.ScopeProcess) && out[t.table[pid].PPid] {
			out[pid] = true
		}
	}
	return out, tracers
}

// forbidden is the error for a process that is not the caller's to save: BLCR's
// line, and why.
func forbidden(pid int) *ckpt.Error {
	e := refusal(syscall.EPERM, "Bad permissions to checkpoint task %d", pid)
	if why := hints.Permission(pid); why != "" {
		e = with(e, why)
	}
	return e
}

// AwaitDetached returns when no CRIU traces any thread of this process, or after
// 10 seconds. It is for a process that ends as soon as it has been restored: CRIU
// detaches from one thread after the other, and fails if one that it still traces
// has ended with the others. It leaves no descriptor open and uses no timer of the
// runtime.
func AwaitDetached() {
	const milliseconds = 10000
	for range milliseconds {
		if !restoring() {
			return
		}
		_, _ = unix.Poll(nil, 1)
	}
}

// restoring reports whether a CRIU traces a thread of this process.
func restoring() bool {
	for _, tid := range proc.Threads(self()) {
		if tracer, err := proc.Tracer(tid); err == nil && tracer != 0 && binary.Runs(tracer) {
			return true
		}
	}
	return false
}
