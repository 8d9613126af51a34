// Processes that are asked to be saved, for the tests, each with a handler for
// signal 64 of its own kind. The numbers are written out, so that it does not
// depend on package abi.
//
//	asked HOW CONTEXT SIGNAL ROLE...
//
// The first role is the program's own, the others are children's. Then it makes
// a request for itself and all below it, HOW ("once" as a rule, see main).

#define _GNU_SOURCE
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
#include <time.h>
#include <unistd.h>

enum {
	HAND_CHKPT = 0x4008a101, HAND_ABORT = 0x4008a102, HAND_PHASE1 = 0x4008a105,
	HAND_PHASE2 = 0x4008a107, HAND_DONE = 0x4008a108, HAND_INFO = 0x8008a10a,
	CHKPT_REQ = 0x4008a110, CHKPT_REAP = 0xa112, CHKPT_FWD = 0x4008a113, VERSION = 0x4008a130,
	STUB = 0x4000, TEMP = 1, PERM = 2, OMIT = 4,
};
static const unsigned HAND_SUSP = 0xc008a106;

struct chkpt { int target, scope, fd; unsigned secs; int format, signal; unsigned flags; };
struct info { int requester, target, scope, signal; char *dest; };
struct fwd { int target, scope; };

static const char *role = "none";
static int guard; // the tid of the guard thread
static int kids[16], nkids;
static int registered = -1;

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

// ms sleeps, whatever is handled meanwhile.
static void ms(int n)
{
	struct timespec t = { n / 1000, n % 1000 * 1000000L };
	while (nanosleep(&t, &t) < 0)
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
			ms(100);
		say(tid == guard ? "guard" : "main");
	}
	if (is("save") || is("blocked") || is("threads") || is("parent") || is("guard-save"))
		say("saved %ld", op(fd, HAND_CHKPT, STUB));
	else if (is("omit") || is("guard-omit"))
		say("omitted %ld", op(fd, HAND_ABORT, OMIT));
	else if (is("callbacks")) {
		say("saved %ld", op(fd, HAND_CHKPT, 0));
		say("done %ld", op(fd, HAND_DONE, 0));
	} else if (is("quiet-omit"))
		op(fd, HAND_ABORT, OMIT);
	else if (is("half")) { // one thread saves, the other one does not
		long r = tid == getpid() ? op(fd, HAND_CHKPT, STUB) : op(fd, HAND_ABORT, OMIT);
		say("%ld", r);
	} else if (is("temp"))
		say("aborted %ld", op(fd, HAND_ABORT, TEMP));
	else if (is("temp-busy"))
		say("aborted %ld", op(fd, HAND_ABORT, TEMP | EBUSY << 16));
	else if (is("perm")) {
		ms(200);
		say("aborted %ld", op(fd, HAND_ABORT, PERM));
	}
	else if (is("exit"))
		_exit(3);
	else if (is("exec"))
		execl("/bin/sleep", "sleep", "100", NULL);
	else if (is("slow")) {
		ms(400);
		say("saved %ld", op(fd, HAND_CHKPT, STUB));
	} else if (is("never"))
		for (;;)
			pause();
	else if (is("fwd")) {
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
	say("again %ld, for the other %ld", op(registered, HAND_PHASE1, registered), op(registered, HAND_PHASE2, registered));
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
	char c;
	if (pipe2(p, O_CLOEXEC) < 0)
		exit(97);
	int pid = fork();
	if (pid == 0) {
		if (!strcmp(r, "parent") && fork() == 0) { // that is not saved with it
			become("quiet-omit");
			close(p[1]);
			poll(NULL, 0, 300);
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
		}
		idle(NULL);
	}
	close(p[1]);
	while (read(p[0], &c, 1) < 0)
		;
	close(p[0]);
	ms(20); // a child of "parent"
	kids[nkids++] = pid;
}

static int request(int c, const char *file, int target, int scope, int signal)
{
	int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	struct chkpt a = { target, scope, fd, 0, 0, signal, 0x10 };
	return op(c, CHKPT_REQ, (long)&a);
}

static long reap(int c)
{
	struct pollfd p = { c, POLLIN, 0 };
	while (poll(&p, 1, -1) != 1)
		;
	return op(c, CHKPT_REAP, -1);
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
	if (argc < 5)
		return 2;
	const char *how = argv[1], *file = argv[2];
	int signal = atoi(argv[3]);
	for (int i = 5; i < argc; i++)
		child(argv[i]);
	become(argv[4]);
	int c = ctrl();
	if (!strcmp(how, "wait")) { // the request is another one's
		ms(500);
	} else if (!strcmp(how, "kill")) { // of a requester that is killed
		close(c);
		int pid = fork();
		if (pid == 0) {
			role = "quiet-omit";
			int c = ctrl();
			request(c, file, getppid(), 3, signal);
			reap(c);
			_exit(96);
		}
		ms(200);
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		ms(100);
		say("killed");
	} else if (!strcmp(how, "twice")) { // two at the same time
		int d = ctrl();
		say("outside %ld %ld", op(c, HAND_CHKPT, STUB), op(c, HAND_ABORT, OMIT));
		request(c, file, getpid(), 3, signal);
		request(d, file, kids[0], 0, signal);
		say("second %ld", reap(d));
		say("first %ld", reap(c));
	} else {
		if (!strcmp(how, "stopped")) {
			kill(kids[0], SIGSTOP);
			waitpid(kids[0], NULL, WUNTRACED);
		}
		request(c, file, getpid(), !strcmp(how, "process") ? 0 : 3, signal);
		say("reap %ld, %d descriptors", reap(c), descriptors());
	}
	if (!strcmp(how, "stopped")) {
		char name[64], state = '?';
		ms(50);
		snprintf(name, sizeof name, "/proc/%d/stat", kids[0]);
		FILE *f = fopen(name, "r");
		if (fscanf(f, "%*d (asked) %c", &state) == 1)
			say("child 1 is %c", state);
		kill(kids[0], SIGCONT);
	}
	for (int i = 0; i < nkids; i++) {
		int status;
		ms(!strcmp(how, "restarted") ? 500 : 20);
		kill(kids[i], SIGKILL);
		while (waitpid(kids[i], &status, 0) < 0)
			;
		if (WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL)
			say("child %d: signal %d", i + 1, WTERMSIG(status));
		else if (WIFEXITED(status))
			say("child %d: exit %d", i + 1, WEXITSTATUS(status));
	}
	return 0;
}
