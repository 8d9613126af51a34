/*
 * Private mappings: anonymous, of a file with changed pages, with protections
 * changed in the middle, and with a hole.
 */
#include "selfcheck.h"
#include <setjmp.h>

#define N (64 * 4096)

static unsigned char *anon, *file;
static sigjmp_buf jump;

static void fault(int sig)
{
	siglongjmp(jump, sig);
}

/* faults says whether writing (or reading) at p is a fault, and which. */
static int faults(unsigned char *p, int wr)
{
	int sig = sigsetjmp(jump, 1);

	if (sig == 0) {
		if (wr)
			*(volatile unsigned char *)p = *p;
		else
			(void)*(volatile unsigned char *)p;
	}
	return sig;
}

static void damage(int kind)
{
	switch (kind) {
	case 1: mprotect(anon + 8 * 4096, 4096, PROT_READ | PROT_WRITE); break;
	case 2: mprotect(anon + 16 * 4096, 4096, PROT_READ); break;
	case 3: mmap(anon + 32 * 4096, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0); break;
	case 4: file[5 * 4096] ^= 1; break;
	case 5: file[6 * 4096] ^= 1; break;
	case 6: madvise(anon + 40 * 4096, 4096, MADV_DONTNEED); break;
	}
}

int main(int argc, char **argv)
{
	struct sigaction sa = { .sa_handler = fault };
	unsigned char *text;
	int fd;

	start(argc, argv, 6);
	sigaction(SIGSEGV, &sa, NULL);
	anon = mmap(NULL, N, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(anon != MAP_FAILED);
	fill(anon, N, 1);
	CHECK(mprotect(anon + 8 * 4096, 4096, PROT_READ) == 0);
	CHECK(mprotect(anon + 16 * 4096, 4096, PROT_NONE) == 0);
	CHECK(munmap(anon + 32 * 4096, 4096) == 0);
	text = malloc(N);
	fill(text, N, 2);
	fd = open(path("mapped"), O_RDWR | O_CREAT, 0644);
	CHECK(write(fd, text, N) == N);
	file = mmap(NULL, N, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	CHECK(file != MAP_FAILED);
	close(fd);
	fill(file + 5 * 4096, 4096, 3);	/* a page of its own; the rest is the file's */
	ready();
	while (running()) {
		check_fill(anon, 8 * 4096, 1, "anonymous");
		EQUAL(anon[9 * 4096 + 7], pattern_at(9 * 4096 + 7, 1));
		EQUAL(anon[40 * 4096 + 1000], pattern_at(40 * 4096 + 1000, 1));
		EQUAL(faults(anon + 8 * 4096, 0), 0);
		EQUAL(faults(anon + 8 * 4096, 1), SIGSEGV);
		EQUAL(faults(anon + 16 * 4096, 0), SIGSEGV);
		EQUAL(faults(anon + 32 * 4096, 0), SIGSEGV);
		EQUAL(faults(anon + 33 * 4096, 1), 0);
		check_fill(file, 5 * 4096, 2, "of the file");
		check_fill(file + 5 * 4096, 4096, 3, "changed page");
		EQUAL(file[6 * 4096], pattern_at(6 * 4096, 2));
		EQUAL(file[N - 1], pattern_at(N - 1, 2));
	}
	/* Under what was not accessible is what was there before. */
	CHECK(mprotect(anon + 16 * 4096, 4096, PROT_READ) == 0);
	for (size_t i = 16 * 4096; i < 17 * 4096; i++)
		EQUAL(anon[i], pattern_at(i, 1));
	/* None of it got into the file. */
	fd = open(path("mapped"), O_RDONLY);
	CHECK(read(fd, text, N) == N);
	check_fill(text, N, 2, "file");
	done();
}
