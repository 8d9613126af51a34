#include "textflag.h"

#define SYS_ioctl 16
#define SYS_clone 56
#define SYS_arch_prctl 158
#define SYS_exit_group 231
#define SIGCHLD 17
#define ARCH_SET_FS 0x1002
#define FS_BASE 0x100000000

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

	// %fs must have the selector 0. The module sets its base while the thread is in
	// CR_OP_RSTRT_CHILD and reads on; if there is a selector, the next context
	// switch reloads it and loses that base, and the restored process dies of
	// SIGSEGV. The thread-local storage of a static Go program lies below 4 GiB;
	// for such a base Linux before 4.7 sets a selector, for any higher one 0.
	// Nothing reads %fs here. The threads inherit it.
	MOVL	$ARCH_SET_FS, DI
	MOVQ	$FS_BASE, SI
	MOVL	$SYS_arch_prctl, AX
	SYSCALL
	TESTQ	AX, AX
	JNE	fail
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
