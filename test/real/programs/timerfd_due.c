/*
 * A periodic timer descriptor that has run out and not been read, as is nearly
 * always so when one is saved. It goes on ticking after that.
 */
#include "selfcheck.h"
#include <sys/timerfd.h>
#include <poll.h>

static int fast;

static void damage(int kind)
{
	struct itimerspec off = { { 0, 0 }, { 0, 0 } };

	(void)kind;
	timerfd_settime(fast, 0, &off, NULL);
}

int main(int argc, char **argv)
{
	struct itimerspec t = { { 0, 8000000 }, { 0, 8000000 } }, now;
	uint64_t n;

	start(argc, argv, 1);
	fast = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
	CHECK(fast >= 0);
	CHECK(timerfd_settime(fast, 0, &t, NULL) == 0);
	ready();
	while (running()) {
		struct pollfd p = { .fd = fast, .events = POLLIN };
		int r;

		do
			r = poll(&p, 1, 3000);
		while (r < 0 && errno == EINTR);
		EQUAL(r, 1);
		CHECK(read(fast, &n, sizeof n) == sizeof n && n >= 1);
		CHECK(timerfd_gettime(fast, &now) == 0);
		EQUAL(now.it_interval.tv_nsec, 8000000);
	}
	done();
}
