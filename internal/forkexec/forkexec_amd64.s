#include "textflag.h"

#define SYS_write 1
#define SYS_rt_sigaction 13
#define SYS_clone 56
#define SYS_exit_group 231
#define SIGCHLD 17
#define CR_SIGNUM 64

// A struct sigaction for SIG_DFL.
GLOBL default<>(SB), NOPTR, $32

// func fork(c *child) int
TEXT ·fork(SB),NOSPLIT,$0-16
	MOVQ	c+0(FP), R12
	MOVQ	24(R12), DI
	ORQ	$SIGCHLD, DI
	MOVQ	16(R12), SI             // on its own stack from the first instruction on
	XORL	DX, DX
	XORL	R10, R10
	XORL	R8, R8
	MOVL	$SYS_clone, AX
	SYSCALL
	TESTQ	AX, AX
	JEQ	child
	MOVQ	AX, ret+8(FP)
	RET

	// The child. Handlers of the Go runtime cannot run in it, so before signals are
	// unblocked those that have one get the default action. Signal 64 keeps its own
	// until exec.
child:
	SUBQ	$32, SP                 // struct sigaction
	MOVL	$1, R13
disposition:
	MOVL	R13, DI
	XORL	SI, SI
	MOVQ	SP, DX
	MOVL	$8, R10
	MOVL	$SYS_rt_sigaction, AX
	SYSCALL
	TESTQ	AX, AX
	JNE	next
	CMPQ	0(SP), $1               // SIG_DFL, SIG_IGN
	JLS	next
	MOVL	R13, DI
	LEAQ	default<>(SB), SI
	XORL	DX, DX
	MOVL	$8, R10
	MOVL	$SYS_rt_sigaction, AX
	SYSCALL
next:
	INCL	R13
	CMPL	R13, $CR_SIGNUM
	JNE	disposition

	MOVQ	0(R12), BX              // calls
call:
	MOVQ	0(BX), AX
	MOVQ	8(BX), DI
	MOVQ	16(BX), SI
	MOVQ	24(BX), DX
	MOVQ	32(BX), R10
	SYSCALL
	MOVQ	40(BX), R13
	ADDQ	$48, BX
	CMPQ	R13, $1                 // mayFail
	JEQ	call
	JGT	equal
	CMPQ	AX, $-4095
	JCS	call

	NEGQ	AX                      // errno
	MOVQ	AX, 0(SP)
	MOVQ	8(R12), DI
	MOVQ	SP, SI
	MOVL	$8, DX
	MOVL	$SYS_write, AX
	SYSCALL
	JMP	exit
equal:
	CMPQ	AX, DI
	JEQ	call
exit:
	MOVL	$253, DI                // as package syscall has it
	MOVL	$SYS_exit_group, AX
	SYSCALL
	HLT
