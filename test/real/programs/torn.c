/*
 * Rewrites 4096 pages in lock-step, round after round: at any moment the pages up to where it is
 * hold this round's number, and the rest the last one's. A context that was
 * written while the program ran on would hold another mixture.
 */
#include "selfcheck.h"

#define PAGES 4096
#define WORDS (4096 / sizeof(uint64_t))

static uint64_t (*mem)[WORDS];

static void damage(int kind)
{
	/* As if this page had been saved later, or earlier, than the others. */
	mem[kind == 1 ? 100 : PAGES - 1][7] += kind == 1 ? 1 : -1;
}

static void page_is(int p, uint64_t round)
{
	for (unsigned i = 0; i < WORDS; i++)
		if (mem[p][i] != round)
			wrong("torn: page %d of %d, word %u is of round %lu, want %lu", p, PAGES, i,
			      (unsigned long)mem[p][i], (unsigned long)round);
}

int main(int argc, char **argv)
{
	start(argc, argv, 2);
	mem = mmap(NULL, sizeof *mem * PAGES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(mem != MAP_FAILED);
	madvise(mem, sizeof *mem * PAGES, MADV_NOHUGEPAGE);
	ready();
	for (uint64_t round = 1; ; round++) {
		for (int p = 0; p < PAGES; p++) {
			page_is(p, round - 1);
			for (unsigned i = 0; i < WORDS; i++)
				mem[p][i] = round;
		}
		/* Those before the place where it was saved are looked at here. */
		for (int p = 0; p < PAGES; p++)
			page_is(p, round);
		if (round % 4 == 0 && !running())
			break;
	}
	done();
}
