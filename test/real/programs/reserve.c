/*
 * More address space than CRIU can count the pages of, as with AddressSanitizer, in a process and its child;
 * and more than the kernel grants at once, as with MariaDB: not to be written to, and got piece by piece.
 */
#include "selfcheck.h"
#include <sys/sysinfo.h>

#define RESERVED (9UL << 40)
#define SIZE (4UL << 20)

static unsigned char *mine, *huge, *strict;

static void damage(int kind)
{
	(void)kind;
	mine[SIZE / 2] ^= 1;
}

static void check(int seed)
{
	check_fill(mine, SIZE, seed, "private memory");
	check_fill(huge + RESERVED - SIZE, SIZE, seed + 1, "the end of what is reserved");
}

int main(int argc, char **argv)
{
	int status;
	pid_t child;
	struct sysinfo machine;
	unsigned long piece;

	start(argc, argv, 1);
	mine = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	huge = mmap(NULL, RESERVED, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	CHECK(mine != MAP_FAILED && huge != MAP_FAILED);
	CHECK(mprotect(huge + RESERVED - SIZE, SIZE, PROT_READ | PROT_WRITE) == 0);
	fill(mine, SIZE, 1);
	fill(huge + RESERVED - SIZE, SIZE, 2);
	CHECK((child = fork()) >= 0);
	if (child == 0) {
		/* Some of it is still its parent's. */
		do
			check(1);
		while (!child_ends());
		_exit(8);
	}
	/* A process with that much cannot fork. */
	CHECK(sysinfo(&machine) == 0);
	piece = (machine.totalram + machine.totalswap) * machine.mem_unit / 3 * 2 & ~(SIZE - 1);
	strict = mmap(NULL, RESERVED, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(strict != MAP_FAILED);
	CHECK(mprotect(strict, piece, PROT_READ | PROT_WRITE) == 0);
	CHECK(mprotect(strict + piece, piece, PROT_READ | PROT_WRITE) == 0);
	fill(strict, SIZE, 3);
	ready();
	while (running()) {
		check(1);
		check_fill(strict, SIZE, 3, "what was got piece by piece");
		EQUAL(waitpid(child, &status, WNOHANG), 0);
	}
	CHECK(waitpid(child, &status, 0) == child);
	EQUAL(status, 8 << 8);
	done();
}
