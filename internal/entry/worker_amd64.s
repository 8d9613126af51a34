#include "textflag.h"

#define SYS_rt_sigaction 13
#define SYS_rt_sigprocmask 14
#define SYS_rt_sigreturn 15
#define SYS_clone 56
#define SYS_wait4 61
#define SYS_kill 62
#define SYS_prctl 157
#define SYS_exit_group 231
#define PR_SET_TIMERSLACK 29
#define MONITOR_SLACK 1000000   // in nanoseconds
#define SIG_SETMASK 2
#define SIGCHLD 17
#define CR_SIGNUM 64
#define CLONE_PARENT_SETTID 0x100000
#define __WALL 0x40000000
#define EINTR 4
#define ECHILD 10

#define SI_CODE 8               // offset in siginfo_t

// SA_SIGINFO|SA_RESTORER|SA_RESTART
#define SA_FLAGS 0x14000004

// Signals that end a program by default, bit N-1 for signal N: those of the function
// fatal in package signals. The others are KILL, CHLD, CONT, STOP, TSTP, TTIN, TTOU,
// URG, WINCH, 33 and 64.
#define FATAL 0x7ffffffef780feff

// Signals of faults: ILL, TRAP, BUS, FPE, SEGV.
#define FAULTS 0x4d8

GLOBL name<>(SB), RODATA|NOPTR, $16
DATA name<>+0(SB)/8, $"cr_check"
DATA name<>+8(SB)/8, $"point\x00\x00\x00"

// delegate continues the start of the program, on the stack that the kernel made. In a
// cr_checkpoint it makes the worker, which continues with the Go runtime, and waits for
// it.
TEXT ·delegate(SB),NOSPLIT|NOFRAME,$0
	// Is the last part of argv[0] this command's name? In a role (package reexec) it
	// is not.
	MOVQ	0(SP), R12              // argc
	TESTQ	R12, R12
	JEQ	run
	MOVQ	8(SP), SI
	MOVQ	SI, DI
base:
	MOVBLZX	(SI), AX
	INCQ	SI
	CMPB	AX, $'/'
	JNE	notslash
	MOVQ	SI, DI
notslash:
	TESTB	AX, AX
	JNE	base
	LEAQ	name<>(SB), SI
	CALL	·prefix(SB)
	JNE	run
	CMPB	(DI), $0
	JNE	run

	// With every signal blocked until it is clear which process acts on it.
	SUBQ	$48, SP                 // the mask; a wait status or struct sigaction
	MOVQ	$-1, 8(SP)
	MOVL	$SIG_SETMASK, DI
	LEAQ	8(SP), SI
	LEAQ	0(SP), DX
	MOVL	$8, R10
	MOVL	$SYS_rt_sigprocmask, AX
	SYSCALL
	TESTQ	AX, AX
	JNE	alone
	// The kernel sets the pid in this process before the child can run, so none of the
	// child's requests finds this process with another answer than "save me".
	MOVL	$(CLONE_PARENT_SETTID|SIGCHLD), DI
	XORL	SI, SI
	LEAQ	selfckpt_waits(SB), DX
	XORL	R10, R10
	XORL	R8, R8
	MOVL	$SYS_clone, AX
	SYSCALL
	TESTQ	AX, AX
	JGT	wait
	JLT	unmask                  // delegate in package main tries again, and reports it
	MOVL	$1, ·worker(SB)
	// The runtime's monitor, a thread, sleeps for 20 µs at a time, and wakes a thousand
	// times in a request of 0.1 s. With this it wakes once in a millisecond. Only what
	// the main thread starts before init (worker.go) gets it.
	MOVL	$PR_SET_TIMERSLACK, DI
	MOVL	$MONITOR_SLACK, SI
	MOVL	$SYS_prctl, AX
	SYSCALL
unmask:
	CALL	setmask<>(SB)
alone:
	ADDQ	$48, SP
run:
	XORL	DX, DX                  // no function to call at exit, by the ABI
	JMP	_rt0_amd64_linux(SB)

	// The process that waits. Signals that would end it are sent to the worker; those
	// that are ignored stay ignored.
wait:
	MOVQ	$FATAL, R12
	MOVQ	·ignored(SB), AX
	NOTQ	AX
	ANDQ	AX, R12
	LEAQ	·forward(SB), R14
	CALL	dispositions<>(SB)
	// With SIGCHLD ignored the kernel would discard the worker's wait status.
	MOVQ	$(1<<(SIGCHLD-1)), R12
	XORL	R14, R14
	CALL	dispositions<>(SB)
	CALL	setmask<>(SB)
again:
	MOVL	selfckpt_waits(SB), DI
	LEAQ	8(SP), SI
	MOVL	$__WALL, DX
	XORL	R10, R10
	MOVL	$SYS_wait4, AX
	SYSCALL
	CMPQ	AX, $-EINTR
	JEQ	again
	XORL	DI, DI
	CMPQ	AX, $-ECHILD            // the restored copy: its caller continues as it did
	JEQ	exit                    // when the original ended
	TESTQ	AX, AX
	JLT	failed
	MOVL	8(SP), R13
	TESTL	$0x7f, R13
	JNE	killed
	MOVL	R13, DI
	SHRL	$8, DI
	ANDL	$0xff, DI
	CMPL	DI, $2                  // the Go runtime has ended it, or ENOENT
	JEQ	killed
exit:
	MOVL	$SYS_exit_group, AX
	SYSCALL
	HLT

	// A signal or the Go runtime has ended the worker, or waiting has failed. What to do about it needs
	// the Go runtime.
failed:
	NEGQ	AX
	MOVL	AX, ·errno(SB)
	JMP	resume
killed:
	MOVL	R13, ·ended(SB)
resume:
	MOVQ	$FATAL, R12
	MOVQ	·ignored(SB), AX
	NOTQ	AX
	ANDQ	AX, R12
	XORL	R14, R14
	CALL	dispositions<>(SB)
	MOVL	$0, selfckpt_waits(SB)
	JMP	alone

// prefix compares the string at DI with that at SI. If it begins with that one, the
// result is "equal" and DI points behind it. It changes AX and SI.
TEXT ·prefix(SB),NOSPLIT|NOFRAME,$0
next:
	MOVBLZX	(SI), AX
	TESTB	AX, AX
	JEQ	end
	CMPB	AX, (DI)
	JNE	end
	INCQ	SI
	INCQ	DI
	JMP	next
end:
	RET

// setmask sets the signal mask to that at SP of the caller.
TEXT setmask<>(SB),NOSPLIT|NOFRAME,$0
	MOVL	$SIG_SETMASK, DI
	LEAQ	8(SP), SI
	XORL	DX, DX
	MOVL	$8, R10
	MOVL	$SYS_rt_sigprocmask, AX
	SYSCALL
	RET

// dispositions sets the handler R14, 0 for the default action, for the signals whose
// bits are set in R12. It uses 32 bytes at 8(SP) of the caller.
TEXT dispositions<>(SB),NOSPLIT|NOFRAME,$0
	MOVQ	R14, 16(SP)             // struct sigaction
	MOVQ	$SA_FLAGS, 24(SP)
	LEAQ	·restorer(SB), AX
	MOVQ	AX, 32(SP)
	MOVQ	$-1, 40(SP)             // every signal masked
	MOVL	$1, R13
signal:
	LEAQ	-1(R13), AX
	BTQ	AX, R12
	JCC	other
	MOVL	R13, DI
	LEAQ	16(SP), SI
	XORL	DX, DX
	MOVL	$8, R10
	MOVL	$SYS_rt_sigaction, AX
	SYSCALL
other:
	INCL	R13
	CMPL	R13, $CR_SIGNUM
	JNE	signal
	RET

// forward(signal DI, siginfo SI, ucontext DX) sends a signal to the worker, and records
// it. It runs with every signal blocked.
TEXT ·forward(SB),NOSPLIT|NOFRAME,$0
	LEAQ	-1(DI), CX
	CMPL	SI_CODE(SI), $0
	JLE	send
	MOVL	$FAULTS, AX             // of this process
	BTQ	CX, AX
	JCC	send
	HLT                             // a fault with every signal blocked kills
send:
	MOVQ	·caught(SB), AX
	BTSQ	CX, AX
	MOVQ	AX, ·caught(SB)
	MOVL	DI, SI
	MOVL	selfckpt_waits(SB), DI
	MOVL	$SYS_kill, AX
	SYSCALL
	RET                             // to the restorer

TEXT ·restorer(SB),NOSPLIT|NOFRAME,$0
	MOVL	$SYS_rt_sigreturn, AX
	SYSCALL
	HLT
