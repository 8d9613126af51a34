// Package kernel is the engine that BLCR's kernel module is: requests are
// ioctls on /proc/checkpoint/ctrl (package abi has the numbers), and the module
// reads and writes the context itself.
//
// What belongs here: issuing requests, creating the restart children, and, in
// package selfckpt, the answer to requests that would save this process itself.
// It prints nothing, knows no option and opens no context.
package kernel

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/kernel/abi"
	"blcr-cli/internal/ckpt/kernel/selfckpt"
	"blcr-cli/internal/ctxfile"
	"blcr-cli/internal/hints"
	"blcr-cli/internal/signals"
)

// Engine is a connection to the module. It implements ckpt.Engine.
type Engine struct {
	ctrl     control
	close    sync.Once
	children restartChildren
	issued   atomic.Bool // a request has been issued, or is about to be
	meter    meter
	log      []string
}

// Candidate is this engine as one to choose. The context belongs to the module,
// which neither compresses it nor puts it into a directory.
var Candidate = ckpt.Candidate{
	Name:         "kernel",
	Open:         Open,
	Present:      present,
	Recognizes:   recognizes,
	Missing:      "this context was written by BLCR's kernel module, which is not there",
	SignalsFirst: true,
	Terse:        true,
	Asks:         true,
}

// recognizes tells whether there is a context of BLCR's on a descriptor.
func recognizes(fd int) bool {
	kind, _ := ctxfile.Sniff(fd)
	return kind == ctxfile.BLCR
}

// Describe returns "".
func (e *Engine) Describe() string { return "" }

// InPlace implements ckpt.Engine: the module has all memory in place from the start.
func (e *Engine) InPlace() error { return nil }

// Log returns what the module has logged about the request.
func (e *Engine) Log() []string { return e.log }

// Open connects to the module. An error is a *ckpt.Error: with ENOSYS when the
// control file cannot be opened, for whatever cause, as libcr has it; with
// ckpt.EVersion when the module speaks another version of the interface.
//
// If it fails, this process is left out of checkpoints from then on: with another
// engine it may hold descriptors that the module cannot save.
func Open() (engine ckpt.Engine, err error) {
	defer func() {
		if err != nil {
			selfckpt.Omit()
		}
	}()
	if !supported {
		return nil, &ckpt.Error{Op: "open", Object: abi.ControlFile, Errno: unix.ENOSYS}
	}
	ctrl, errno := openControl()
	if errno != 0 {
		missing := &ckpt.Error{Op: "open", Object: abi.ControlFile, Errno: unix.ENOSYS}
		if errno != unix.ENOENT {
			// The file is there: the cause is not that the module is missing.
			missing.Detail = []string{fmt.Sprintf("open('%s'): %s", abi.ControlFile, ckpt.Strerror(errno))}
			if owner := hints.Owner(abi.ControlFile); owner != "" && (errno == unix.EACCES || errno == unix.EPERM) {
				missing.Detail = append(missing.Detail, fmt.Sprintf("BLCR's module is there, but %s may not use it: its control file %s", hints.User(unix.Geteuid()), owner))
			}
		}
		return nil, missing
	}
	if selfckpt.Errno != 0 {
		// Without the handler our own presence in the scope would hang the
		// request for ever.
		ctrl.close()
		return nil, &ckpt.Error{Op: "sigaction", Object: fmt.Sprintf("signal %d", abi.Sig), Errno: syscall.Errno(selfckpt.Errno)}
	}
	if err := ctrl.version(); err != nil {
		ctrl.close()
		return nil, err
	}
	return &Engine{ctrl: ctrl}, nil
}

// present tells whether Open would find the module: its control file is there, and
// this process may open it.
func present() bool {
	return supported && unix.Access(abi.ControlFile, unix.W_OK) == nil
}

// Close closes the control file. Requests that were held are answered.
func (e *Engine) Close() error {
	e.end()
	if e.issued.Load() {
		selfckpt.Release()
	} else {
		// Another engine takes over, for which this process may hold descriptors
		// that the module cannot save.
		selfckpt.Omit()
	}
	return nil
}

// end closes the control file, upon which the module abandons a request under
// way, and ends the processes of an unfinished restart.
func (e *Engine) end() {
	e.close.Do(func() { e.ctrl.close() })
	e.meter.end()
	e.children.abandon()
}

// Capture makes the whole checkpoint: CR_OP_CHKPT_REQ, the wait, CR_OP_CHKPT_LOG
// and CR_OP_CHKPT_REAP.
func (e *Engine) Capture(ctx context.Context, r *ckpt.CheckpointRequest) (ckpt.Capture, error) {
	progressed := r.Progressed
	if progressed == nil {
		progressed = func(ckpt.Step) {}
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := signals.Catch(interrupt); err != nil {
		return nil, &ckpt.Error{Op: "sigaction", Errno: err.(syscall.Errno), Step: ckpt.StepIssue}
	}
	defer interruptOn(ctx)()
	if ctx.Err() != nil {
		return nil, ckpt.At(ckpt.StepIssue, canceled("checkpoint"))
	}
	if err := e.issueCheckpoint(r); err != nil {
		return nil, ckpt.At(ckpt.StepIssue, err)
	}
	progressed(ckpt.StepWait)
	if err := e.awaitCheckpoint(ctx, r.Limit); err != nil {
		e.end()
		return nil, ckpt.At(ckpt.StepWait, err)
	}
	if r.WantLog {
		progressed(ckpt.StepLog)
		// A log that cannot be had changes nothing about the checkpoint.
		e.log, _ = e.ctrl.chkptLog()
	}
	progressed(ckpt.StepOutcome)
	if err := e.ctrl.chkptReap(); err != nil {
		return nil, err
	}
	return ckpt.Done{}, nil
}

// issueCheckpoint is CR_OP_CHKPT_REQ.
func (e *Engine) issueCheckpoint(r *ckpt.CheckpointRequest) error {
	// A closed descriptor that the caller named may have become ours. The
	// module has to find it closed, and says so.
	if err := e.ctrl.moveFrom(r.FD); err != nil {
		return err
	}
	e.hold(r.FD, selfckpt.CheckpointPolicy)
	if r.Measure {
		e.meter.begin(r.FD, false)
	}
	args := abi.ChkptArgs{
		Target: r.ID,
		Scope:  scopes[r.Scope],
		Fd:     r.FD,
		Secs:   uint32(r.Limit / time.Second),
		Signal: r.Signal,
		Flags:  checkpointFlags(r),
	}
	return e.ctrl.chkptReq(&args)
}

// awaitCheckpoint returns when the module is done. The module does not keep the
// limit itself (it only logs that it is over), so it is kept here; 0 is none.
func (e *Engine) awaitCheckpoint(ctx context.Context, limit time.Duration) error {
	var deadline time.Time
	if limit > 0 {
		deadline = time.Now().Add(limit)
	}
	for {
		err := e.ctrl.wait(deadline)
		if ctx.Err() != nil {
			return canceled("checkpoint")
		}
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// canceled is the error of a request whose context was cancelled.
func canceled(op string) error { return &ckpt.Error{Op: op, Errno: unix.ECANCELED} }

var scopes = map[ckpt.Scope]int32{
	ckpt.ScopeProcess: abi.ScopeProc,
	ckpt.ScopeGroup:   abi.ScopePgrp,
	ckpt.ScopeSession: abi.ScopeSess,
	ckpt.ScopeTree:    abi.ScopeTree,
}

func checkpointFlags(r *ckpt.CheckpointRequest) uint32 {
	flags := uint32(abi.ChkptAsyncErr)
	for _, f := range []struct {
		on  bool
		bit uint32
	}{
		{r.PtracedAllow, abi.ChkptPtracedAllow},
		{r.PtracedSkip, abi.ChkptPtracedSkip},
		{r.PtracerSkip, abi.ChkptPtracerSkip},
		{r.SaveExe, abi.ChkptDumpExec},
		{r.SavePrivate, abi.ChkptDumpPrivate},
		{r.SaveShared, abi.ChkptDumpShared},
	} {
		if f.on {
			flags |= f.bit
		}
	}
	return flags
}

// interrupt is the signal that gets a thread out of a system call that will
// not return. glibc reserves it, so no other program sends it.
const interrupt = syscall.Signal(33)

// interruptible blocks every signal but interrupt for the calling thread, until
// the function that it returns is called. No other signal may interrupt the ioctls
// of a restart: SIGCHLD of a child that ends while the module waits for the next
// one, or a preemption, would abort it.
func interruptible() (restore func(), err error) {
	if err := signals.Catch(interrupt); err != nil {
		return nil, &ckpt.Error{Op: "sigaction", Errno: err.(syscall.Errno)}
	}
	mask, err := signals.BlockAll(interrupt)
	if err != nil {
		return nil, &ckpt.Error{Op: "sigprocmask", Errno: err.(syscall.Errno)}
	}
	return func() { _ = signals.RestoreMask(mask) }, nil
}

// interruptOn has the calling thread interrupted when ctx is cancelled, again and
// again until the function that it returns is called: the signal may come before
// the call that it is to interrupt.
func interruptOn(ctx context.Context) (stop func()) {
	tid := unix.Gettid()
	done := make(chan struct{})
	cancel := context.AfterFunc(ctx, func() {
		for {
			_ = unix.Tgkill(os.Getpid(), tid, interrupt)
			select {
			case <-done:
				return
			default:
				pause(watchInterval)
			}
		}
	})
	return func() {
		close(done)
		cancel()
	}
}

// Restart makes the whole restart: CR_OP_RSTRT_REQ, the processes that the module
// asks for, the wait, CR_OP_RSTRT_LOG and CR_OP_RSTRT_REAP. When it has failed the
// processes made for it are gone, half restored ones included.
func (e *Engine) Restart(ctx context.Context, r *ckpt.RestartRequest) (pid int, err error) {
	restore, err := interruptible()
	if err != nil {
		return 0, ckpt.At(ckpt.StepIssue, err)
	}
	defer restore()
	defer interruptOn(ctx)()
	defer func() {
		e.end()
		if err != nil && ctx.Err() != nil {
			err = canceled("restart")
		}
	}()
	if ctx.Err() != nil {
		return 0, ckpt.At(ckpt.StepIssue, canceled("restart"))
	}
	if err := e.issueRestart(r); err != nil {
		return 0, ckpt.At(ckpt.StepIssue, e.lossOr(err))
	}
	if r.Made != nil && !r.Made() {
		return 0, canceled("restart")
	}
	if err := e.awaitRestart(ctx); err != nil {
		return 0, ckpt.At(ckpt.StepWait, err)
	}
	if r.WantLog {
		// A log that cannot be had changes nothing about the restart.
		e.log, _ = e.ctrl.rstrtLog()
	}
	if pid, err = e.ctrl.rstrtReap(); err != nil {
		return 0, err
	}
	e.children.release()
	selfckpt.Adopt(pid)
	return pid, nil
}

// lossOr returns why a restart child ended that the module still waits for, or err. A child
// that ended with EINTR has that from the module, as this process has.
func (e *Engine) lossOr(err error) error {
	if errno := e.children.failure(); errno != 0 && errno != unix.EINTR && errors.Is(err, unix.EINTR) {
		return &ckpt.Error{Op: "make", Object: "a process to restore", Errno: errno}
	}
	return err
}

// awaitRestart returns when the module is done. The error is that of poll, or why
// a restart child ended that the module still waits for.
func (e *Engine) awaitRestart(ctx context.Context) error {
	for {
		err := e.ctrl.wait(time.Time{})
		if lost := e.lossOr(err); lost != err || ctx.Err() != nil {
			return lost
		}
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func (e *Engine) issueRestart(r *ckpt.RestartRequest) error {
	if err := e.ctrl.moveFrom(r.FD); err != nil {
		return err
	}
	e.hold(r.FD, policies[r.Omit])
	if r.Measure {
		e.meter.begin(r.FD, true)
	}
	args := abi.RstrtArgs{
		Fd:       r.FD,
		Signal:   r.Signal,
		Relocate: relocateTable(r.Relocations),
		Flags:    restartFlags(r),
	}
	err := e.ctrl.rstrtReq(&args)
	runtime.KeepAlive(args.Relocate)
	if err != nil {
		return err
	}
	for {
		var table abi.ProcsTbl
		more, err := e.ctrl.rstrtProcs(&table)
		if err != nil || !more {
			return err
		}
		if err := e.children.spawn(e.ctrl, &table); err != nil {
			return err
		}
	}
}

func restartFlags(r *ckpt.RestartRequest) uint32 {
	flags := uint32(abi.RstrtAsyncErr)
	if r.RestorePid {
		flags |= abi.RstrtRestorePid
	}
	if r.RestorePgid {
		flags |= abi.RstrtRestorePgid
	}
	if r.RestoreSid {
		flags |= abi.RstrtRestoreSid
	}
	return flags
}

// relocateTable makes the module's table of relocations, nil for none. It
// points into Go memory, so the caller keeps it alive over the ioctl.
func relocateTable(relocations []ckpt.Relocation) *abi.RstrtRelocate {
	if len(relocations) == 0 {
		return nil
	}
	table := &abi.RstrtRelocate{Count: uint32(len(relocations))}
	for i, r := range relocations {
		table.Path[i] = abi.RelocatePair{OldPath: cString(r.Old), NewPath: cString(r.New)}
	}
	return table
}

func cString(s string) *byte {
	b := make([]byte, len(s)+1)
	copy(b, s)
	return unsafe.SliceData(b)
}
