/* Memory that is wiped in a child (MADV_WIPEONFORK), or that a child does not have
   (MADV_DONTFORK), beside memory that it inherits. A child is made if there is a file
   "fork". */
#include "selfcheck.h"

enum { WIPED, KEPT, ABSENT, KINDS, PAGES = 16384 };

static unsigned char *mem[KINDS];

static void damage(int kind)
{
	if (kind == 1)
		CHECK(madvise(mem[WIPED], PAGES * 4096L, 19) == 0);	/* MADV_KEEPONFORK */
	else if (kind == 2)
		CHECK(madvise(mem[ABSENT], PAGES * 4096L, MADV_DOFORK) == 0);
	else
		mem[KEPT][(PAGES - 1) * 4096L] ^= 1;
	write_file("fork", "");
}

/* child looks at the last pages first, which come last. */
static int child(void)
{
	unsigned char present;

	for (long p = PAGES - 1; p >= 0; p--) {
		if (mem[WIPED][p * 4096] != 0)
			return 1;
		if (mem[KEPT][p * 4096] != 'a' + KEPT)
			return 2;
	}
	if (mincore(mem[ABSENT], 4096, &present) == 0)
		return 3;
	return 0;
}

int main(int argc, char **argv)
{
	start(argc, argv, 3);
	for (int i = 0; i < KINDS; i++) {
		mem[i] = mmap(NULL, PAGES * 4096L, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		CHECK(mem[i] != MAP_FAILED);
		CHECK(mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
		memset(mem[i], 'a' + i, PAGES * 4096L);
	}
	CHECK(madvise(mem[WIPED], PAGES * 4096L, MADV_WIPEONFORK) == 0);
	CHECK(madvise(mem[ABSENT], PAGES * 4096L, MADV_DONTFORK) == 0);
	ready();
	while (running()) {
		pid_t pid;

		if (!exists("fork")) {
			msleep(1);
			continue;
		}
		CHECK((pid = fork()) >= 0);
		if (pid == 0)
			_exit(child());
		reap_child(pid, 0);
		for (int i = 0; i < KINDS; i++)
			for (long p = 0; p < PAGES; p++)
				EQUAL(mem[i][p * 4096], 'a' + i);
		CHECK(unlink(path("fork")) == 0);
	}
	done();
}
