#include "textflag.h"

#define SYS_read 0
#define SYS_write 1
#define SYS_socket 41
#define SYS_connect 42
#define SYS_exit_group 231

#define AF_UNIX 1
#define SOCK_SEQPACKET 5
#define LONGEST_NAME 107        // of a socket, without its NUL
#define LONGEST_PID 20
#define EINTR 4

// The variables of package stream, and the stages that it reports, each with a NUL.
GLOBL socketVar<>(SB), RODATA|NOPTR, $16
DATA socketVar<>+0(SB)/8, $"_BLCR_CL"
DATA socketVar<>+8(SB)/8, $"I_HOOK=\x00"
GLOBL stageVar<>(SB), RODATA|NOPTR, $24
DATA stageVar<>+0(SB)/8, $"CRTOOLS_"
DATA stageVar<>+8(SB)/8, $"SCRIPT_A"
DATA stageVar<>+16(SB)/8, $"CTION=\x00\x00"
GLOBL rootVar<>(SB), RODATA|NOPTR, $24
DATA rootVar<>+0(SB)/8, $"CRTOOLS_"
DATA rootVar<>+8(SB)/8, $"INIT_PID"
DATA rootVar<>+16(SB)/8, $"=\x00\x00\x00\x00\x00\x00\x00"
GLOBL postDump<>(SB), RODATA|NOPTR, $16
DATA postDump<>+0(SB)/8, $"post-dum"
DATA postDump<>+8(SB)/8, $"p\x00\x00\x00\x00\x00\x00\x00"
GLOBL postRestore<>(SB), RODATA|NOPTR, $16
DATA postRestore<>+0(SB)/8, $"post-res"
DATA postRestore<>+8(SB)/8, $"tore\x00\x00\x00\x00"
GLOBL preResume<>(SB), RODATA|NOPTR, $16
DATA preResume<>+0(SB)/8, $"pre-resu"
DATA preResume<>+8(SB)/8, $"me\x00\x00\x00\x00\x00\x00"
GLOBL postResume<>(SB), RODATA|NOPTR, $16
DATA postResume<>+0(SB)/8, $"post-res"
DATA postResume<>+8(SB)/8, $"ume\x00\x00\x00\x00\x00"

// hook is the action script of package stream, which CRIU starts several times while
// processes are frozen: without the Go runtime it takes a fraction of the time. It does
// what the function script does there. It returns, having changed nothing but registers,
// in a process that is no action script. R8 points to argc on the stack that the kernel
// made.
TEXT ·hook(SB),NOSPLIT|NOFRAME,$0
	MOVQ	0(R8), AX
	LEAQ	16(R8)(AX*8), BX        // the environment
	XORL	R12, R12                // the name of the socket
	XORL	R13, R13                // the stage
	LEAQ	socketVar<>+15(SB), R14 // the root process: an empty string
variable:
	MOVQ	(BX), R9
	ADDQ	$8, BX
	TESTQ	R9, R9
	JEQ	found
	// Of a variable that is there twice the first one counts.
	TESTQ	R12, R12
	JNE	stage
	MOVQ	R9, DI
	LEAQ	socketVar<>(SB), SI
	CALL	·prefix(SB)
	JNE	stage
	MOVQ	DI, R12
	JMP	variable
stage:
	TESTQ	R13, R13
	JNE	root
	MOVQ	R9, DI
	LEAQ	stageVar<>(SB), SI
	CALL	·prefix(SB)
	JNE	root
	MOVQ	DI, R13
	JMP	variable
root:
	MOVQ	R9, DI
	LEAQ	rootVar<>(SB), SI
	CALL	·prefix(SB)
	JNE	variable
	MOVQ	DI, R14
	JMP	variable
found:
	TESTQ	R12, R12
	JEQ	none
	TESTQ	R13, R13
	JEQ	none
	CMPB	(R12), $0
	JEQ	none
	CMPB	(R13), $0
	JEQ	none

	LEAQ	postDump<>(SB), SI
	CALL	same<>(SB)
	JEQ	report
	LEAQ	postRestore<>(SB), SI
	CALL	same<>(SB)
	JEQ	report
	LEAQ	preResume<>(SB), SI
	CALL	same<>(SB)
	JEQ	report
	LEAQ	postResume<>(SB), SI
	CALL	same<>(SB)
	JEQ	report
	XORL	DI, DI                  // yes to every other stage
	JMP	exit

report:
	SUBQ	$128, SP                // struct sockaddr_un; the message; the answer
	MOVL	$AF_UNIX, DI
	MOVL	$SOCK_SEQPACKET, SI
	XORL	DX, DX
	MOVL	$SYS_socket, AX
	SYSCALL
	TESTQ	AX, AX
	JLT	no
	MOVQ	AX, BX
	MOVQ	$AF_UNIX, 0(SP)         // the family, and the NUL of an abstract name
	LEAQ	3(SP), DI
	MOVQ	R12, SI
	MOVL	$LONGEST_NAME, CX
	CALL	append<>(SB)
	MOVQ	DI, DX
	SUBQ	SP, DX
	MOVQ	BX, DI
	MOVQ	SP, SI
	MOVL	$SYS_connect, AX
	SYSCALL
	TESTQ	AX, AX
	JNE	no

	MOVQ	SP, DI
	MOVQ	R13, SI
	MOVL	$16, CX
	CALL	append<>(SB)
	MOVB	$' ', (DI)
	INCQ	DI
	MOVQ	R14, SI
	MOVL	$LONGEST_PID, CX
	CALL	append<>(SB)
	MOVQ	DI, DX
	SUBQ	SP, DX
	MOVQ	BX, DI
	MOVQ	SP, SI
	MOVL	$SYS_write, AX
	SYSCALL
	TESTQ	AX, AX
	JLT	no
again:
	MOVQ	BX, DI
	MOVQ	SP, SI
	MOVL	$1, DX
	MOVL	$SYS_read, AX
	SYSCALL
	CMPQ	AX, $-EINTR
	JEQ	again
	CMPQ	AX, $1
	JNE	no
	MOVBLZX	0(SP), DI
	JMP	exit
no:
	ADDQ	$128, SP
	LEAQ	preResume<>(SB), SI
	CALL	same<>(SB)
	JEQ	none
	LEAQ	postResume<>(SB), SI
	CALL	same<>(SB)
	JEQ	none
	MOVL	$1, DI
exit:
	MOVL	$SYS_exit_group, AX
	SYSCALL
	HLT
none:
	RET

// same compares the string at R13 with that at SI. It changes AX, DI and SI.
TEXT same<>(SB),NOSPLIT|NOFRAME,$0
	MOVQ	R13, DI
	CALL	·prefix(SB)
	JNE	different
	CMPB	(DI), $0
different:
	RET

// append copies the string at SI, up to CX bytes of it, to DI, which it moves on. It
// changes AX, CX and SI.
TEXT append<>(SB),NOSPLIT|NOFRAME,$0
byte:
	TESTL	CX, CX
	JEQ	end
	MOVBLZX	(SI), AX
	TESTB	AX, AX
	JEQ	end
	MOVB	AX, (DI)
	INCQ	SI
	INCQ	DI
	DECL	CX
	JMP	byte
end:
	RET
