/* Locked memory stays locked. */
#include "selfcheck.h"

static unsigned char *mem;

static void damage(int kind)
{
	if (kind == 1)
		munlock(mem, 16 * 4096);
	else
		mem[3] ^= 1;
}

/* locked is the VmLck of this process, in KiB. */
static long locked(void)
{
	char line[256];
	long kib = -1;
	FILE *f = fopen("/proc/self/status", "r");

	CHECK(f);
	while (fgets(line, sizeof line, f))
		if (sscanf(line, "VmLck: %ld", &kib) == 1)
			break;
	fclose(f);
	return kib;
}

int main(int argc, char **argv)
{
	start(argc, argv, 2);
	mem = mmap(NULL, 16 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(mem != MAP_FAILED && mlock(mem, 16 * 4096) == 0);
	fill(mem, 16 * 4096, 5);
	ready();
	while (running()) {
		check_fill(mem, 16 * 4096, 5, "locked memory");
		EQUAL(locked(), 64);
	}
	done();
}
