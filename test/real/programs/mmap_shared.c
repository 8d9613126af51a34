/* A file mapped shared: writing goes on reaching the file, and the reverse. */
#include "selfcheck.h"

#define N (16 * 4096)

static unsigned char *map;
static int fd;

static void damage(int kind)
{
	switch (kind) {
	case 1:	/* a private copy instead */
		mmap(map, N, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd, 0);
		break;
	case 2: map[5000] ^= 1; break;
	}
}

int main(int argc, char **argv)
{
	unsigned long seen, put;

	start(argc, argv, 2);
	fd = open(path("mapped"), O_RDWR | O_CREAT, 0644);
	CHECK(fd >= 0 && ftruncate(fd, N) == 0);
	map = mmap(NULL, N, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(map != MAP_FAILED);
	fill(map + 4096, N - 4096, 1);
	ready();
	while (running()) {
		*(volatile unsigned long *)map = counter;
		CHECK(pread(fd, &seen, sizeof seen, 0) == sizeof seen);
		EQUAL(seen, counter);
		put = counter * 3;
		CHECK(pwrite(fd, &put, sizeof put, 64) == sizeof put);
		EQUAL(*(volatile unsigned long *)(map + 64), put);
		for (size_t i = 4096; i < N; i++)
			EQUAL(map[i], pattern_at(i - 4096, 1));
	}
	done();
}
