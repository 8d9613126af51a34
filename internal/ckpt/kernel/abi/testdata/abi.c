/*
 * The control file's interface, declared once more from its description and
 * laid out by a C compiler. Prints "name value" for every ioctl number and
 * "struct size" with "field kind offset size" after it, as abi_test.go does
 * from the Go side.
 *
 * It needs no C library, so that cc -m32 works without a 32-bit one.
 */
#include <stddef.h>

/* <asm-generic/ioctl.h>, by its description. */
#define IOC(dir, type, nr, size) \
	(((dir) << 30) | ((size) << 16) | ((type) << 8) | (nr))
#define IO(type, nr) IOC(0UL, type, nr, 0UL)
#define IOW(type, nr, t) IOC(1UL, type, nr, sizeof(t))
#define IOR(type, nr, t) IOC(2UL, type, nr, sizeof(t))
#define IOWR(type, nr, t) IOC(3UL, type, nr, sizeof(t))

enum scope { SCOPE_PROC, SCOPE_PGRP, SCOPE_SESS, SCOPE_TREE };

struct cr_chkpt_args {
	int target;
	enum scope scope;
	int fd;
	unsigned int secs;
	int format;
	int signal;
	unsigned int flags;
};

struct cr_relocate_pair {
	char *oldpath;
	char *newpath;
};

struct cr_rstrt_relocate {
	unsigned int count;
	struct cr_relocate_pair path[16];
};

struct cr_rstrt_args {
	int fd;
	int signal;
	struct cr_rstrt_relocate *relocate;
	unsigned int flags;
};

struct cr_procs_tbl {
	int threads;
	int clone_flags;
};

struct cr_log_args {
	unsigned int len;
	char *buf;
};

struct cr_fwd_args {
	int target;
	enum scope scope;
};

struct cr_chkpt_info {
	int requester;
	int target;
	enum scope scope;
	int signal;
	char *dest;
};

struct timeval;

static char out[8192];
static unsigned int len;

static void text(const char *s)
{
	while (*s)
		out[len++] = *s++;
}

static void number(unsigned long n, unsigned int base)
{
	char digits[24];
	int i = 0;

	do {
		digits[i++] = "0123456789abcdef"[n % base];
		n /= base;
	} while (n);
	while (i)
		out[len++] = digits[--i];
}

static void op(const char *name, unsigned long nr)
{
	text(name);
	text(" 0x");
	number(nr, 16);
	text("\n");
}

static void type(const char *name, unsigned long size)
{
	text(name);
	text(" ");
	number(size, 10);
	text("\n");
}

static void field(const char *name, const char *kind, unsigned long offset, unsigned long size)
{
	text("\t");
	text(name);
	text(" ");
	text(kind);
	text(" ");
	number(offset, 10);
	text(" ");
	number(size, 10);
	text("\n");
}

#define TYPE(name, t) type(#name, sizeof(struct t))
#define KIND(m) _Generic((m), \
	int: "int", \
	unsigned int: "uint", \
	char *: "ptr", \
	struct cr_rstrt_relocate *: "ptr", \
	default: "other")
#define FIELD(name, t, m) \
	field(#name, KIND(((struct t *)0)->m), offsetof(struct t, m), sizeof(((struct t *)0)->m))
/* An enum has 4 bytes, which is all that counts; the Go side has int32. */
#define ENUM(name, t, m) \
	field(#name, "int", offsetof(struct t, m), sizeof(((struct t *)0)->m))
#define ARRAY(name, t, m) \
	field(#name, "array", offsetof(struct t, m), sizeof(((struct t *)0)->m))

static void all(void)
{
	op("OpHandChkpt", IOW(0xA1, 0x01, unsigned long));
	op("OpHandAbort", IOW(0xA1, 0x02, unsigned long));
	op("OpHandPhase1", IOW(0xA1, 0x05, long));
	op("OpHandSusp", IOWR(0xA1, 0x06, struct timeval *));
	op("OpHandPhase2", IOW(0xA1, 0x07, long));
	op("OpHandDone", IOW(0xA1, 0x08, unsigned long));
	op("OpHandSrc", IOR(0xA1, 0x09, char *));
	op("OpHandChkptInfo", IOR(0xA1, 0x0a, struct cr_chkpt_info *));
	op("OpChkptReq", IOW(0xA1, 0x10, struct cr_chkpt_args *));
	op("OpChkptReap", IO(0xA1, 0x12));
	op("OpChkptFwd", IOW(0xA1, 0x13, struct cr_fwd_args *));
	op("OpChkptLog", IOR(0xA1, 0x14, struct cr_log_args *));
	op("OpRstrtReq", IOW(0xA1, 0x20, struct cr_rstrt_args *));
	op("OpRstrtReap", IO(0xA1, 0x22));
	op("OpRstrtChild", IO(0xA1, 0x23));
	op("OpRstrtProcs", IOR(0xA1, 0x26, struct cr_procs_tbl *));
	op("OpRstrtLog", IOR(0xA1, 0x27, struct cr_log_args *));
	op("OpVersion", IOW(0xA1, 0x30, unsigned long));

	TYPE(ChkptArgs, cr_chkpt_args);
	FIELD(Target, cr_chkpt_args, target);
	ENUM(Scope, cr_chkpt_args, scope);
	FIELD(Fd, cr_chkpt_args, fd);
	FIELD(Secs, cr_chkpt_args, secs);
	FIELD(DumpFormat, cr_chkpt_args, format);
	FIELD(Signal, cr_chkpt_args, signal);
	FIELD(Flags, cr_chkpt_args, flags);

	TYPE(RstrtArgs, cr_rstrt_args);
	FIELD(Fd, cr_rstrt_args, fd);
	FIELD(Signal, cr_rstrt_args, signal);
	FIELD(Relocate, cr_rstrt_args, relocate);
	FIELD(Flags, cr_rstrt_args, flags);

	TYPE(RstrtRelocate, cr_rstrt_relocate);
	FIELD(Count, cr_rstrt_relocate, count);
	ARRAY(Path, cr_rstrt_relocate, path);

	TYPE(RelocatePair, cr_relocate_pair);
	FIELD(OldPath, cr_relocate_pair, oldpath);
	FIELD(NewPath, cr_relocate_pair, newpath);

	TYPE(ProcsTbl, cr_procs_tbl);
	FIELD(Threads, cr_procs_tbl, threads);
	FIELD(CloneFlags, cr_procs_tbl, clone_flags);

	TYPE(LogArgs, cr_log_args);
	FIELD(Len, cr_log_args, len);
	FIELD(Buf, cr_log_args, buf);

	TYPE(FwdArgs, cr_fwd_args);
	FIELD(Target, cr_fwd_args, target);
	ENUM(Scope, cr_fwd_args, scope);

	TYPE(ChkptInfo, cr_chkpt_info);
	FIELD(Requester, cr_chkpt_info, requester);
	FIELD(Target, cr_chkpt_info, target);
	ENUM(Scope, cr_chkpt_info, scope);
	FIELD(Signal, cr_chkpt_info, signal);
	FIELD(Dest, cr_chkpt_info, dest);
}

/* write and exit_group. */
static long call(long nr, long a, long b, long c)
{
	long ret;
#ifdef __x86_64__
	__asm__ volatile("syscall" : "=a"(ret) : "0"(nr), "D"(a), "S"(b), "d"(c)
			 : "rcx", "r11", "memory");
#else
	__asm__ volatile("int $0x80" : "=a"(ret) : "0"(nr), "b"(a), "c"(b), "d"(c)
			 : "memory");
#endif
	return ret;
}

#ifdef __x86_64__
enum { SYS_write = 1, SYS_exit_group = 231 };
#else
enum { SYS_write = 4, SYS_exit_group = 252 };
#endif

void _start(void)
{
	all();
	call(SYS_write, 1, (long)out, len);
	call(SYS_exit_group, 0, 0, 0);
	for (;;)
		;
}
