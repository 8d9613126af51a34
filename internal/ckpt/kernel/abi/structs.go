package abi

import (
	"structs"
	"unsafe"
)

// Scope values of ChkptArgs and FwdArgs, enum cr_scope of blcr_common.h.
const (
	ScopeProc = 0 // one process
	ScopePgrp = 1 // a process group
	ScopeSess = 2 // a session
	ScopeTree = 3 // a process and all its descendants
)

// Flags of ChkptArgs.
const (
	ChkptProhibitSelf = 0x1   // CR_CHKPT_PROHIBIT_SELF: EDEADLK if the caller is in scope
	ChkptPtracedAllow = 0x2   // CR_CHKPT_PTRACED_ALLOW
	ChkptPtracedSkip  = 0x4   // CR_CHKPT_PTRACED_SKIP
	ChkptPtracerSkip  = 0x8   // CR_CHKPT_PTRACER_SKIP
	ChkptAsyncErr     = 0x10  // CR_CHKPT_ASYNC_ERR: most errors come out at the reap
	ChkptDumpExec     = 0x200 // CR_CHKPT_DUMP_EXEC
	ChkptDumpPrivate  = 0x400 // CR_CHKPT_DUMP_PRIVATE
	ChkptDumpShared   = 0x800 // CR_CHKPT_DUMP_SHARED
)

// Flags of RstrtArgs.
const (
	RstrtAsyncErr    = 0x1 // CR_RSTRT_ASYNC_ERR
	RstrtRestorePid  = 0x2 // CR_RSTRT_RESTORE_PID
	RstrtRestorePgid = 0x4 // CR_RSTRT_RESTORE_PGID
	RstrtRestoreSid  = 0x8 // CR_RSTRT_RESTORE_SID
)

// MaxRelocate is the most pairs that a RstrtRelocate may count
// (CR_MAX_RSTRT_RELOC).
const MaxRelocate = 16

// ChkptArgs is struct cr_chkpt_args, the argument of OpChkptReq.
type ChkptArgs struct {
	_          structs.HostLayout
	Target     int32  // pid, process group or session; 0 is the caller's own
	Scope      int32  // Scope…
	Fd         int32  // destination; written from its current offset
	Secs       uint32 // limit in seconds, 0 for none
	DumpFormat int32  // 0, vmadump, is the only one
	Signal     int32  // sent after the checkpoint; negative is an "early" signal
	Flags      uint32 // Chkpt…
}

// RstrtArgs is struct cr_rstrt_args, the argument of OpRstrtReq. On 64-bit
// machines the C compiler pads it to 24 bytes, and so does Go's.
type RstrtArgs struct {
	_        structs.HostLayout
	Fd       int32          // source; read from its current offset
	Signal   int32          // sent after the restart; negative is an "early" signal
	Relocate *RstrtRelocate // nil for none
	Flags    uint32         // Rstrt…
}

// RstrtRelocate is struct cr_rstrt_relocate with room for the most pairs; only
// the first Count are looked at.
type RstrtRelocate struct {
	_     structs.HostLayout
	Count uint32
	Path  [MaxRelocate]RelocatePair
}

// RelocatePair maps one path prefix to another. Both are NUL-terminated.
type RelocatePair struct {
	_       structs.HostLayout
	OldPath *byte
	NewPath *byte
}

// ProcsTbl is struct cr_procs_tbl, filled by OpRstrtProcs: the process that is
// to be made next.
type ProcsTbl struct {
	_          structs.HostLayout
	Threads    int32 // threads in all, the first one included
	CloneFlags int32 // flags of clone(2) for all but the first
}

// LogArgs is struct cr_log_args, the argument of OpChkptLog and OpRstrtLog.
// With Len 0 the operation returns the bytes that it needs, the NUL included.
type LogArgs struct {
	_   structs.HostLayout
	Len uint32
	Buf *byte
}

// FwdArgs is struct cr_fwd_args, the argument of OpChkptFwd.
type FwdArgs struct {
	_      structs.HostLayout
	Target int32
	Scope  int32
}

// ChkptInfo is struct cr_chkpt_info, filled by OpHandChkptInfo.
type ChkptInfo struct {
	_         structs.HostLayout
	Requester int32
	Target    int32
	Scope     int32
	Signal    int32
	Dest      *byte // to a buffer of PATH_MAX bytes of the caller's
}

// Sizes of the structures in memory, for copying them out of another
// process.
const (
	SizeofChkptArgs     = unsafe.Sizeof(ChkptArgs{})
	SizeofRstrtArgs     = unsafe.Sizeof(RstrtArgs{})
	SizeofRstrtRelocate = unsafe.Sizeof(RstrtRelocate{})
	SizeofRelocatePair  = unsafe.Sizeof(RelocatePair{})
	SizeofProcsTbl      = unsafe.Sizeof(ProcsTbl{})
	SizeofLogArgs       = unsafe.Sizeof(LogArgs{})
	SizeofFwdArgs       = unsafe.Sizeof(FwdArgs{})
	SizeofChkptInfo     = unsafe.Sizeof(ChkptInfo{})
)
