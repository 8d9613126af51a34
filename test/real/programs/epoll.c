/* An epoll set over a pipe, an eventfd and a timerfd, with their flags and data. */
#include "selfcheck.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>

static int ep, count, value, p[2], timer;

static void damage(int kind)
{
	struct epoll_event e = { .events = EPOLLIN, .data.u64 = 5 };
	uint64_t n;

	switch (kind) {
	case 1: epoll_ctl(ep, EPOLL_CTL_DEL, p[0], NULL); break;
	case 2: epoll_ctl(ep, EPOLL_CTL_MOD, count, &e); break;
	case 3: CHECK(read(value, &n, sizeof n) == sizeof n); break;
	case 4: epoll_ctl(ep, EPOLL_CTL_DEL, timer, NULL); break;
	}
}

static void add(int fd, uint32_t events, uint64_t data)
{
	struct epoll_event e = { .events = events, .data.u64 = data };

	CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e) == 0);
}

int main(int argc, char **argv)
{
	struct itimerspec t = { { 0, 0 }, { 0, 5000000 } };
	uint64_t n;
	char c;

	start(argc, argv, 4);
	ep = epoll_create1(EPOLL_CLOEXEC);
	count = eventfd(0, EFD_NONBLOCK);
	value = eventfd(1000, EFD_NONBLOCK);
	timer = timerfd_create(CLOCK_MONOTONIC, 0);
	CHECK(ep >= 0 && count >= 0 && value >= 0 && timer >= 0 && pipe(p) == 0);
	add(p[0], EPOLLIN, 0x1111222233334444u);
	add(count, EPOLLIN | EPOLLET, 0x55);
	add(timer, EPOLLIN, 0x66);
	add(value, EPOLLOUT, 0x77);	/* always */
	ready();
	while (running()) {
		unsigned seen = 0;

		CHECK(timerfd_settime(timer, 0, &t, NULL) == 0);
		n = 2;
		CHECK(write(p[1], "x", 1) == 1 && write(count, &n, sizeof n) == sizeof n);
		for (int tries = 0; seen != 15; tries++) {
			struct epoll_event e[8];
			int got = epoll_wait(ep, e, 8, 100);

			if (tries > 3000)
				wrong("events seen: %#x", seen);
			msleep(1);	/* one of them always is there */
			if (got < 0)
				INTERRUPTED();
			for (int i = 0; i < got; i++)
				switch (e[i].data.u64) {
				case 0x1111222233334444u: seen |= 1; EQUAL(e[i].events, EPOLLIN); break;
				case 0x55: seen |= 2; break;
				case 0x66: seen |= 4; break;
				case 0x77: seen |= 8; EQUAL(e[i].events, EPOLLOUT); break;
				default: wrong("event with data %#llx", (long long)e[i].data.u64);
				}
		}
		CHECK(read(p[0], &c, 1) == 1);
		CHECK(read(count, &n, sizeof n) == sizeof n);
		EQUAL(n, 2);
		CHECK(read(timer, &n, sizeof n) == sizeof n && n >= 1);
		EQUAL(fcntl(ep, F_GETFD), FD_CLOEXEC);
	}
	CHECK(read(value, &n, sizeof n) == sizeof n);
	EQUAL(n, 1000);
	done();
}
