/*
 * Files that a checkpoint may take along: a library that was loaded, a private
 * mapping of a file, and a shared one of a file that mostly is a hole. The test
 * makes the library, and takes them all away.
 */
#include "selfcheck.h"
#include <dlfcn.h>

#define N (64 << 20)

static void damage(int kind)
{
	(void)kind;
}

static unsigned char *map(const char *name, size_t n, int flags, unsigned seed)
{
	int fd = open(path(name), O_RDWR | O_CREAT, 0640);
	unsigned char *p;

	CHECK(ftruncate(fd, n) == 0);
	p = malloc(4096);
	fill(p, 4096, seed);
	CHECK(pwrite(fd, p, 4096, 0) == 4096);
	CHECK(pwrite(fd, p, 4096, n / 2) == 4096);
	free(p);
	p = mmap(NULL, n, PROT_READ | PROT_WRITE, flags, fd, 0);
	CHECK(p != MAP_FAILED);
	close(fd);
	return p;
}

int main(int argc, char **argv)
{
	unsigned char *private, *shared;
	unsigned long *count, n = 0;
	int (*next)(void), first;
	void *lib;

	start(argc, argv, 0);
	CHECK((lib = dlopen(path("libsaved.so"), RTLD_NOW)) != NULL);
	CHECK((next = (int (*)(void))dlsym(lib, "next")) != NULL);
	private = map("private", 1 << 20, MAP_PRIVATE, 1);
	shared = map("shared", N, MAP_SHARED, 2);
	count = (unsigned long *)(shared + N - 4096);
	first = next();
	ready();
	while (running()) {
		/* Code and data of the library. */
		n++;
		EQUAL(next(), first + (int)n);
		check_fill(private, 4096, 1, "private");
		check_fill(private + (1 << 19), 4096, 1, "private");
		EQUAL(private[1 << 18], 0);
		/* What was written before each checkpoint, and no less. */
		check_fill(shared, 4096, 2, "shared");
		check_fill(shared + N / 2, 4096, 2, "shared");
		EQUAL(shared[N / 4], 0);
		EQUAL(*count, n - 1);
		*count = n;
	}
	done();
}
