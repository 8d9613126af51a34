// Package kernel is the engine that BLCR's kernel module is: requests are
// ioctls on /proc/checkpoint/ctrl (package abi has the numbers), and the module
// reads and writes the context itself.
//
// What belongs here: issuing requests, creating the restart children, and, in
// package selfckpt, the answer to requests that would save this process itself.
// It prints nothing, knows no option and opens no context.
package kernel

import (
	"errors"
	"fmt"
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
}

// Open connects to the module. An error is a *ckpt.Error: with ENOSYS when the
// control file cannot be opened, for whatever cause, as libcr has it; with
// ckpt.EVersion when the module speaks another version of the interface.
func Open() (ckpt.Engine, error) {
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
	// Until a request has been issued a restored copy of this process has nothing
	// half done.
	selfckpt.SaveAsIs()
	return &Engine{ctrl: ctrl}, nil
}

// Present tells whether Open would find the module: its control file can be
// opened.
func Present() bool {
	if !supported {
		return false
	}
	ctrl, errno := openControl()
	if errno != 0 {
		return false
	}
	ctrl.close()
	return true
}

// Close closes the control file, upon which the module abandons a request under
// way, and ends the processes of an unfinished restart. Another goroutine may
// be in Restart, which then fails. Requests that were held are answered.
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

// end is Close without the answer to held requests.
func (e *Engine) end() {
	e.close.Do(func() { e.ctrl.close() })
	e.meter.end()
	e.children.abandon()
}

// checkpoint is a checkpoint request under way.
type checkpoint struct {
	ctrl     control
	deadline time.Time // zero for none
}

// Checkpoint issues the request, CR_OP_CHKPT_REQ.
func (e *Engine) Checkpoint(r *ckpt.CheckpointRequest) (ckpt.Checkpoint, error) {
	// The control file may have got the number of a closed descriptor that the
	// caller named. The module has to find that closed, and reports it.
	if err := e.ctrl.moveFrom(r.FD); err != nil {
		return nil, err
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
	if err := e.ctrl.chkptReq(&args); err != nil {
		return nil, err
	}
	c := &checkpoint{ctrl: e.ctrl}
	if r.Limit > 0 {
		c.deadline = time.Now().Add(r.Limit)
	}
	return c, nil
}

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

// Wait returns when the module is done. The module does not keep the limit
// itself (it only logs that it is over), so it is kept here.
func (c *checkpoint) Wait() error {
	for {
		if err := c.ctrl.wait(c.deadline); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func (c *checkpoint) Log() ([]string, error) { return c.ctrl.chkptLog() }
func (c *checkpoint) Reap() error            { return c.ctrl.chkptReap() }

// interrupt is the signal that gets the main thread out of a system call that will
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

// Restart issues the request, CR_OP_RSTRT_REQ, and forks the restart children that
// the module asks for. The caller's goroutine must be locked to the main thread.
func (e *Engine) Restart(r *ckpt.RestartRequest) (ckpt.Restart, error) {
	restore, err := interruptible()
	if err != nil {
		return nil, err
	}
	defer restore()
	if err := e.issueRestart(r); err != nil {
		if errno := e.children.failure(); errno != 0 && errors.Is(err, unix.EINTR) {
			err = &ckpt.Error{Op: "make", Object: "a process to restore", Errno: errno}
		}
		e.end()
		return nil, err
	}
	return &restart{e}, nil
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

// restart is a restart request under way.
type restart struct{ engine *Engine }

// Wait returns when the module is done. The error is that of poll, or why a
// restart child ended that the module still waits for.
func (r *restart) Wait() error {
	restore, err := interruptible()
	if err != nil {
		return err
	}
	defer restore()
	for {
		err := r.engine.ctrl.wait(time.Time{})
		if errno := r.engine.children.failure(); errno != 0 && errors.Is(err, unix.EINTR) {
			return &ckpt.Error{Op: "make", Object: "a process to restore", Errno: errno}
		}
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func (r *restart) Log() ([]string, error) { return r.engine.ctrl.rstrtLog() }

// Reap ends the request. When the restart has failed its children are gone
// afterwards, half restored ones included.
func (r *restart) Reap() (pid int, err error) {
	pid, err = r.engine.ctrl.rstrtReap()
	if err == nil {
		r.engine.children.release()
		selfckpt.Adopt(pid)
	}
	r.engine.end()
	if err != nil {
		return 0, err
	}
	return pid, nil
}
