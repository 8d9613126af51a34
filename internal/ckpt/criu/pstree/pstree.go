// Package pstree finds the processes that a checkpoint request means, and says
// which of them cannot be saved: from an id to a tree of processes, or to the
// error for the user.
//
// CRIU saves trees: a process and all its descendants. A scope that is no tree
// cannot be saved, and the request is refused.
//
// The package knows neither a run of CRIU nor an image. What CRIU itself finds out
// about a process and reports when it fails belongs to package explain.
package pstree

import (
	"context"
	"errors"
	"fmt"
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

// Tree is the processes that a request means.
type Tree struct {
	Root int   // pid
	PIDs []int // of all of them, parents first

	table   proc.Table // the programs of the machine, when the tree was found; after Refresh those of the tree
	outside *outside   // nil before LookOutside
	pinned  int        // pidfd of the root, 0 where the kernel has none
	request *ckpt.CheckpointRequest
	frozen  bool // since Refresh

	// What the last look has found:
	pipes  map[uint64]pipeEnds // open in the tree, by their inodes
	passes bool                // descriptors are on their way between processes (SCM_RIGHTS)
}

// Resolve finds the tree that the request means. The error is a *ckpt.Error:
//
//	ESRCH		for a scope without processes
//	EOPNOTSUPP	for one that is no tree, or has a process that cannot be saved
//	EPERM		for processes that are not the caller's to save
//	EPtraced	for traced processes, EPtracer for those that trace others
//	EBUSY		for a tree in which another request is at work
//
// Another request is waited for, up to 10 seconds or the request's limit, or until
// ctx is cancelled; then the error is the cause of that. The caller closes the tree.
func Resolve(ctx context.Context, r *ckpt.CheckpointRequest) (*Tree, error) {
	t, errs := ResolveAll(ctx, r)
	if len(errs) > 0 {
		return nil, errs[0]
	}
	return t, nil
}

// ResolveAll is Resolve that goes on after the first error. The tree is nil where none
// was found.
func ResolveAll(ctx context.Context, r *ckpt.CheckpointRequest) (*Tree, []error) {
	limit := busyLimit
	if r.Limit > 0 {
		limit = min(r.Limit, busyLimit)
	}
	began := time.Now()
	deadline := began.Add(limit)
	served := make(map[string]bool) // files that were answered for
	for {
		t, errs := look(ctx, r, served)
		if len(errs) == 0 {
			if err := t.checkIdle(); err != nil {
				errs = []error{err}
			}
		}
		if len(errs) == 0 {
			if errs = t.pin(); errs == nil {
				return t, nil
			}
		}
		busy, isBusy := errs[0].(*busyError)
		if !isBusy || time.Now().After(deadline) || busy.limit > 0 && time.Since(began) > busy.limit {
			for i := range errs {
				errs[i] = final(errs[i])
			}
			return t, errs
		}
		if ctx.Err() != nil {
			return nil, []error{context.Cause(ctx)}
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// busyLimit is how long another request may be at work in the tree. BLCR's tools
// hold checkpoints off in the same way.
const busyLimit = 10 * time.Second

// pin makes sure that the root is told from a later process with its pid.
func (t *Tree) pin() []error {
	if fd, err := unix.PidfdOpen(t.Root, 0); err == nil {
		t.pinned = fd
	}
	// The process that has been looked at is the one that is pinned.
	if !t.Lives() {
		t.Close()
		return []error{none()}
	}
	return nil
}

// Lives reports whether the root has not ended, or has not been waited for. Its pid is its
// own as long as that.
func (t *Tree) Lives() bool {
	if t.pinned > 0 && unix.PidfdSendSignal(t.pinned, 0, nil, 0) == unix.ESRCH {
		return false
	}
	root, err := proc.Read(t.Root)
	return err == nil && (t.table[t.Root] == nil || root.Start == t.table[t.Root].Start)
}

// Close gives back what tells the root from others. It may be called again.
func (t *Tree) Close() {
	if t.pinned > 0 {
		unix.Close(t.pinned)
		t.pinned = 0
	}
}

// look finds the tree as it is now, and what is wrong with it. The tree is nil where
// none was found.
func look(ctx context.Context, r *ckpt.CheckpointRequest, served map[string]bool) (*Tree, []error) {
	table, err := proc.Programs()
	if err != nil {
		return nil, []error{ckpt.SystemError("read", "/proc", err)}
	}
	t := &Tree{table: table, request: r}
	if err := t.find(r); err != nil {
		return nil, []error{err}
	}
	if root := table[t.Root]; root.Dead() && !newSubject(root).lives() {
		return nil, []error{none()}
	}
	for _, pid := range t.PIDs {
		if !table[pid].Kernel && unix.Kill(pid, 0) == unix.EPERM {
			return t, []error{forbidden(pid)}
		}
	}
	if pid := t.ownAncestor(); pid != 0 {
		// Either this process was never to leave the tree, or it has, and was given
		// to a process of the tree that adopts orphans.
		return nil, []error{refusal(syscall.EOPNOTSUPP, "process %d, which asks for the checkpoint, is itself among those to be saved, and cannot leave them", pid)}
	}
	if err := t.check(r); err != nil {
		return t, []error{err}
	}
	if err := t.awaitServed(ctx, served); err != nil {
		return nil, []error{err} // nothing else is to be looked at
	}
	return t, t.preflight()
}

// Refresh looks for the processes again, which must be frozen. The error is EBUSY
// if another request has begun in the tree meanwhile: its processes would be
// restored without what they wait for. It is EOPNOTSUPP if a process has become one
// that cannot be saved, and ESRCH if the root has ended and its pid is another
// process's.
func (t *Tree) Refresh() error {
	if !t.Lives() {
		return none()
	}
	pids, err := proc.Descend(t.Root)
	if err != nil {
		return ckpt.SystemError("read", "/proc", err)
	}
	t.PIDs, t.frozen = pids, true
	if err := t.checkIdle(); err != nil {
		return final(err)
	}
	t.table = make(proc.Table, len(pids))
	for _, pid := range pids {
		if p, err := proc.Read(pid); err == nil {
			t.table[pid] = p
		}
	}
	if errs := t.preflight(); len(errs) > 0 {
		if busy, ok := errs[0].(*busyError); ok {
			return &momentary{busy.refusal}
		}
		return errs[0]
	}
	return nil
}

// momentary is a refusal for what has come since the processes were looked at, and is over soon.
type momentary struct{ refusal *ckpt.Error }

func (m *momentary) Error() string { return m.refusal.Error() }
func (m *momentary) Unwrap() error { return m.refusal }

// IsMomentary reports whether Refresh has failed for what is over soon.
func IsMomentary(err error) bool {
	_, ok := errors.AsType[*momentary](err)
	return ok
}

// Memory returns how much the processes have in memory that is in no file, in
// bytes.
func (t *Tree) Memory() int64 {
	var sum int64
	for _, pid := range t.PIDs {
		sum += proc.Memory(pid)
	}
	return sum
}

// AwaitEnd returns when all processes have ended, or after the limit. A zombie has
// ended, and so has one whose pid is another's.
func (t *Tree) AwaitEnd(limit time.Duration) {
	deadline := time.Now().Add(limit)
	for _, pid := range t.PIDs {
		for !t.ended(pid) && time.Now().Before(deadline) {
			time.Sleep(time.Millisecond)
		}
	}
}

func (t *Tree) ended(pid int) bool {
	if pid == t.Root && !t.Lives() {
		return true
	}
	p, err := proc.Read(pid)
	return err != nil || p.Dead() || t.table[pid] != nil && p.Start != t.table[pid].Start
}

// Signal is Signal for the tree. Nothing gets the signal if the root's pid is another
// process's.
func (t *Tree) Signal(signal int32) { send(t.Root, signal, t.Lives) }

// Signal sends a signal to a process, which must not have been waited for, and all its
// descendants. They are looked for again. Negative numbers are BLCR's "early" signals,
// which are sent before callbacks run; CRIU's processes have none. 0 is no signal.
func Signal(root int, signal int32) { send(root, signal, func() bool { return true }) }

// send is Signal, if the root lives once all processes are pinned: a pid may be given to a
// process outside of the tree at any time.
func send(root int, signal int32, lives func() bool) {
	signal = max(signal, -signal)
	if signal == 0 {
		return
	}
	pids, err := proc.Descend(root)
	if err != nil {
		return
	}
	pinned := make([]int, len(pids))
	for i, pid := range pids {
		pinned[i], err = unix.PidfdOpen(pid, 0)
		switch {
		case err == unix.ESRCH:
			pids[i] = 0
		case err != nil: // no pidfds, or no more of them
			pinned[i] = -1
		default:
			defer unix.Close(pinned[i])
		}
	}
	in := make(map[int]bool, len(pids))
	for i, pid := range pids {
		if p, err := proc.Read(pid); pid != root && (err != nil || !in[p.PPid]) {
			pids[i] = 0
		} else {
			in[pid] = true
		}
	}
	if !lives() {
		return
	}
	for i, pid := range pids {
		switch {
		case pid == 0:
		case pinned[i] < 0:
			_ = unix.Kill(pid, syscall.Signal(signal))
		default:
			_ = unix.PidfdSendSignal(pinned[i], syscall.Signal(signal), nil, 0)
		}
	}
}

// refusal is the error for processes that cannot be saved.
func refusal(errno syscall.Errno, format string, args ...any) *ckpt.Error {
	return &ckpt.Error{Op: "checkpoint", Object: "processes", Errno: errno, Detail: []string{fmt.Sprintf(format, args...)}}
}

// with adds a hint what to do.
func with(e *ckpt.Error, hint string) *ckpt.Error {
	e.Detail = append(e.Detail, hint)
	return e
}

// none is the error for a scope without processes.
func none() *ckpt.Error {
	return &ckpt.Error{Op: "checkpoint", Object: "processes", Errno: syscall.ESRCH}
}

// busyError is a refusal for what ends soon, such as another request.
type busyError struct {
	refusal *ckpt.Error
	limit   time.Duration // how long to wait for its end; 0 for busyLimit
}

func (e *busyError) Error() string { return e.refusal.Error() }

func busy(format string, args ...any) error {
	return &busyError{refusal: refusal(syscall.EBUSY, format, args...)}
}

// final is the error for a caller that is not going to try again.
func final(err error) error {
	if busy, ok := err.(*busyError); ok {
		return busy.refusal
	}
	return err
}

// checkIdle refuses a tree in which a process makes a checkpoint or a restart.
func (t *Tree) checkIdle() error {
	for _, pid := range t.PIDs {
		if atWork(pid) {
			return busy("%s makes another checkpoint or restart", hints.Process(pid))
		}
	}
	if !atwork.Any(t.Root) {
		return nil
	}
	for _, pid := range t.PIDs {
		// A checkpoint would lack it.
		if proc.LacksMemory(pid) {
			return busy("%s was restarted with --lazy, and not all of its memory is in place", hints.Process(pid))
		}
	}
	return nil
}

// atWork reports whether a process belongs to another request: a command of ours
// or the CRIU that it runs.
func atWork(pid int) bool { return atwork.Claimed(pid) || binary.Runs(pid) }

// list is some pids for a sentence.
func list(pids []int) string {
	const most = 5
	words := make([]string, 0, most)
	for _, pid := range pids[:min(len(pids), most)] {
		words = append(words, fmt.Sprint(pid))
	}
	text := strings.Join(words, ", ")
	if len(pids) > most {
		text += fmt.Sprintf(" and %d more", len(pids)-most)
	}
	return text
}

// contains reports membership of the tree for many pids.
func (t *Tree) contains() func(pid int) bool {
	in := make(map[int]bool, len(t.PIDs))
	for _, pid := range t.PIDs {
		in[pid] = true
	}
	return func(pid int) bool { return in[pid] }
}

// ownAncestor returns the pid of this process or of its next ancestor that is in
// the tree, 0 if there is none.
func (t *Tree) ownAncestor() int {
	for pid := self(); pid > 0; {
		if slices.Contains(t.PIDs, pid) {
			return pid
		}
		p := t.table[pid]
		if p == nil {
			break
		}
		pid = p.PPid
	}
	return 0
}
