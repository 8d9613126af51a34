#include "textflag.h"

#define SYS_ioctl 16
#define SYS_clone 56
#define SYS_exit_group 231
#define SIGCHLD 17

// func rawFork(args *spawnArgs) int
TEXT ·rawFork(SB),NOSPLIT,$0-16
	MOVQ	args+0(FP), R12
	MOVL	$SIGCHLD, DI
	XORL	SI, SI                  // on a copy of our stack
	XORL	DX, DX
	XORL	R10, R10
	XORL	R8, R8
	MOVL	$SYS_clone, AX
	SYSCALL
	TESTQ	AX, AX
	JEQ	child
	MOVQ	AX, ret+8(FP)
	RET

	// The child. All it needs goes into registers that system calls keep; the
	// threads get theirs from clone as copies, so none reads memory.
child:
	MOVQ	16(R12), R13            // threads to go
	MOVQ	24(R12), R14            // their flags
	MOVQ	32(R12), R15            // the next one's stack
	MOVQ	40(R12), BX             // size of a stack
	MOVQ	8(R12), BP              // CR_OP_RSTRT_CHILD
	MOVQ	0(R12), R12             // control descriptor
more:
	TESTQ	R13, R13
	JEQ	become
	MOVQ	R14, DI
	MOVQ	R15, SI
	XORL	DX, DX
	XORL	R10, R10
	XORL	R8, R8
	MOVL	$SYS_clone, AX
	SYSCALL
	TESTQ	AX, AX
	JEQ	become                  // the new thread
	JLT	fail
	ADDQ	BX, R15
	DECQ	R13
	JMP	more

become:
	MOVQ	R12, DI
	MOVQ	BP, SI
	MOVQ	$-1, DX                 // no argument
	MOVL	$SYS_ioctl, AX
	SYSCALL
fail:
	NEGQ	AX                      // errno
	MOVQ	AX, DI
	MOVL	$SYS_exit_group, AX
	SYSCALL
	HLT
