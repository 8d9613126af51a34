/* Counters of eventfd(2) that do not fit into 32 bits; a child has one of them, too. */
#include "selfcheck.h"
#include <sys/eventfd.h>

static int fd, most;
static const uint64_t large = 5ull << 32 | 7, limit = -2ull;

static void damage(int kind)
{
	uint64_t n = 1;

	dup2(eventfd(kind == 1 ? 7 : 0, EFD_NONBLOCK), fd);
	if (kind == 2)
		CHECK(write(fd, &n, sizeof n) == sizeof n);
}

static void count(int fd, uint64_t want)
{
	uint64_t n;

	CHECK(read(fd, &n, sizeof n) == sizeof n);
	EQUAL(n, want);
	CHECK(write(fd, &n, sizeof n) == sizeof n);
}

int main(int argc, char **argv)
{
	int status;
	pid_t child;

	start(argc, argv, 2);
	fd = eventfd(0, EFD_NONBLOCK);
	most = eventfd(0, EFD_NONBLOCK);
	CHECK(fd >= 0 && most >= 0 && dup(fd) >= 0);
	CHECK(write(fd, &large, sizeof large) == sizeof large);
	CHECK(write(most, &limit, sizeof limit) == sizeof limit);
	CHECK((child = fork()) >= 0);
	if (child == 0) {
		while (!child_ends())
			msleep(5);
		_exit(7);
	}
	ready();
	while (running()) {
		count(fd, large);
		count(most, limit);
	}
	CHECK(waitpid(child, &status, 0) == child);
	EQUAL(status, 7 << 8);
	done();
}
