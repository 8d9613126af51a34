/* A file open to append, and one to read and append; nothing twice, nothing lost. */
#include "selfcheck.h"

static int fd;

static void damage(int kind)
{
	if (kind == 1)
		fcntl(fd, F_SETFL, 0);
	else
		CHECK(write(fd, "12345678", 8) == 8);
}

int main(int argc, char **argv)
{
	unsigned long n = 0, got;
	int again;

	start(argc, argv, 2);
	fd = open(path("log"), O_RDWR | O_CREAT | O_APPEND, 0644);
	CHECK(fd >= 0);
	ready();
	while (running()) {
		CHECK(lseek(fd, 0, SEEK_SET) == 0);	/* appending ignores it */
		CHECK(write(fd, &n, sizeof n) == sizeof n);
		n++;
		CHECK(fcntl(fd, F_GETFL) & O_APPEND);
		EQUAL(lseek(fd, 0, SEEK_CUR), n * sizeof n);
	}
	again = open(path("log"), O_RDONLY);
	for (unsigned long i = 0; i < n; i++) {
		CHECK(read(again, &got, sizeof got) == sizeof got);
		EQUAL(got, i);
	}
	EQUAL(read(again, &got, sizeof got), 0);
	done();
}
