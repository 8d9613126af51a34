/* An eventfd that is a semaphore: each read takes one. */
#include "selfcheck.h"
#include <sys/eventfd.h>

static int fd;

static void damage(int kind)
{
	(void)kind;
	dup2(eventfd(1000, EFD_NONBLOCK), fd);
}

int main(int argc, char **argv)
{
	uint64_t n, left = 1000;

	start(argc, argv, 1);
	fd = eventfd(left, EFD_SEMAPHORE | EFD_NONBLOCK);
	CHECK(fd >= 0);
	ready();
	while (running()) {
		CHECK(read(fd, &n, sizeof n) == sizeof n);
		EQUAL(n, 1);
		CHECK(write(fd, &n, sizeof n) == sizeof n);
	}
	for (; left > 0; left--) {
		CHECK(read(fd, &n, sizeof n) == sizeof n);
		EQUAL(n, 1);
	}
	EQUAL(read(fd, &n, sizeof n), -1);
	done();
}
