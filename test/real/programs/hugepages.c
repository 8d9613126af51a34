/* Private memory in huge pages, beside ordinary memory. */
#include "selfcheck.h"

#define SIZE (4UL << 20)

static unsigned char *mine, *huge;

static void damage(int kind)
{
	(void)kind;
	huge[SIZE / 2] ^= 1;
}

int main(int argc, char **argv)
{
	start(argc, argv, 1);
	mine = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	huge = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
	CHECK(mine != MAP_FAILED && huge != MAP_FAILED);
	fill(mine, SIZE, 1);
	fill(huge, SIZE, 2);
	ready();
	while (running()) {
		check_fill(mine, SIZE, 1, "private memory");
		check_fill(huge, SIZE, 2, "huge pages");
	}
	done();
}
