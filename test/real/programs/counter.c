/* Counts. Beside the counter: the heap, initialised data, bss. */
#include "selfcheck.h"

static unsigned char bss[300000];
static int data[4] = { 11, 22, 33, 44 };
static unsigned char *heap;

static void damage(int kind)
{
	switch (kind) {
	case 1: counter -= 2; break;
	case 2: bss[123456] ^= 1; break;
	case 3: heap[99999] ^= 1; break;
	case 4: self++; break;
	case 5: data[2] = 0; break;
	}
}

int main(int argc, char **argv)
{
	start(argc, argv, 5);
	heap = malloc(100000);
	fill(heap, 100000, 1);
	fill(bss, sizeof bss, 2);
	data[1] = 2222;
	ready();
	while (running()) {
		check_fill(heap, 100000, 1, "heap");
		check_fill(bss, sizeof bss, 2, "bss");
		EQUAL(data[1], 2222);
		EQUAL(data[2], 33);
	}
	done();
}
