/* Timers that are descriptors: one that is set again each time, one far off. */
#include "selfcheck.h"
#include <sys/timerfd.h>
#include <poll.h>

static int fast, far;

static void damage(int kind)
{
	struct itimerspec off = { { 0, 0 }, { 0, 0 } };

	timerfd_settime(kind == 1 ? fast : far, 0, &off, NULL);
}

int main(int argc, char **argv)
{
	struct itimerspec t = { { 0, 0 }, { 0, 8000000 } }, again = t, now;
	uint64_t n;

	start(argc, argv, 2);
	fast = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
	far = timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC);
	CHECK(fast >= 0 && far >= 0);
	CHECK(timerfd_settime(fast, 0, &t, NULL) == 0);
	t = (struct itimerspec){ { 300, 0 }, { 900, 0 } };
	CHECK(timerfd_settime(far, 0, &t, NULL) == 0);
	ready();
	while (running()) {
		struct pollfd p = { .fd = fast, .events = POLLIN };
		int r;

		do
			r = poll(&p, 1, 3000);
		while (r < 0 && errno == EINTR);
		EQUAL(r, 1);
		CHECK(read(fast, &n, sizeof n) == sizeof n);
		EQUAL(n, 1);
		CHECK(timerfd_settime(fast, 0, &again, NULL) == 0);
		CHECK(timerfd_gettime(far, &now) == 0);
		CHECK(now.it_value.tv_sec > 700 && now.it_value.tv_sec <= 900);
		EQUAL(now.it_interval.tv_sec, 300);
	}
	done();
}
