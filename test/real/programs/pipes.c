/*
 * Pipes: data inside one, a changed size, one that was closed at its writing end, and one
 * that a child writes numbers into.
 */
#include "selfcheck.h"
#include <sys/ioctl.h>

static int full[2], closed[2], flow[2];
static pid_t child;

static void damage(int kind)
{
	char c;

	switch (kind) {
	case 1: CHECK(read(full[0], &c, 1) == 1); break;
	case 2: CHECK(read(closed[0], &c, 1) == 1); break;
	case 3: CHECK(read(flow[0], &c, 1) == 1); break;
	case 4: fcntl(full[0], F_SETPIPE_SZ, 65536); break;
	}
}

int main(int argc, char **argv)
{
	static unsigned char text[50000];
	uint32_t number, want = 0;
	int size, bytes;

	start(argc, argv, 4);
	CHECK(pipe(full) == 0 && pipe(closed) == 0 && pipe(flow) == 0);
	size = fcntl(full[0], F_SETPIPE_SZ, 1 << 17);
	CHECK(size == 1 << 17);
	fill(text, sizeof text, 3);
	CHECK(write(full[1], text, sizeof text) == sizeof text);
	CHECK(write(closed[1], "last words", 10) == 10);
	close(closed[1]);
	if ((child = fork()) == 0) {
		self = getpid();
		close(flow[0]);
		for (number = 0; !child_ends(); number++)
			CHECK(write(flow[1], &number, sizeof number) == sizeof number);
		_exit(5);
	}
	close(flow[1]);
	ready();
	while (running()) {
		CHECK(read(flow[0], &number, sizeof number) == sizeof number);
		EQUAL(number, want);
		want++;
		CHECK(ioctl(full[0], FIONREAD, &bytes) == 0);
		EQUAL(bytes, sizeof text);
		EQUAL(fcntl(full[0], F_GETPIPE_SZ), size);
	}
	CHECK(read(full[0], text, sizeof text) == sizeof text);
	check_fill(text, sizeof text, 3, "from the pipe");
	memset(text, 0, 20);
	CHECK(read(closed[0], text, 20) == 10 && memcmp(text, "last words", 10) == 0);
	EQUAL(read(closed[0], text, 20), 0);
	reap_child(child, 5);
	done();
}
