// Processes that are asked to be saved, for the tests, each with a handler for
// signal 64 of its own kind. The numbers are written out, so that it does not
// depend on package abi.
//
//	asked HOW CONTEXT SIGNAL ROLE...
//
// The first role is the program's own, the others are children's. Then it makes a
// request for itself and all below it (HOW is "once" or "restarted"), for itself
// alone ("process"), or two at the same time ("twice").

#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	HAND_CHKPT = 0x4008a101, HAND_ABORT = 0x4008a102, HAND_PHASE1 = 0x4008a105, HAND_INFO = 0x8008a10a,
	CHKPT_REQ = 0x4008a110, CHKPT_REAP = 0xa112, CHKPT_FWD = 0x4008a113, VERSION = 0x4008a130,
	STUB = 0x4000, OMIT = 4,
};
static const unsigned HAND_SUSP = 0xc008a106;

struct chkpt { int target, scope, fd; unsigned secs; int format, signal; unsigned flags; };
struct info { int requester, target, scope, signal; char *dest; };
struct fwd { int target, scope; };

static const char *role = "none";
static int guard; // the tid of the guard thread
static int kids[16], nkids;
static int registered = -1;
static int go[2]; // a pipe; "slow" answers when nobody can write to it any more

static int is(const char *r) { return !strcmp(role, r); }

static void say(const char *format, ...)
{
	char b[512];
	va_list l;
	va_start(l, format);
	int n = snprintf(b, sizeof b, "%s: ", role);
	n += vsnprintf(b + n, sizeof b - n - 1, format, l);
	b[n++] = '\n';
	if (write(1, b, n) != n)
		_exit(99);
}

static long op(int fd, unsigned cmd, long arg)
{
	long r = ioctl(fd, (unsigned long)cmd, arg);
	return r < 0 ? -errno : r;
}

static void wait_closed(int fd)
{
	char c;
	while (read(fd, &c, 1) < 0)
		;
}

static void handler(int sig, siginfo_t *i, void *unused)
{
	(void)unused;
	int saved = errno, fd = i->si_pid, tid = syscall(SYS_gettid);
	if (i->si_code != SI_KERNEL || sig != 64) {
		say("code %d", i->si_code);
		return;
	}
	if (registered >= 0 && fd != registered)
		say("asked on %d", fd);
	if (guard) { // phase 1 is over before phase 2 begins
		if (tid == guard)
			poll(NULL, 0, 100);
		say(tid == guard ? "guard" : "main");
	}
	if (is("save") || is("blocked") || is("threads") || is("parent") || is("guard-save")) {
		say("saved %ld", op(fd, HAND_CHKPT, STUB));
	} else if (is("omit") || is("guard-omit")) {
		say("omitted %ld", op(fd, HAND_ABORT, OMIT));
	} else if (is("quiet-omit")) {
		op(fd, HAND_ABORT, OMIT);
	} else if (is("half")) { // one thread saves, the other one does not
		long r = tid == getpid() ? op(fd, HAND_CHKPT, STUB) : op(fd, HAND_ABORT, OMIT);
		say("%ld", r);
	} else if (is("slow")) {
		wait_closed(go[0]);
		say("saved %ld", op(fd, HAND_CHKPT, STUB));
	} else if (is("fwd")) {
		struct fwd f = { kids[0], 3 }, gone = { 1 << 22, 0 };
		say("to nobody %ld", op(fd, CHKPT_FWD, (long)&gone));
		say("forwarded %ld", op(fd, CHKPT_FWD, (long)&f));
		say("again %ld", op(fd, CHKPT_FWD, (long)&f));
		say("omitted %ld", op(fd, HAND_ABORT, OMIT));
	} else if (is("info")) {
		char dest[4096];
		struct info n = { 0, 0, 0, 0, dest };
		say("info %ld", op(fd, HAND_INFO, (long)&n));
		say("requester %s target %s scope %d signal %d %s", n.requester == getppid() ? "ours" : "?",
		    n.target == getppid() ? "ours" : "?", n.scope, n.signal, strrchr(dest, '/'));
		say("phase 1 %ld", op(fd, HAND_PHASE1, fd));
		say("saved %ld", op(fd, HAND_CHKPT, STUB));
		say("outside %ld %ld", op(fd, HAND_CHKPT, STUB), op(fd, HAND_ABORT, OMIT));
	}
	errno = saved;
}

static int ctrl(void)
{
	int fd = open("/proc/checkpoint/ctrl", O_WRONLY | O_CLOEXEC);
	if (fd < 0 || op(fd, VERSION, 10) < 0)
		exit(98);
	return fd;
}

static void *idle(void *unused)
{
	for (;;)
		pause();
	return unused;
}

static void *wait_asked(void *started)
{
	sigset_t all;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, NULL);
	guard = syscall(SYS_gettid);
	registered = ctrl();
	say("suspended %ld", op(registered, HAND_SUSP, 0));
	say("registered %ld", op(registered, HAND_PHASE1, registered));
	say("again %ld", op(registered, HAND_PHASE1, registered));
	pthread_barrier_wait(started);
	for (;;) // it is handled before this returns
		say("woken %ld", op(registered, HAND_SUSP, 0));
	return NULL;
}

static void become(const char *r)
{
	role = r;
	if (is("none"))
		return;
	struct sigaction a = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_RESTART };
	sigfillset(&a.sa_mask);
	sigaction(64, &a, NULL);
	pthread_t t;
	if (is("threads") || is("half"))
		for (int i = 0; i < (is("half") ? 1 : 3); i++)
			pthread_create(&t, NULL, idle, NULL);
	if (is("blocked")) {
		sigset_t all;
		sigfillset(&all);
		sigprocmask(SIG_SETMASK, &all, NULL);
	}
	if (!strncmp(role, "guard", 5)) {
		pthread_barrier_t started;
		pthread_barrier_init(&started, NULL, 2);
		pthread_create(&t, NULL, wait_asked, &started);
		pthread_barrier_wait(&started);
	}
}

// child starts a child in a role, and returns when it is ready.
static void child(const char *r)
{
	int p[2];
	if (pipe2(p, O_CLOEXEC) < 0)
		exit(97);
	int pid = fork();
	if (pid == 0) {
		close(go[1]);
		if (!strcmp(r, "parent") && fork() == 0) { // that is not saved with it
			become("quiet-omit");
			close(p[1]);
			poll(NULL, 0, 3000); // longer than until the request, on a busy machine
			_exit(0);
		}
		become(r);
		close(p[1]);
		if (is("parent")) {
			int status, k, e;
			do
				k = wait4(-1, &status, __WALL, NULL), e = errno;
			while (k < 0 && e == EINTR);
			say(k > 0 ? "its child has ended" : "no child, %s", strerrorname_np(e));
			_exit(0);
		}
		idle(NULL);
	}
	close(p[1]);
	wait_closed(p[0]);
	close(p[0]);
	kids[nkids++] = pid;
}

static void request(int c, const char *file, int target, int scope, int signal)
{
	int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	struct chkpt a = { target, scope, fd, 0, 0, signal, 0x10 };
	op(c, CHKPT_REQ, (long)&a);
}

static long reap(int c)
{
	struct pollfd p = { c, POLLIN, 0 };
	while (poll(&p, 1, -1) != 1)
		;
	return op(c, CHKPT_REAP, -1);
}

// settle waits until all threads of a process sleep. One that has its answer, and has
// not said so yet, does not.
static void settle(int pid)
{
	for (int busy = 1; busy; poll(NULL, 0, 1)) {
		char name[64];
		struct dirent *e;
		snprintf(name, sizeof name, "/proc/%d/task", pid);
		DIR *d = opendir(name);
		busy = 0;
		while (d && (e = readdir(d))) {
			char stat[400], state = 'S';
			snprintf(stat, sizeof stat, "%s/%s/stat", name, e->d_name);
			FILE *f = fopen(stat, "r");
			if (f && *e->d_name != '.' && fscanf(f, "%*d (asked) %c", &state) == 1)
				busy |= state == 'R' || state == 't';
			if (f)
				fclose(f);
		}
		closedir(d);
	}
}

static int descriptors(void)
{
	int n = 0;
	for (int i = 0; i < 100; i++)
		n += fcntl(i, F_GETFD) >= 0;
	return n;
}

int main(int argc, char **argv)
{
	if (argc < 5 || pipe2(go, O_CLOEXEC) < 0)
		return 2;
	const char *how = argv[1], *file = argv[2];
	int signal = atoi(argv[3]), twice = !strcmp(how, "twice");
	for (int i = 5; i < argc; i++)
		child(argv[i]);
	become(argv[4]);
	int c = ctrl();
	if (twice) {
		int d = ctrl();
		say("outside %ld %ld", op(c, HAND_CHKPT, STUB), op(c, HAND_ABORT, OMIT));
		request(c, file, getpid(), 3, signal);
		request(d, file, kids[0], 0, signal);
		say("second %ld", reap(d));
		close(go[1]);
		say("first %ld", reap(c));
	} else {
		request(c, file, getpid(), !strcmp(how, "process") ? 0 : 3, signal);
		say("reap %ld, %d descriptors", reap(c), descriptors());
	}
	for (int i = 0; i < nkids; i++) {
		// Those that are saved, with a signal, and "parent" end by themselves.
		int ends = !strcmp(how, "restarted") || (signal && strcmp(argv[5 + i], "omit")), status;
		if (!ends) {
			settle(kids[i]);
			kill(kids[i], SIGKILL);
		}
		while (waitpid(kids[i], &status, 0) < 0)
			;
		if (ends)
			say("child %d: %s %d", i + 1, WIFSIGNALED(status) ? "signal" : "exit",
			    WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
	}
	return 0;
}
