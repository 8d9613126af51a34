// Package abi is the binary interface of BLCR's control file,
// /proc/checkpoint/ctrl: ioctl numbers, structures, flags. It is interface
// version 0.10, which every BLCR 0.8.x speaks.
//
// Only numbers and layouts belong here. Nothing in this package makes a
// system call, so the engine that asks and the simulator that answers (package
// ctrlsim) share it. A test holds every value against BLCR's headers as
// measured with a C compiler.
package abi

import "unsafe"

// ControlFile is the path of the module's control file. A client opens it
// O_WRONLY and close-on-exec; a descriptor carries one request at a time.
const ControlFile = "/proc/checkpoint/ctrl"

// Version is the argument of OpVersion: major 0, minor 10, as
// (major<<16)|minor.
const Version = 0<<16 | 10

// The fields of an ioctl number, <asm-generic/ioctl.h>.
const (
	iocTypeShift = 8
	iocSizeShift = 16
	iocDirShift  = 30

	iocNone  = 0
	iocWrite = 1
	iocRead  = 2
)

// IocType is the type byte of every BLCR ioctl, bits 8 to 15 of the number.
const IocType = 0xA1

// wordSize is the size that the numbers encode. BLCR declares each argument as
// a pointer or a long, and _IOW takes the size of that, never of the structure
// behind the pointer: 8 on 64-bit machines, 4 on 32-bit ones.
const wordSize = unsafe.Sizeof(uintptr(0))

// What the numbers are made of besides their nr, <asm-generic/ioctl.h>'s _IO,
// _IOR, _IOW and _IOWR.
const (
	io   uintptr = iocNone<<iocDirShift | IocType<<iocTypeShift
	ior          = iocRead<<iocDirShift | wordSize<<iocSizeShift | IocType<<iocTypeShift
	iow          = iocWrite<<iocDirShift | wordSize<<iocSizeShift | IocType<<iocTypeShift
	iowr         = (iocRead|iocWrite)<<iocDirShift | wordSize<<iocSizeShift | IocType<<iocTypeShift
)

// The operations, named as in BLCR's blcr_ioctl.h (CR_OP_HAND_CHKPT is
// OpHandChkpt). The comment gives the argument that the ioctl is passed.
const (
	OpHandChkpt     = iow | 0x01  // flags, by value
	OpHandAbort     = iow | 0x02  // flags and errno, by value
	OpHandPhase1    = iow | 0x05  // a control descriptor, by value
	OpHandSusp      = iowr | 0x06 // *timeval, or 0 for no limit
	OpHandPhase2    = iow | 0x07  // a control descriptor, by value
	OpHandDone      = iow | 0x08  // flags, by value
	OpHandSrc       = ior | 0x09  // char[PATH_MAX]
	OpHandChkptInfo = ior | 0x0a  // *ChkptInfo
	OpChkptReq      = iow | 0x10  // *ChkptArgs
	OpChkptReap     = io | 0x12   // none: NoArg
	OpChkptFwd      = iow | 0x13  // *FwdArgs
	OpChkptLog      = ior | 0x14  // *LogArgs
	OpRstrtReq      = iow | 0x20  // *RstrtArgs
	OpRstrtReap     = io | 0x22   // none: NoArg
	OpRstrtChild    = io | 0x23   // none: NoArg
	OpRstrtProcs    = ior | 0x26  // *ProcsTbl
	OpRstrtLog      = ior | 0x27  // *LogArgs
	OpVersion       = iow | 0x30  // Version, by value
)

// NoArg is what libcr passes to the operations without an argument.
const NoArg = ^uintptr(0)

// Sig is the signal by which the module asks a process to checkpoint itself
// (CR_SIGNUM, SIGRTMAX).
const Sig = 64

// SigCode is the si_code of a genuine request (SI_KERNEL). Its si_pid is not a
// pid but the number of a control descriptor in the receiving process.
const SigCode = 0x80

// Arguments of OpHandAbort and OpHandChkpt.
const (
	CheckpointTempFail = 1      // CR_CHECKPOINT_TEMP_FAILURE: everybody goes on
	CheckpointPermFail = 2      // CR_CHECKPOINT_PERM_FAILURE: everybody is killed
	CheckpointOmit     = 4      // CR_CHECKPOINT_OMIT: go on without this process
	CheckpointStub     = 0x4000 // _CR_CHECKPOINT_STUB: save me, I have no callbacks
)
