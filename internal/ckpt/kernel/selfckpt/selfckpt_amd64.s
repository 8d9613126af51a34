#include "textflag.h"

// The numbers of package abi are repeated here: this package imports nothing, so
// that it is initialised before every other. A test compares them.
#define CR_OP_HAND_CHKPT  0x4008a101
#define CR_OP_HAND_ABORT  0x4008a102
#define CR_OP_HAND_PHASE1 0x4008a105
#define CR_OP_HAND_SUSP   0xc008a106
#define CR_OP_HAND_CHKPT_INFO 0x8008a10a
#define CR_OP_CHKPT_FWD   0x4008a113
#define CR_CHECKPOINT_OMIT 4
#define CR_CHECKPOINT_STUB 0x4000
#define CR_SCOPE_TREE 3
#define CR_SIGNUM 64
#define SI_KERNEL 0x80

// struct cr_chkpt_info and struct cr_fwd_args
#define INFO_REQUESTER 0
#define INFO_TARGET 4
#define INFO_SIGNAL 12
#define INFO_DEST 16
#define INFO_SIZE 24
#define FWD_TARGET 0
#define FWD_SCOPE 4
#define FWD_SIZE 8
#define PATH_MAX 4096

#define SYS_rt_sigaction 13
#define SYS_rt_sigprocmask 14
#define SYS_rt_sigreturn 15
#define SYS_rt_sigpending 127
#define SYS_ioctl 16
#define SYS_getpid 39
#define SYS_clone 56
#define SYS_exit 60
#define SYS_getppid 110
#define SYS_futex 202

#define EINTR 4
#define EAGAIN 11
#define EINVAL 22
#define ETIMEDOUT 110
#define SIG_SETMASK 2
#define FUTEX_WAIT_PRIVATE 128
#define FUTEX_WAKE_PRIVATE 129

// SA_SIGINFO|SA_RESTORER|SA_ONSTACK|SA_RESTART. On the signal stack, because a
// goroutine's stack is too small for the frame.
#define SA_FLAGS 0x1c000004

// CLONE_VM|CLONE_FS|CLONE_FILES|CLONE_SIGHAND|CLONE_THREAD|CLONE_SYSVSEM, as of
// every other thread.
#define CLONE_FLAGS 0x50f00

// The package's Go constants.
#define SAVE_DEFAULTS 1
#define SAVE_AS_IS 2
#define POLICY_CHECKPOINT 0
#define POLICY_OMIT_ALWAYS 2
#define POLICY_OMIT_NEVER 3
#define STATE_REGISTERED 2
#define STATE_ENDED 3

// The size of the variable stack. The handler runs in the callback thread if it
// runs on that stack: after a restart the thread may have another id, but it has
// the same stack.
#define STACK_SIZE 32768
#define CHILD_STACK_SIZE 32768

// Of struct ucontext: the stack pointer of what was interrupted.
#define UCONTEXT_RSP 160

// Arguments of the callback thread's ioctls.
GLOBL info<>(SB), NOPTR, $INFO_SIZE
GLOBL dest<>(SB), NOPTR, $PATH_MAX
GLOBL fwd<>(SB), NOPTR, $FWD_SIZE

// A struct sigaction for SIG_DFL, and those of the signals with a handler, by
// number.
GLOBL default<>(SB), NOPTR, $32
GLOBL saved<>(SB), NOPTR, $2048

// The signals whose dispositions the Go runtime cannot change, bit N-1 for signal N.
// Package entry adds to them.
GLOBL selfckpt_kept(SB), NOPTR, $8
DATA selfckpt_kept+0(SB)/8, $(1<<(CR_SIGNUM-1))

// The child that this process, before its Go runtime is started, does nothing but wait
// for; 0 for none. Package entry sets it. The answer then is that of Save.
GLOBL selfckpt_waits(SB), NOPTR, $4

// selfckpt_install sets the disposition of signal 64 and keeps the Go runtime from
// changing it. DX, if not 0, points to a struct sigaction for the one before. It
// returns a negative errno in AX, 0 for none. Package entry calls it at the program's
// entry point, where there is no Go runtime yet; it changes no register but AX, CX,
// SI, DI, R10 and R11.
//
// The runtime installs handlers of its own, 64 included, early in its start, from
// when on a request would be lost, or kill the process: the module unblocks 64 also
// in a thread that the runtime has only begun to make ("bad g in signal handler").
// All its changes of a disposition go through its function sigaction, which calls
// _cgo_sigaction if that is set, as runtime/cgo does for the sanitizers of C. So
// this sets it, unless it is set, which in a program without cgo it is not. The
// linker allows the reference since runtime/cgo makes it, too.
//
// That is a detail of the runtime, the same from Go 1.8 to 1.26. If it changes,
// TestKept fails, and so do TestEntry and TestIgnoredAtCall in test/script.
TEXT selfckpt_install(SB),NOSPLIT|NOFRAME,$0
	SUBQ	$32, SP                 // struct sigaction
	LEAQ	·handler(SB), AX
	MOVQ	AX, 0(SP)
	MOVQ	$SA_FLAGS, 8(SP)
	LEAQ	·restorer(SB), AX
	MOVQ	AX, 16(SP)
	MOVQ	$-1, 24(SP)             // every signal masked
	MOVL	$CR_SIGNUM, DI
	MOVQ	SP, SI
	MOVL	$8, R10                 // sizeof(sigset_t) in the kernel
	MOVL	$SYS_rt_sigaction, AX
	SYSCALL
	ADDQ	$32, SP
	TESTQ	AX, AX
	JNE	installed
	CMPQ	_cgo_sigaction(SB), $0
	JNE	installed
	LEAQ	·sigaction(SB), CX
	MOVQ	CX, _cgo_sigaction(SB)
installed:
	RET

// sigaction is what the Go runtime calls, with the arguments of sigaction(2) and in
// the ABI of C. It does nothing for the signals in selfckpt_kept. EINVAL says that the
// runtime is to make the system call.
TEXT ·sigaction(SB),NOSPLIT|NOFRAME,$0
	MOVL	$EINVAL, AX
	TESTQ	SI, SI                  // no new one: a query
	JEQ	changed
	LEAQ	-1(DI), CX
	MOVQ	selfckpt_kept(SB), DX
	BTQ	CX, DX
	JCC	changed
	XORL	AX, AX
changed:
	RET

// func install() uintptr
TEXT ·install(SB),NOSPLIT,$0-8
	XORL	DX, DX
	CALL	selfckpt_install(SB)
	NEGQ	AX
	MOVQ	AX, ret+0(FP)
	RET

// handler(signal DI, siginfo SI, ucontext DX)
//
// Answers a request of the module; other signals 64 are dropped. si_pid is the
// control descriptor to answer on. HAND_CHKPT returns when the process runs on, in
// the original (0) or in a restored copy (> 0). The handler calls rt_sigreturn
// itself, as libcr's does: the module may have restored a frame with another
// restorer than this package's.
TEXT ·handler(SB),NOSPLIT|NOFRAME,$0
	CMPL	8(SI), $SI_KERNEL       // si_code
	JNE	done
	MOVL	16(SI), R12             // si_pid
	LEAQ	·stack(SB), AX
	MOVQ	SP, CX
	SUBQ	AX, CX
	CMPQ	CX, $STACK_SIZE
	JCS	callback
	LEAQ	·childStack(SB), AX
	MOVQ	UCONTEXT_RSP(DX), CX
	SUBQ	AX, CX
	CMPQ	CX, $CHILD_STACK_SIZE
	JLS	omit                    // its end included
	CMPL	selfckpt_waits(SB), $0
	JNE	defaults
	CMPL	·answer(SB), $SAVE_DEFAULTS
	JEQ	defaults
	CMPL	·answer(SB), $SAVE_AS_IS
	JEQ	save
omit:
	MOVL	$CR_OP_HAND_ABORT, SI
	MOVL	$CR_CHECKPOINT_OMIT, DX
	JMP	reply

	// Save me, with the default dispositions: the signal that is sent to all saved
	// processes then does the same to this one, now and after a restart. Ignored
	// signals stay ignored. Several threads may run this at the same time; each
	// disposition is kept by one of them. R14 is the request's signal, as a bit.
defaults:
	XORL	R14, R14
	LEAQ	info<>(SB), BX
	LEAQ	dest<>(SB), AX
	MOVQ	AX, INFO_DEST(BX)
	MOVL	R12, DI
	MOVL	$CR_OP_HAND_CHKPT_INFO, SI
	MOVQ	BX, DX
	MOVL	$SYS_ioctl, AX
	SYSCALL
	TESTQ	AX, AX
	JNE	nosignal
	MOVL	INFO_SIGNAL(BX), CX
	TESTL	CX, CX
	JEQ	nosignal
	JGT	late
	NEGL	CX                      // an early one
late:
	DECL	CX
	MOVL	$1, R14
	SHLQ	CX, R14
nosignal:
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
	MOVL	R13, CX
	SHLQ	$5, CX
	LEAQ	saved<>(SB), BX
	ADDQ	CX, BX
	MOVQ	8(SP), AX
	MOVQ	AX, 8(BX)
	MOVQ	16(SP), AX
	MOVQ	AX, 16(BX)
	MOVQ	24(SP), AX
	MOVQ	AX, 24(BX)
	MOVQ	0(SP), AX
	MOVQ	AX, 0(BX)
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
	MOVL	R12, DI
	MOVL	$CR_OP_HAND_CHKPT, SI
	MOVL	$CR_CHECKPOINT_STUB, DX
	MOVL	$SYS_ioctl, AX
	SYSCALL

	// The original gets its handlers back, unless it has been sent the signal,
	// which is pending until this handler returns.
	TESTQ	AX, AX
	JNE	kept
	MOVQ	SP, DI
	MOVL	$8, SI
	MOVL	$SYS_rt_sigpending, AX
	SYSCALL
	TESTQ	R14, 0(SP)
	JNE	kept
	MOVL	$1, R13
restore:
	MOVL	R13, CX
	SHLQ	$5, CX
	LEAQ	saved<>(SB), SI
	ADDQ	CX, SI
	CMPQ	0(SI), $0
	JEQ	skip
	MOVL	R13, DI
	XORL	DX, DX
	MOVL	$8, R10
	MOVL	$SYS_rt_sigaction, AX
	SYSCALL
skip:
	INCL	R13
	CMPL	R13, $CR_SIGNUM
	JNE	restore
kept:
	ADDQ	$32, SP
	JMP	done

save:
	MOVL	$CR_OP_HAND_CHKPT, SI
	MOVL	$CR_CHECKPOINT_STUB, DX
reply:
	MOVL	R12, DI
	MOVL	$SYS_ioctl, AX
	SYSCALL
done:
	ADDQ	$8, SP                  // the return address; sigreturn wants it gone
	MOVL	$SYS_rt_sigreturn, AX
	SYSCALL
	HLT

	// The callback thread. CR_OP_HAND_CHKPT_INFO tells the requester and the
	// target. R13 is its result, 0 where they are known. R14 is this process's
	// pid, which a restart may have changed.
callback:
	LEAQ	info<>(SB), BX
	LEAQ	dest<>(SB), AX
	MOVQ	AX, INFO_DEST(BX)
	MOVL	R12, DI
	MOVL	$CR_OP_HAND_CHKPT_INFO, SI
	MOVQ	BX, DX
	MOVL	$SYS_ioctl, AX
	SYSCALL
	MOVQ	AX, R13
	MOVL	$SYS_getpid, AX
	SYSCALL
	MOVL	AX, R14
	MOVL	·policy(SB), R15
	XORL	BP, BP                  // no limit
	CMPL	R15, $POLICY_CHECKPOINT
	JNE	wait
	TESTQ	R13, R13
	JNE	omit                    // it may be this process's own request
	CMPL	INFO_REQUESTER(BX), R14
	JEQ	omit
	LEAQ	·limit(SB), BP
wait:
	CMPL	·held(SB), $0
	JEQ	released
	LEAQ	·held(SB), DI
	MOVL	$FUTEX_WAIT_PRIVATE, SI
	MOVL	$1, DX
	MOVQ	BP, R10
	MOVL	$SYS_futex, AX
	SYSCALL
	CMPQ	AX, $-ETIMEDOUT
	JEQ	omit
	JMP	wait
released:
	CMPL	R15, $POLICY_CHECKPOINT
	JEQ	save
	CMPL	·job(SB), $0
	JEQ	save                    // nothing has been restored that the copy would restore again
	LEAQ	fwd<>(SB), DX
	MOVL	R14, FWD_TARGET(DX)
	MOVL	$CR_SCOPE_TREE, FWD_SCOPE(DX)
	MOVL	R12, DI
	MOVL	$CR_OP_CHKPT_FWD, SI
	MOVL	$SYS_ioctl, AX
	SYSCALL                         // ESRCH: all of them take part already, or are omitted
	CMPL	R15, $POLICY_OMIT_ALWAYS
	JEQ	omit
	CMPL	R15, $POLICY_OMIT_NEVER
	JEQ	save
	TESTQ	R13, R13
	JNE	orphan
	CMPL	INFO_TARGET(BX), R14
	JEQ	omit
orphan:
	MOVL	$SYS_getppid, AX
	SYSCALL
	CMPL	AX, $1
	JEQ	omit
	JMP	save

TEXT ·restorer(SB),NOSPLIT|NOFRAME,$0
	MOVL	$SYS_rt_sigreturn, AX
	SYSCALL
	HLT

// func start() uintptr
//
// The thread has every signal blocked, so that no handler of the Go runtime ever
// runs in it. (The module unblocks 64.)
TEXT ·start(SB),NOSPLIT,$16-8
	MOVQ	$-1, all-8(SP)
	MOVL	$SIG_SETMASK, DI
	LEAQ	all-8(SP), SI
	LEAQ	before-16(SP), DX
	MOVL	$8, R10
	MOVL	$SYS_rt_sigprocmask, AX
	SYSCALL
	TESTQ	AX, AX
	JNE	failed
	MOVL	$CLONE_FLAGS, DI
	LEAQ	·stack+STACK_SIZE(SB), SI
	XORL	DX, DX
	XORL	R10, R10
	XORL	R8, R8
	MOVL	$SYS_clone, AX
	SYSCALL
	TESTQ	AX, AX
	JEQ	thread
	MOVQ	AX, R12
	MOVL	$SIG_SETMASK, DI
	LEAQ	before-16(SP), SI
	XORL	DX, DX
	MOVL	$8, R10
	MOVL	$SYS_rt_sigprocmask, AX
	SYSCALL
	MOVQ	R12, AX
	TESTQ	AX, AX
	JLT	failed
	MOVQ	$0, ret+0(FP)
	RET
failed:
	NEGQ	AX
	MOVQ	AX, ret+0(FP)
	RET

	// The callback thread. EAGAIN says that a request has reached it before it
	// has registered; the handler answers that.
thread:
	MOVL	·fd(SB), R12
register:
	MOVL	R12, DI
	MOVL	$CR_OP_HAND_PHASE1, SI
	MOVL	R12, DX
	MOVL	$SYS_ioctl, AX
	SYSCALL
	CMPQ	AX, $-EAGAIN
	JEQ	register
	TESTQ	AX, AX
	JNE	ended
	MOVL	$STATE_REGISTERED, ·state(SB)
	LEAQ	·state(SB), DI
	MOVL	$FUTEX_WAKE_PRIVATE, SI
	MOVL	$0x7fffffff, DX
	MOVL	$SYS_futex, AX
	SYSCALL
suspend:
	MOVL	R12, DI
	MOVL	$CR_OP_HAND_SUSP, SI
	XORL	DX, DX                  // no limit
	MOVL	$SYS_ioctl, AX
	SYSCALL
	TESTQ	AX, AX
	JEQ	suspend
	CMPQ	AX, $-EINTR
	JEQ	suspend

	// Without a callback thread the only safe answer is "omit me".
ended:
	MOVL	$STATE_ENDED, ·state(SB)
	MOVL	$0, ·answer(SB)
	LEAQ	·state(SB), DI
	MOVL	$FUTEX_WAKE_PRIVATE, SI
	MOVL	$0x7fffffff, DX
	MOVL	$SYS_futex, AX
	SYSCALL
	XORL	DI, DI
	MOVL	$SYS_exit, AX
	SYSCALL
	HLT

// func wake(futex *uint32)
TEXT ·wake(SB),NOSPLIT,$0-8
	MOVQ	futex+0(FP), DI
	MOVL	$FUTEX_WAKE_PRIVATE, SI
	MOVL	$0x7fffffff, DX
	MOVL	$SYS_futex, AX
	SYSCALL
	RET
