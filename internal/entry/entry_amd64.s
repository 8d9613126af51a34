#include "textflag.h"

#define SYS_rt_sigaction 13
#define SYS_rt_sigprocmask 14
#define SYS_madvise 28
#define SYS_fcntl 72
#define SYS_rt_sigpending 127
#define SYS_prlimit64 302
#define RLIMIT_AS 9
#define NARROW_FROM 1120000000
#define NARROW_TO 1400000000
#define F_GETFD 1
#define MADV_POPULATE_READ 22
#define PAGE 4096
#define RLIMIT_NOFILE 7
#define EBADF 9
#define SIG_IGN 1
#define SIGCHLD 17

// QUIT, TRAP, ABRT, STKFLT and SYS, bit N-1 for signal N.
#define TRACED 0x40008034

// entry is the program's entry point, if the linker was told so. It runs on the
// stack that the kernel made, with the arguments on it, before the Go runtime, and
// leaves that stack as it was for delegate and the runtime's own entry point.
TEXT ·entry(SB),NOSPLIT|NOFRAME,$0
	SUBQ	$64, SP

	// Before anything else, package selfckpt's handler of signal 64.
	MOVQ	$0, 0(SP)
	MOVQ	SP, DX                  // struct sigaction: the handler comes first
	CALL	selfckpt_install(SB)
	LEAQ	64(SP), R8              // argc, argv, environment
	CALL	·hook(SB)

	// The code and the constants are mapped at once, as far as they are in the page
	// cache, not by a hundred page faults. Linux before 5.14 cannot (EINVAL). The action
	// script above does not need them.
	LEAQ	runtime·text(SB), DI
	ANDQ	$~(PAGE-1), DI
	LEAQ	runtime·epclntab(SB), SI
	SUBQ	DI, SI
	MOVL	$MADV_POPULATE_READ, DX
	MOVL	$SYS_madvise, AX
	SYSCALL

	XORL	R12, R12                // signals ignored, a bit each
	CMPQ	0(SP), $SIG_IGN
	JNE	first
	BTSQ	$63, R12
first:
	MOVL	$1, R13
signal:
	MOVL	R13, DI
	XORL	SI, SI
	MOVQ	SP, DX
	MOVL	$8, R10
	MOVL	$SYS_rt_sigaction, AX
	SYSCALL
	TESTQ	AX, AX
	JNE	nextsignal
	CMPQ	0(SP), $SIG_IGN
	JNE	nextsignal
	LEAQ	-1(R13), AX
	BTSQ	AX, R12
nextsignal:
	INCL	R13
	CMPL	R13, $64
	JNE	signal
	MOVQ	R12, ·ignored(SB)
	// They stay ignored, but for SIGCHLD: with that one ignored the kernel would discard
	// the exit status of children.
	BTRQ	$(SIGCHLD-1), R12
	// Those that the runtime would answer with a trace have their default action from the
	// first moment on; see entry_amd64.go.
	ORQ	$TRACED, R12
	ORQ	R12, selfckpt_kept(SB)

	XORL	DI, DI                  // no change, only the present mask
	XORL	SI, SI
	MOVQ	SP, DX
	MOVL	$8, R10
	MOVL	$SYS_rt_sigprocmask, AX
	SYSCALL
	TESTQ	AX, AX
	JNE	descriptors
	MOVQ	0(SP), AX
	NOTQ	AX
	MOVQ	AX, ·unblocked(SB)
	MOVQ	SP, DI
	MOVL	$8, SI
	MOVL	$SYS_rt_sigpending, AX
	SYSCALL
	TESTQ	AX, AX
	JNE	descriptors
	MOVQ	0(SP), AX
	MOVQ	AX, ·pending(SB)

descriptors:
	XORL	R12, R12                // standard descriptors closed, a bit each
	XORL	R13, R13
descriptor:
	MOVL	R13, DI
	MOVL	$F_GETFD, SI
	XORL	DX, DX
	MOVL	$SYS_fcntl, AX
	SYSCALL
	CMPQ	AX, $-EBADF
	JNE	nextdescriptor
	BTSQ	R13, R12
nextdescriptor:
	INCL	R13
	CMPL	R13, $2
	JLE	descriptor
	MOVQ	R12, ·closed(SB)

	XORL	DI, DI                  // this process
	MOVL	$RLIMIT_NOFILE, SI
	XORL	DX, DX
	MOVQ	SP, R10                 // struct rlimit64
	MOVL	$SYS_prlimit64, AX
	SYSCALL
	TESTQ	AX, AX
	JNE	addresses
	MOVQ	0(SP), AX
	MOVQ	AX, ·nofile(SB)

addresses:
	// See narrowed in entry.go.
	XORL	DI, DI
	MOVL	$RLIMIT_AS, SI
	XORL	DX, DX
	MOVQ	SP, R10
	MOVL	$SYS_prlimit64, AX
	SYSCALL
	TESTQ	AX, AX
	JNE	start
	MOVQ	0(SP), AX
	CMPQ	AX, $NARROW_FROM
	JCS	start
	CMPQ	AX, $NARROW_TO
	JHI	start
	MOVQ	AX, ·narrowed(SB)
	MOVQ	$NARROW_FROM, AX
	MOVQ	AX, 0(SP)
	XORL	DI, DI
	MOVL	$RLIMIT_AS, SI
	MOVQ	SP, DX
	XORL	R10, R10
	MOVL	$SYS_prlimit64, AX
	SYSCALL
start:
	MOVQ	$1, ·recorded(SB)
	ADDQ	$64, SP
	JMP	·delegate(SB)
