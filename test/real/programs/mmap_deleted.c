/* Mappings of deleted files, shared and private. */
#include "selfcheck.h"

#define N (8 * 4096)

static unsigned char *shared, *private;

static void damage(int kind)
{
	switch (kind) {
	case 1: shared[1] ^= 1; break;
	case 2: private[N - 1] ^= 1; break;
	}
}

int main(int argc, char **argv)
{
	unsigned char *text = malloc(N);
	int fd;

	start(argc, argv, 2);
	fd = open(path("gone"), O_RDWR | O_CREAT, 0644);
	CHECK(fd >= 0 && ftruncate(fd, N) == 0);
	shared = mmap(NULL, N, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(shared != MAP_FAILED);
	fill(shared, N, 1);
	close(fd);
	fd = open(path("gone2"), O_RDWR | O_CREAT, 0644);
	fill(text, N, 2);
	CHECK(write(fd, text, N) == N);
	private = mmap(NULL, N, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	CHECK(private != MAP_FAILED);
	close(fd);
	CHECK(unlink(path("gone")) == 0 && unlink(path("gone2")) == 0);
	ready();
	while (running()) {
		check_fill(shared, N, 1, "shared");
		check_fill(private, N, 2, "private");
		CHECK(!exists("gone") && !exists("gone2"));
	}
	done();
}
