/* POSIX timers: one that ticks with a value, one far off, one that tells nobody. */
#include "selfcheck.h"

static timer_t fast, far, quiet;
static volatile unsigned long ticks;

static void tick(int sig, siginfo_t *info, void *context)
{
	(void)sig, (void)context;
	if (info->si_code == SI_TIMER && info->si_value.sival_int == 4711)
		ticks++;
}

static void damage(int kind)
{
	struct itimerspec off = { { 0, 0 }, { 0, 0 } };

	switch (kind) {
	case 1: timer_settime(fast, 0, &off, NULL); break;
	case 2: timer_delete(far); break;
	case 3: timer_settime(quiet, 0, &off, NULL); break;
	}
}

int main(int argc, char **argv)
{
	struct sigaction sa = { .sa_sigaction = tick, .sa_flags = SA_SIGINFO | SA_RESTART };
	struct sigevent ev = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 2, .sigev_value.sival_int = 4711 };
	struct itimerspec t = { { 0, 6000000 }, { 0, 6000000 } }, now;
	double last = 800;

	start(argc, argv, 3);
	sigaction(SIGRTMIN + 2, &sa, NULL);
	/* So that the identifiers do not start at 0. */
	CHECK(timer_create(CLOCK_REALTIME, &ev, &far) == 0 && timer_delete(far) == 0);
	CHECK(timer_create(CLOCK_MONOTONIC, &ev, &fast) == 0);
	CHECK(timer_settime(fast, 0, &t, NULL) == 0);
	CHECK(timer_create(CLOCK_REALTIME, &ev, &far) == 0);
	t = (struct itimerspec){ { 0, 0 }, { 700, 0 } };
	CHECK(timer_settime(far, 0, &t, NULL) == 0);
	ev.sigev_notify = SIGEV_NONE;
	CHECK(timer_create(CLOCK_MONOTONIC, &ev, &quiet) == 0);
	t = (struct itimerspec){ { 800, 0 }, { 800, 0 } };
	CHECK(timer_settime(quiet, 0, &t, NULL) == 0);
	ready();
	while (running()) {
		unsigned long before = ticks;
		double left;

		for (int i = 0; ticks == before; i++) {
			if (i > 200)
				wrong("no ticks");
			msleep(10);
		}
		CHECK(timer_gettime(far, &now) == 0);
		CHECK(now.it_value.tv_sec > 500 && now.it_value.tv_sec <= 700);
		EQUAL(now.it_interval.tv_sec, 0);
		CHECK(timer_gettime(quiet, &now) == 0);
		left = now.it_value.tv_sec + now.it_value.tv_nsec / 1e9;
		CHECK(left > 600 && left <= last);
		EQUAL(now.it_interval.tv_sec, 800);
		last = left;
		CHECK(timer_getoverrun(fast) >= 0);
	}
	done();
}
