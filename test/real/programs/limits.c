/* Resource limits, niceness, scheduling, and other attributes of a process. */
#include "selfcheck.h"
#include <sched.h>
#include <sys/resource.h>

static const struct { int what; rlim_t soft, hard; } want[] = {
	{ RLIMIT_CORE, 0, 12345 },
	{ RLIMIT_NOFILE, 333, 1234 },
	{ RLIMIT_STACK, 4 << 20, 16 << 20 },
	{ RLIMIT_CPU, 3000, RLIM_INFINITY },
	{ RLIMIT_FSIZE, 1 << 28, 1 << 29 },
	{ RLIMIT_DATA, 1 << 30, RLIM_INFINITY },
	{ RLIMIT_MSGQUEUE, 4096, 8192 },
};
static pid_t batch;

static void damage(int kind)
{
	struct sched_param none = { 0 };
	struct rlimit r = { 334, 1234 };

	switch (kind) {
	case 1: setrlimit(RLIMIT_NOFILE, &r); break;
	case 2: setpriority(PRIO_PROCESS, 0, 6); break;
	case 3: sched_setscheduler(batch, SCHED_OTHER, &none); break;
	case 4: prctl(PR_SET_DUMPABLE, 0); break;
	}
}

int main(int argc, char **argv)
{
	struct sched_param none = { 0 };
	struct rlimit r;

	start(argc, argv, 4);
	if ((batch = fork()) == 0) {
		CHECK(sched_setscheduler(0, SCHED_BATCH, &none) == 0);
		write_file("batch", "1");
		while (!child_ends())
			;
		_exit(2);
	}
	while (!exists("batch"))
		msleep(1);
	for (unsigned i = 0; i < sizeof want / sizeof *want; i++) {
		r = (struct rlimit){ want[i].soft, want[i].hard };
		CHECK(setrlimit(want[i].what, &r) == 0);
	}
	CHECK(setpriority(PRIO_PROCESS, 0, 7) == 0);
	ready();
	while (running()) {
		for (unsigned i = 0; i < sizeof want / sizeof *want; i++) {
			CHECK(getrlimit(want[i].what, &r) == 0);
			if (r.rlim_cur != want[i].soft || r.rlim_max != want[i].hard)
				wrong("limit %d is %ld %ld", want[i].what, (long)r.rlim_cur, (long)r.rlim_max);
		}
		EQUAL(getpriority(PRIO_PROCESS, 0), 7);
		EQUAL(sched_getscheduler(batch), SCHED_BATCH);
		EQUAL(prctl(PR_GET_DUMPABLE), 1);
	}
	reap_child(batch, 2);
	done();
}
