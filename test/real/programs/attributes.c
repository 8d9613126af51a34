/* What CRIU leaves to cr_restart: processors, I/O priority, timer slack, core filter, oom_score_adj, personality. */
#include "selfcheck.h"
#include <pthread.h>
#include <sched.h>
#include <sys/personality.h>
#include <sys/syscall.h>

struct own {
	int cpu;	/* the only one, or -1 for any */
	int ioprio;	/* 0 where it was not set */
	int slack;
	const char *filter;
};

static struct own of_main = { -1, 2 << 13 | 7, 1234567, "00000007" };
static struct own of_thread = { -1, 3 << 13, 50000, "00000007" };
static struct own of_child = { -1, 0, 1, "0000007f" };
static int *broken;
static int persona = ADDR_NO_RANDOMIZE;

static void damage(int kind)
{
	*broken = kind;
}

static void put(const char *name, const char *text)
{
	int fd = open(name, O_WRONLY);

	CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text) && close(fd) == 0);
}

static void same(const char *name, const char *want)
{
	char text[64];
	int fd = open(name, O_RDONLY), n;

	CHECK(fd >= 0 && (n = read(fd, text, sizeof text - 1)) > 0 && close(fd) == 0);
	text[n - 1] = 0;
	if (strcmp(text, want))
		wrong("%s is %s, want %s", name, text, want);
}

static void set(const struct own *o)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	if (o->cpu >= 0) {
		CPU_SET(o->cpu, &cpus);
		CHECK(sched_setaffinity(0, sizeof cpus, &cpus) == 0);
	}
	if (o->ioprio)
		CHECK(syscall(SYS_ioprio_set, 1, 0, o->ioprio) == 0);
	CHECK(prctl(PR_SET_TIMERSLACK, o->slack, 0, 0, 0) == 0);
}

static void check(const struct own *o)
{
	cpu_set_t cpus;

	CHECK(sched_getaffinity(0, sizeof cpus, &cpus) == 0);
	if (o->cpu >= 0) {
		EQUAL(CPU_COUNT(&cpus), 1);
		CHECK(CPU_ISSET(o->cpu, &cpus));
	}
	if (o->ioprio)
		EQUAL(syscall(SYS_ioprio_get, 1, 0), o->ioprio);
	if (getuid() == 0)	/* others may not set that of another process */
		EQUAL(prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0), o->slack);
	same("/proc/self/coredump_filter", o->filter);
	EQUAL(personality(0xffffffff), persona);
}

static void *body(void *arg)
{
	set(&of_thread);
	do {
		if (*broken == 1)
			CHECK(prctl(PR_SET_TIMERSLACK, 2, 0, 0, 0) == 0);
		check(&of_thread);
		msleep(5);
	} while (!exists("end"));
	return arg;
}

int main(int argc, char **argv)
{
	cpu_set_t cpus;
	pthread_t thread;
	pid_t child;
	int status;

	start(argc, argv, 3);
	broken = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(broken != MAP_FAILED);
	CHECK(sched_getaffinity(0, sizeof cpus, &cpus) == 0);
	if (CPU_COUNT(&cpus) > 1)
		for (int i = 0; i < CPU_SETSIZE; i++)
			if (CPU_ISSET(i, &cpus)) {
				if (of_thread.cpu < 0)
					of_thread.cpu = i;
				of_main.cpu = i;
			}
	if (getuid() != 0)	/* a program with capabilities, as criu then is, loses the other */
		persona = WHOLE_SECONDS;
	CHECK(personality(persona) >= 0);
	put("/proc/self/oom_score_adj", "100");
	CHECK((child = fork()) >= 0);
	if (child == 0) {
		put("/proc/self/coredump_filter", "0x7f");
		put("/proc/self/oom_score_adj", "200");
		set(&of_child);
		do {
			if (*broken == 2)
				put("/proc/self/coredump_filter", "0x1");
			check(&of_child);
			same("/proc/self/oom_score_adj", "200");
		} while (!child_ends());
		_exit(7);
	}
	put("/proc/self/coredump_filter", "0x7");
	CHECK(pthread_create(&thread, NULL, body, NULL) == 0);
	set(&of_main);
	ready();
	while (running()) {
		if (*broken == 3)
			CHECK(syscall(SYS_ioprio_set, 1, 0, 2 << 13 | 6) == 0);
		check(&of_main);
		same("/proc/self/oom_score_adj", "100");
		EQUAL(waitpid(child, &status, WNOHANG), 0);
	}
	CHECK(pthread_join(thread, NULL) == 0);
	CHECK(waitpid(child, &status, 0) == child);
	EQUAL(status, 7 << 8);
	done();
}
