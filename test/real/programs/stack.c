/* A deep stack, still growing, with a frame's contents all the way down. */
#include "selfcheck.h"

static unsigned char *deepest;

static void damage(int kind)
{
	(void)kind;
	deepest[100] ^= 1;
}

static unsigned long down(int depth)
{
	unsigned char frame[4096];
	unsigned long sum;

	fill(frame, sizeof frame, depth);
	if (depth == 0) {
		deepest = frame;
		ready();
		while (running())
			check_fill(frame, sizeof frame, 0, "deepest frame");
		sum = 0;
	} else {
		sum = down(depth - 1);
	}
	check_fill(frame, sizeof frame, depth, "frame");
	return sum + depth;
}

/* further uses stack that did not exist when the process was saved. */
static int further(int depth)
{
	volatile unsigned char frame[8192];

	frame[0] = depth;
	return depth == 0 ? 0 : further(depth - 1) + (frame[0] == (unsigned char)depth);
}

int main(int argc, char **argv)
{
	start(argc, argv, 1);
	EQUAL(down(200), 200 * 201 / 2);
	EQUAL(further(500), 500);
	done();
}
