/* Processes of the same program: a child that shares memory with its parent until one of
   them writes to it, a child that has run exec and shares nothing, and a child of that. */
#include "selfcheck.h"

enum { PAGES = 3000 };

static uint64_t *mem;
static unsigned inherited, own;	/* what the pages have of the parent, and of this process */

static uint64_t word(size_t page, size_t i)
{
	unsigned seed = page % 3 == 1 ? own : inherited;

	return page % 5 == 2 ? 0 : (page << 20 ^ i ^ (uint64_t)seed << 48) * 0x9e3779b97f4a7c15u | 1;
}

/* set writes to every page, or to those that are not inherited. */
static void set(int all)
{
	for (size_t p = 0; p < PAGES; p++)
		if (p % 5 != 2 && (all || p % 3 == 1))
			for (size_t i = 0; i < 512; i++)
				mem[p * 512 + i] = word(p, i);
}

static void check_page(size_t page)
{
	for (size_t i = 0; i < 512; i++)
		if (mem[page * 512 + i] != word(page, i))
			wrong("process %u, page %zu, word %zu is %#lx", own, page, i, (unsigned long)mem[page * 512 + i]);
}

static void check_all(void)
{
	for (size_t p = 0; p < PAGES; p++)
		check_page(p);
}

static void damage(int kind)
{
	mem[(kind == 1 ? 301 : 300) * 512 + 7] ^= 1;
}

static void make(unsigned seed)
{
	mem = mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(mem != MAP_FAILED);
	inherited = own = seed;
	set(1);
}

/* child is the life of a process other than the root, which may have a child itself. */
static void child(pid_t below, int status)
{
	char name[16];

	snprintf(name, sizeof name, "up-%u", own);
	write_file(name, "");
	for (size_t n = 0; !child_ends(); n++)
		check_page(n % PAGES);
	check_all();
	if (below)
		reap_child(below, status);
	_exit(30 + own);
}

/* forked starts a child with the memory of this process. */
static pid_t forked(unsigned seed)
{
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (pid == 0) {
		self = getpid();
		own = seed;
		set(0);
		child(0, 0);
	}
	return pid;
}

int main(int argc, char **argv)
{
	pid_t shares, execs;
	size_t n = 0;

	start(argc, argv, 2);
	if (argc > 2) {
		make(3);
		child(forked(4), 34);
	}
	make(1);
	shares = forked(2);
	execs = fork();
	CHECK(execs >= 0);
	if (execs == 0) {
		execl("/proc/self/exe", argv[0], dir, "exec", NULL);
		_exit(126);
	}
	while (!exists("up-2") || !exists("up-3") || !exists("up-4"))
		msleep(1);
	ready();
	while (running())
		for (int i = 0; i < 100; i++, n++)
			check_page(n % PAGES);
	check_all();
	reap_child(shares, 32);
	reap_child(execs, 33);
	done();
}
