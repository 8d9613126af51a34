/* A named pipe, open at both ends, with data inside. */
#include "selfcheck.h"
#include <poll.h>

static int rd, wr;

static void damage(int kind)
{
	char c;

	if (kind == 1)
		CHECK(read(rd, &c, 1) == 1);
	else
		dup2(rd, wr);
}

int main(int argc, char **argv)
{
	struct pollfd p;
	struct stat a, b;
	char text[64];

	start(argc, argv, 2);
	CHECK(mkfifo(path("fifo"), 0600) == 0);
	rd = open(path("fifo"), O_RDONLY | O_NONBLOCK);
	wr = open(path("fifo"), O_WRONLY | O_NONBLOCK);
	CHECK(rd >= 0 && wr >= 0);
	CHECK(write(wr, "0123456789", 10) == 10);
	ready();
	while (running()) {
		p = (struct pollfd){ .fd = rd, .events = POLLIN };
		EQUAL(poll(&p, 1, 0), 1);
		EQUAL(p.revents, POLLIN);
		CHECK(fstat(rd, &a) == 0 && stat(path("fifo"), &b) == 0);
		EQUAL(a.st_ino, b.st_ino);
		/* Out at the front, in at the back. */
		CHECK(read(rd, text, 1) == 1);
		CHECK(text[0] == (char)('0' + (counter - 1) % 10));
		CHECK(write(wr, text, 1) == 1);
	}
	EQUAL(read(rd, text, sizeof text), 10);
	EQUAL(read(rd, text, sizeof text), -1);
	done();
}
