#include "textflag.h"

// The numbers of package abi, once more: this package imports nothing, so that
// it is initialised before every other. A test compares them.
#define CR_OP_HAND_CHKPT  0x4008a101
#define CR_OP_HAND_ABORT  0x4008a102
#define CR_CHECKPOINT_OMIT 4
#define CR_CHECKPOINT_STUB 0x4000
#define CR_SIGNUM 64
#define SI_KERNEL 0x80

#define SYS_rt_sigaction 13
#define SYS_rt_sigreturn 15
#define SYS_ioctl 16

// SA_SIGINFO|SA_RESTORER|SA_ONSTACK|SA_RESTART. On the signal stack, because a
// goroutine's stack is too small for the frame.
#define SA_FLAGS 0x1c000004

// func install() uintptr
TEXT ·install(SB),NOSPLIT,$32-8
	LEAQ	·handler(SB), AX
	MOVQ	AX, act-32(SP)
	MOVQ	$SA_FLAGS, act-24(SP)
	LEAQ	·restorer(SB), AX
	MOVQ	AX, act-16(SP)
	MOVQ	$-1, act-8(SP)          // every signal masked
	MOVL	$CR_SIGNUM, DI
	LEAQ	act-32(SP), SI
	XORL	DX, DX
	MOVL	$8, R10                 // sizeof(sigset_t) in the kernel
	MOVL	$SYS_rt_sigaction, AX
	SYSCALL
	NEGQ	AX
	MOVQ	AX, ret+0(FP)
	RET

// handler(signal DI, siginfo SI, ucontext DX)
//
// Answers a genuine request with "omit", or after Save with "save me", which
// returns when the process goes on, in the original or in a restored copy. The
// descriptor stands where other signals have the sender's pid. It returns by
// rt_sigreturn itself, as libcr does: the module may have restored a frame whose
// restorer is not ours.
TEXT ·handler(SB),NOSPLIT|NOFRAME,$0
	CMPL	8(SI), $SI_KERNEL       // si_code
	JNE	done
	MOVL	16(SI), R12             // si_pid
	CMPL	·save(SB), $0
	JNE	saved
	MOVL	$CR_OP_HAND_ABORT, SI
	MOVL	$CR_CHECKPOINT_OMIT, DX
	JMP	answer

	// What is saved has the dispositions of a plain program: the signal that is
	// sent to all that were saved does to us what it does to them, now and after
	// a restart. What is ignored stays so.
saved:
	SUBQ	$64, SP                 // two struct sigaction, asked and given
	MOVQ	$0, 32(SP)              // SIG_DFL
	MOVQ	$0, 40(SP)
	MOVQ	$0, 48(SP)
	MOVQ	$0, 56(SP)
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
	LEAQ	32(SP), SI
	XORL	DX, DX
	MOVL	$8, R10
	MOVL	$SYS_rt_sigaction, AX
	SYSCALL
next:
	INCL	R13
	CMPL	R13, $CR_SIGNUM
	JNE	disposition
	ADDQ	$64, SP
	MOVL	$CR_OP_HAND_CHKPT, SI
	MOVL	$CR_CHECKPOINT_STUB, DX
answer:
	MOVL	R12, DI
	MOVL	$SYS_ioctl, AX
	SYSCALL
done:
	ADDQ	$8, SP                  // the return address; sigreturn wants it gone
	MOVL	$SYS_rt_sigreturn, AX
	SYSCALL
	HLT

TEXT ·restorer(SB),NOSPLIT|NOFRAME,$0
	MOVL	$SYS_rt_sigreturn, AX
	SYSCALL
	HLT
