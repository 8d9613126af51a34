#include "textflag.h"

#define SYS_ioctl 16
#define SYS_clone 56
#define SYS_exit_group 231
#define SIGCHLD 17

// func rawFork(args *forkArgs) int
TEXT ·rawFork(SB),NOSPLIT,$0-16
	MOVQ	args+0(FP), R12
	MOVL	$SIGCHLD, DI
	XORL	SI, SI                  // on a copy of the caller's stack
	XORL	DX, DX
	XORL	R10, R10
	XORL	R8, R8
	MOVL	$SYS_clone, AX
	SYSCALL
	TESTQ	AX, AX
	JEQ	child
	MOVQ	AX, ret+8(FP)
	RET

	// The child. All that it needs is in registers that system calls preserve. The
	// threads get copies of them from clone, so none reads memory.
child:
	MOVQ	16(R12), R13            // threads to create
	MOVQ	24(R12), R14            // their flags
	MOVQ	32(R12), R15            // the next one's stack
	MOVQ	40(R12), BX             // size of a stack
	MOVQ	8(R12), BP              // CR_OP_RSTRT_CHILD
	MOVQ	0(R12), R12             // control descriptor
next:
	TESTQ	R13, R13
	JEQ	restore
	MOVQ	R14, DI
	MOVQ	R15, SI
	XORL	DX, DX
	XORL	R10, R10
	XORL	R8, R8
	MOVL	$SYS_clone, AX
	SYSCALL
	TESTQ	AX, AX
	JEQ	restore                 // the new thread
	JLT	fail
	ADDQ	BX, R15
	DECQ	R13
	JMP	next

restore:
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
