/* 64 MiB with something else on every page, and 64 MiB hardly touched. */
#include "selfcheck.h"

#define PAGES (64 << 8)

static uint64_t *mem, *sparse;

static void damage(int kind)
{
	if (kind == 1)
		mem[12345 * 512 + 300] ^= 1;
	else
		sparse[5000 * 512] = 1;
}

static uint64_t word(uint64_t page, uint64_t i)
{
	return (page << 20 | i) * 0x9e3779b97f4a7c15u;
}

static void check_page(int p)
{
	for (int i = 0; i < 512; i++)
		if (mem[p * 512 + i] != word(p, i))
			wrong("page %d, word %d is %#lx", p, i, (unsigned long)mem[p * 512 + i]);
}

int main(int argc, char **argv)
{
	int next = 0;

	start(argc, argv, 2);
	mem = mmap(NULL, (size_t)PAGES * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	sparse = mmap(NULL, (size_t)PAGES * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(mem != MAP_FAILED && sparse != MAP_FAILED);
	madvise(mem, (size_t)PAGES * 4096, MADV_NOHUGEPAGE);
	madvise(sparse, (size_t)PAGES * 4096, MADV_NOHUGEPAGE);
	for (int p = 0; p < PAGES; p++)
		for (int i = 0; i < 512; i++)
			mem[p * 512 + i] = word(p, i);
	sparse[1000 * 512] = 1000;
	ready();
	while (running())	/* a part each time, all of it in a second */
		for (int n = 0; n < PAGES / 64; n++)
			check_page(next++ % PAGES);
	for (int p = 0; p < PAGES; p++) {
		check_page(p);
		EQUAL(sparse[p * 512], p == 1000 ? 1000 : 0);
	}
	done();
}
