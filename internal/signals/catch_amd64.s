#include "textflag.h"

#define SYS_rt_sigreturn 15
#define SYS_futex 202
#define FUTEX_WAKE_PRIVATE 129

#define SI_PID 16               // offsets in siginfo_t
#define SI_CODE 8

// handler(signal DI, siginfo SI, ucontext DX)
//
// It runs on the signal stack, with every signal blocked, in any thread and at
// any instruction of the Go runtime, so it accesses no Go state but the counters
// of caught.go. rt_sigreturn restores all registers, so it saves none. For a
// counted signal it does what add does.
TEXT ·handler(SB),NOSPLIT|NOFRAME,$0
	MOVL	SI_CODE(SI), AX
	CMPL	AX, $0
	JGT	fromkernel
	JEQ	fromprocess             // SI_USER: kill
	CMPL	AX, $-6                 // SI_TKILL: tgkill; other codes have no si_pid
	JNE	count
fromprocess:
	MOVL	SI_PID(SI), CX
	CMPL	CX, ·self(SB)
	JNE	count
	CMPL	DI, $23                 // SIGURG: a preemption request of the runtime
	JEQ	runtime
	JMP	done
fromkernel:
	CMPL	DI, $4                  // SIGILL
	JEQ	fault
	CMPL	DI, $5                  // SIGTRAP
	JEQ	fault
	CMPL	DI, $7                  // SIGBUS
	JEQ	fault
	CMPL	DI, $8                  // SIGFPE
	JEQ	fault
	CMPL	DI, $11                 // SIGSEGV
	JEQ	fault
count:
	LEAQ	·counts(SB), AX
	MOVL	DI, CX
	LOCK
	INCL	(AX)(CX*4)
	LEAQ	·arrivals(SB), DI
	MOVL	$1, R8
	LOCK
	XADDL	R8, (DI)
	LEAQ	·latest(SB), AX
	MOVL	R8, (AX)(CX*4)
	MOVL	$FUTEX_WAKE_PRIVATE, SI
	MOVL	$0x7fffffff, DX
	MOVL	$SYS_futex, AX
	SYSCALL
done:
	RET                             // to the restorer

fault:
runtime:
	LEAQ	·previous(SB), AX
	MOVL	DI, CX
	MOVQ	(AX)(CX*8), AX
	CMPQ	AX, $1                  // SIG_DFL, SIG_IGN: no previous handler
	JLS	die
	JMP	AX
die:
	HLT                             // a fault with every signal blocked kills

TEXT ·restorer(SB),NOSPLIT|NOFRAME,$0
	MOVL	$SYS_rt_sigreturn, AX
	SYSCALL
	HLT

// func handlerAddr() uintptr
TEXT ·handlerAddr(SB),NOSPLIT,$0-8
	LEAQ	·handler(SB), AX
	MOVQ	AX, ret+0(FP)
	RET

// func restorerAddr() uintptr
TEXT ·restorerAddr(SB),NOSPLIT,$0-8
	LEAQ	·restorer(SB), AX
	MOVQ	AX, ret+0(FP)
	RET
