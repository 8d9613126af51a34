/* More address space than CRIU can count the pages of, as with AddressSanitizer, in a process and its child. */
#include "selfcheck.h"

#define RESERVED (9UL << 40)
#define SIZE (4UL << 20)

static unsigned char *mine, *huge;

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
	ready();
	while (running()) {
		check(1);
		EQUAL(waitpid(child, &status, WNOHANG), 0);
	}
	CHECK(waitpid(child, &status, 0) == child);
	EQUAL(status, 8 << 8);
	done();
}
