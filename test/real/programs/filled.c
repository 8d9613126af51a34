/* Private memory of all kinds, of which every page is checked: with holes, locked,
   with advice, not writable, not readable, in many small mappings, far apart. Its
   child runs another program and has as much. */
#include "selfcheck.h"
#include <sys/resource.h>

enum { NORMAL, HUGE, LOCKED, READABLE, HIDDEN, ADVISED, FILED, SHARED, SMALL, FAR, REGIONS };

static const size_t pages[REGIONS] = { 6000, 2048, 200, 512, 256, 256, 512, 512, 600, 1 << 24 };
static char *mem[REGIONS];
static pid_t child;

/* has says whether a page is written to. */
static int has(int region, size_t page)
{
	switch (region) {
	case NORMAL:
		return page % 7 != 3 && (page < 2000 || page > 2600);
	case FILED:
		return page % 3 == 0;
	case FAR:
		return page % (1 << 20) < 5;
	case SMALL:
		return page % 3 != 1;
	}
	return 1;
}

static uint64_t word(int region, size_t page, size_t i)
{
	return ((uint64_t)region << 56 ^ page << 12 ^ i ^ (uint64_t)self << 32) * 0x9e3779b97f4a7c15u | 1;
}

static uint64_t *at(int region, size_t page) { return (uint64_t *)(mem[region] + page * 4096); }

static void protect(int region, int prot) { CHECK(mprotect(mem[region], pages[region] * 4096, prot) == 0); }

static void check_page(int region, size_t page)
{
	uint64_t *p = at(region, page);

	for (size_t i = 0; i < 512; i++)
		if (p[i] != (has(region, page) ? word(region, page, i) : 0))
			wrong("region %d, page %zu, word %zu is %#lx", region, page, i, (unsigned long)p[i]);
}

static void check_all(void)
{
	for (int r = 0; r < REGIONS; r++) {
		if (r == HIDDEN)
			protect(r, PROT_READ);
		for (size_t p = 0; p < pages[r]; p++)
			if (r != FAR || has(r, p))
				check_page(r, p);
		if (r == HIDDEN)
			protect(r, PROT_NONE);
	}
}

static void damage(int kind)
{
	if (kind == 1) {
		at(NORMAL, 4711)[5] ^= 1;
	} else if (kind == 2) {
		at(SMALL, 303)[0]++; /* one that may be written */
	} else {
		protect(READABLE, PROT_READ | PROT_WRITE);
		at(READABLE, 100)[511]--;
		protect(READABLE, PROT_READ);
	}
}

static void set_up(void)
{
	struct rlimit limit;
	int fd;

	fd = open(path("filled"), O_RDWR | O_CREAT, 0600);
	CHECK(fd >= 0 && ftruncate(fd, pages[FILED] * 4096) == 0);
	for (int r = 0; r < REGIONS; r++) {
		int flags = r == FILED ? MAP_PRIVATE : MAP_ANONYMOUS | (r == SHARED ? MAP_SHARED : MAP_PRIVATE);

		mem[r] = mmap(NULL, pages[r] * 4096, PROT_READ | PROT_WRITE, flags | (r == FAR ? MAP_NORESERVE : 0),
			r == FILED ? fd : -1, 0);
		CHECK(mem[r] != MAP_FAILED);
		if (r == HUGE)
			madvise(mem[r], pages[r] * 4096, MADV_HUGEPAGE);
		else if (r == FAR)	/* a page that is touched is not to be 512 */
			madvise(mem[r], pages[r] * 4096, MADV_NOHUGEPAGE);
		for (size_t p = 0; p < pages[r]; p++)
			if (has(r, p))
				for (size_t i = 0; i < 512; i++)
					at(r, p)[i] = word(r, p, i);
	}
	close(fd);
	CHECK(mlock(mem[LOCKED], pages[LOCKED] * 4096) == 0);
	protect(READABLE, PROT_READ);
	protect(HIDDEN, PROT_NONE);
	CHECK(madvise(mem[ADVISED], 128 * 4096, MADV_DONTFORK) == 0);
	CHECK(madvise(mem[ADVISED] + 64 * 4096, 128 * 4096, MADV_DONTDUMP) == 0);
	for (size_t p = 0; p < pages[SMALL]; p += 6)
		CHECK(mprotect(mem[SMALL] + p * 4096, 3 * 4096, PROT_READ) == 0);
	CHECK(getrlimit(RLIMIT_AS, &limit) == 0);
	limit.rlim_cur = 1ul << 37;	/* twice what is mapped */
	CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
}

static void child_main(char **argv)
{
	self = getpid();
	dir = argv[1];
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	set_up();
	close(open(path("child-ready"), O_WRONLY | O_CREAT, 0600));
	for (size_t n = 0;; n++) {
		usleep(1000);
		check_page(NORMAL, n % pages[NORMAL]);
		if (access(path("child-check"), F_OK) == 0) {
			check_all();
			_exit(7);
		}
	}
}

int main(int argc, char **argv)
{
	size_t n = 0;
	int status, fd;

	if (strstr(argv[0], "other"))
		child_main(argv);
	start(argc, argv, 3);
	set_up();
	/* Another program, for criu: another file. */
	char copy[PATH_MAX + 64];
	snprintf(copy, sizeof copy, "cp /proc/%d/exe %s && chmod 755 %s", getpid(), path("other"), path("other"));
	CHECK(system(copy) == 0);
	unlink(path("child-ready"));
	child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		execl(path("other"), path("other"), dir, NULL);
		_exit(126);
	}
	while (access(path("child-ready"), F_OK) != 0)
		usleep(10000);
	ready();
	while (running())
		for (int i = 0; i < 100; i++, n++) {
			check_page(NORMAL, n % pages[NORMAL]);
			check_page(HUGE, n % pages[HUGE]);
		}
	check_all();
	fd = open(path("child-check"), O_WRONLY | O_CREAT, 0600);
	CHECK(fd >= 0);
	close(fd);
	EQUAL(waitpid(child, &status, 0), child);
	EQUAL(WIFEXITED(status) ? WEXITSTATUS(status) : -1, 7);
	done();
}
