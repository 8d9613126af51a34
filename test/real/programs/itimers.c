/* The interval timers: real, virtual, profiling; and a real one that is long. */
#include "selfcheck.h"
#include <sys/time.h>

static volatile unsigned long ticks[3];
static const int which[3] = { ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF };
static const int sigs[3] = { SIGALRM, SIGVTALRM, SIGPROF };
static pid_t child;

static void tick(int sig)
{
	for (int i = 0; i < 3; i++)
		if (sigs[i] == sig)
			ticks[i]++;
}

static void damage(int kind)
{
	struct itimerval off = { { 0, 0 }, { 0, 0 } };

	if (kind <= 3)
		setitimer(which[kind - 1], &off, NULL);
	else
		kill(child, SIGALRM);
}

int main(int argc, char **argv)
{
	struct itimerval t = { { 0, 7000 }, { 0, 7000 } }, now;

	start(argc, argv, 4);
	if ((child = fork()) == 0) {
		/* Dies of the timer if it comes too early. */
		struct itimerval far = { { 500, 0 }, { 900, 0 } };
		setitimer(ITIMER_REAL, &far, NULL);
		while (!child_ends()) {
			getitimer(ITIMER_REAL, &now);
			CHECK(now.it_value.tv_sec > 500 && now.it_value.tv_sec <= 900);
			EQUAL(now.it_interval.tv_sec, 500);
		}
		_exit(4);
	}
	for (int i = 0; i < 3; i++) {
		signal(sigs[i], tick);
		CHECK(setitimer(which[i], &t, NULL) == 0);
	}
	ready();
	while (running()) {
		unsigned long before[3] = { ticks[0], ticks[1], ticks[2] };
		double cpu = seconds(CLOCK_PROCESS_CPUTIME_ID), real = seconds(CLOCK_MONOTONIC);

		while (ticks[0] == before[0] || ticks[1] == before[1] || ticks[2] == before[2])
			if (seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu > 1 && seconds(CLOCK_MONOTONIC) - real > 2)
				wrong("ticks are %lu %lu %lu", ticks[0] - before[0], ticks[1] - before[1], ticks[2] - before[2]);
		for (int i = 0; i < 3; i++) {
			getitimer(which[i], &now);
			EQUAL(now.it_interval.tv_sec, 0);
			/* The kernel may round these up to its own ticks. */
			CHECK(now.it_interval.tv_usec >= 7000 && now.it_interval.tv_usec <= 12000);
		}
		CHECK(state(child) != 'Z');
	}
	reap_child(child, 4);
	done();
}
