// A client of the control file for the tests, in C: a dynamic program, a real
// fork, and threads made by clone. The numbers are written out, so that it does
// not depend on package abi.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	CHKPT_REQ = 0x4008a110, CHKPT_REAP = 0xa112, CHKPT_LOG = 0x8008a114,
	RSTRT_REQ = 0x4008a120, RSTRT_REAP = 0xa122, RSTRT_CHILD = 0xa123,
	RSTRT_PROCS = 0x8008a126, RSTRT_LOG = 0x8008a127,
	VERSION = 0x4008a130,
};

struct chkpt { int target, scope, fd; unsigned secs; int format, signal; unsigned flags; };
struct rstrt { int fd, signal; void *relocate; unsigned flags; };
struct procs { int threads, clone_flags; };
struct log { unsigned len; char *buf; };

static int ctrl;

static void die(const char *what)
{
	printf("%s: %s\n", what, errno > 200 ? "BLCR" : strerrorname_np(errno));
	exit(1);
}

static long op(unsigned cmd, long arg) { return ioctl(ctrl, (unsigned long)cmd, arg); }

static void connect_(void)
{
	ctrl = open("/proc/checkpoint/ctrl", O_WRONLY | O_CLOEXEC);
	if (ctrl < 0)
		die("open");
	if (op(VERSION, 10) < 0)
		die("version");
}

static void finish(unsigned logop)
{
	struct pollfd p = { ctrl, POLLIN, 0 };
	if (poll(&p, 1, -1) != 1 || p.revents != POLLIN)
		die("poll");
	struct log l = { 0, NULL };
	int n = op(logop, (long)&l);
	if (n > 0) {
		l.len = n;
		l.buf = malloc(n);
		if (op(logop, (long)&l) != n)
			die("log");
		printf("%s", l.buf);
	}
}

static int chkpt(char **v)
{
	connect_();
	int fd = open(v[3], O_WRONLY | O_CREAT | O_TRUNC, 0600);
	struct chkpt a = { atoi(v[2]), 3, fd, 0, 0, atoi(v[4]), 0x10 };
	if (op(CHKPT_REQ, (long)&a) < 0)
		die("request");
	finish(CHKPT_LOG);
	if (op(CHKPT_REAP, -1) < 0)
		die("reap");
	return 0;
}

static int thread(void *unused)
{
	(void)unused;
	// Raw: errno is thread-local, and these threads have none of their own.
	long r;
	register long nr asm("rax") = SYS_ioctl;
	register long a1 asm("rdi") = ctrl, a2 asm("rsi") = RSTRT_CHILD, a3 asm("rdx") = -1;
	asm volatile("syscall" : "=a"(r) : "r"(nr), "r"(a1), "r"(a2), "r"(a3) : "rcx", "r11", "memory");
	asm volatile("syscall" : : "a"(SYS_exit_group), "D"(-r) : "rcx", "r11", "memory");
	return 0;
}

// restart CONTEXT SIGNAL [block] [handler] [early] [extra N] [vm] [nowait]
static int restart(char **v)
{
	int block = 0, handler = 0, early = 0, extra = 0, vm = 0, wait = 1;
	for (char **o = v + 4; *o; o++) {
		block |= !strcmp(*o, "block");
		handler |= !strcmp(*o, "handler");
		early |= !strcmp(*o, "early");
		vm |= !strcmp(*o, "vm");
		wait &= strcmp(*o, "nowait") != 0;
		if (!strcmp(*o, "extra"))
			extra = atoi(*++o);
	}
	connect_();
	int src = open(v[2], O_RDONLY);
	struct rstrt a = { src, atoi(v[3]), NULL, 3 };
	if (op(RSTRT_REQ, (long)&a) < 0)
		die("request");
	if (block) {
		sigset_t all;
		sigfillset(&all);
		sigdelset(&all, SIGCHLD);
		sigprocmask(SIG_SETMASK, &all, NULL);
	}
	if (handler)
		signal(SIGTERM, SIG_IGN);
	fflush(stdout);
	struct procs t;
	long r;
	while ((r = op(RSTRT_PROCS, (long)&t)) > 0) {
		char *stacks = mmap(NULL, (t.threads + extra + 1) << 14, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (vm) {
			clone(thread, stacks + (1 << 14), CLONE_VM | SIGCHLD, NULL);
			continue;
		}
		int pid = fork();
		if (pid < 0)
			die("fork");
		if (pid == 0) {
			for (int i = 1; i < t.threads + extra; i++)
				if (clone(thread, stacks + (i << 14), t.clone_flags, NULL) < 0)
					_exit(99);
			if (early)
				_exit(98);
			thread(NULL);
		}
	}
	if (r < 0)
		die("procs");
	finish(RSTRT_LOG);
	r = op(RSTRT_REAP, -1);
	if (r < 0)
		die("reap");
	printf("running %ld\n", r);
	fflush(stdout);
	int status;
	while (wait && r > 0) {
		if (waitpid(r, &status, WUNTRACED) != r)
			die("wait");
		if (WIFSTOPPED(status)) {
			printf("stopped %d\n", WSTOPSIG(status));
			kill(r, SIGCONT);
			continue;
		}
		printf("%s %d\n", WIFEXITED(status) ? "exit" : "signal",
		       WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
		break;
	}
	return 0;
}

// forked: a child's copy of the descriptor is as good, and keeps the request.
static int forked(char **v)
{
	connect_();
	int dup_ = dup(ctrl);
	close(ctrl);
	ctrl = dup_;
	struct chkpt a = { atoi(v[2]), 0, open(v[3], O_WRONLY | O_CREAT | O_TRUNC, 0600), 0, 0, 0, 0x10 };
	int pid = fork();
	if (pid == 0) {
		if (op(CHKPT_REQ, (long)&a) < 0)
			die("request");
		_exit(0);
	}
	waitpid(pid, NULL, 0);
	finish(CHKPT_LOG);
	if (op(CHKPT_REAP, -1) < 0)
		die("reap");
	return 0;
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc > 4 && !strcmp(argv[1], "chkpt"))
		return chkpt(argv);
	if (argc > 3 && !strcmp(argv[1], "restart"))
		return restart(argv);
	if (argc > 3 && !strcmp(argv[1], "forked"))
		return forked(argv);
	return 2;
}
