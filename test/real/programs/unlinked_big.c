/* A deleted file of 3 MiB, more than CRIU takes unless it is told to. */
#include "selfcheck.h"

#define N (3 << 20)

static int fd;

static void damage(int kind)
{
	(void)kind;
	CHECK(pwrite(fd, "?", 1, 2 << 20) == 1);
}

int main(int argc, char **argv)
{
	unsigned char *text = malloc(N);

	start(argc, argv, 1);
	fd = open(path("gone"), O_RDWR | O_CREAT, 0600);
	fill(text, N, 7);
	CHECK(write(fd, text, N) == N);
	CHECK(unlink(path("gone")) == 0);
	ready();
	while (running()) {
		EQUAL(lseek(fd, 0, SEEK_CUR), N);
		CHECK(pread(fd, text, N, 0) == N);
		check_fill(text, N, 7, "deleted file");
	}
	done();
}
