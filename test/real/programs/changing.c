/* Memory that changes all the time in every way that the kernel tells a userfaultfd
   of: pages are given up, moved, unmapped, mapped anew, and inherited by children, while
   a signal handler and a thread check others. */
#include "selfcheck.h"
#include <pthread.h>
#include <sys/time.h>

enum { REGIONS = 40, PAGES = 1024, FIXED = 8 };	/* of the regions, those that only are checked */

static char *mem[REGIONS];
static uint32_t seeds[REGIONS][PAGES];	/* 0: it was not written to */
static uint32_t last_seed;
static uint64_t main_state = 88172645463325252u, handler_state = 1, thread_state = 2;

static uint64_t next(uint64_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 7;
	return *s ^= *s << 17;
}

static uint64_t word(uint32_t seed, int i)
{
	return seed ? ((uint64_t)seed << 16 ^ i) * 0x9e3779b97f4a7c15u | 1 : 0;
}

static uint64_t *at(int r, int p) { return (uint64_t *)(mem[r] + (size_t)p * 4096); }

static void check_page(int r, int p)
{
	for (int i = 0; i < 512; i += i % 64 == 63 ? 1 : 9)
		if (at(r, p)[i] != word(seeds[r][p], i))
			wrong("region %d at %p, page %d, word %d is %#lx, want %#lx", r, (void *)mem[r], p, i,
				(unsigned long)at(r, p)[i], (unsigned long)word(seeds[r][p], i));
}

static void write_page(int r, int p)
{
	uint32_t seed = ++last_seed;

	for (int i = 0; i < 512; i++)
		at(r, p)[i] = word(seed, i);
	seeds[r][p] = seed;
}

static void damage(int kind)
{
	at(kind == 1 ? 3 : 20, 77)[27] ^= 1;
}

static void on_alarm(int sig)
{
	(void)sig;
	check_page(next(&handler_state) % FIXED, next(&handler_state) % PAGES);
}

static void *thread(void *arg)
{
	for (;;) {
		check_page(next(&thread_state) % FIXED, next(&thread_state) % PAGES);
		usleep(200);
	}
	return arg;
}

static void forget(int r, int p, int n)
{
	memset(&seeds[r][p], 0, n * sizeof seeds[r][p]);
}

static void change(void)
{
	int r = FIXED + next(&main_state) % (REGIONS - FIXED), p = next(&main_state) % PAGES;
	int n = 1 + next(&main_state) % 64, status;
	size_t size = (size_t)PAGES * 4096;
	pid_t pid;
	char *to;

	if (n > PAGES - p)
		n = PAGES - p;
	switch (next(&main_state) % 100) {
	case 0: case 1: case 2:
		CHECK(madvise(at(r, p), (size_t)n * 4096, MADV_DONTNEED) == 0);
		forget(r, p, n);
		break;
	case 3: case 4:
		to = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		CHECK(to != MAP_FAILED);
		if (mremap(mem[r], size, size, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to) {
			mem[r] = to;
		} else {	/* some of it was mapped anew, and the kernel has not merged that */
			EQUAL(errno, EFAULT);
			CHECK(munmap(to, size) == 0);
		}
		break;
	case 5: case 6:
		CHECK(munmap(at(r, p), (size_t)n * 4096) == 0);
		CHECK(mmap(at(r, p), (size_t)n * 4096, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == (void *)at(r, p));
		forget(r, p, n);
		break;
	case 7:
		CHECK(mprotect(at(r, p), (size_t)n * 4096, PROT_READ) == 0);
		check_page(r, p);
		CHECK(mprotect(at(r, p), (size_t)n * 4096, PROT_READ | PROT_WRITE) == 0);
		break;
	case 8:
		if (next(&main_state) % 4)
			break;
		pid = fork();
		CHECK(pid >= 0);
		if (pid == 0) {
			for (int i = 0; i < 30; i++) {
				int region = next(&main_state) % REGIONS, page = next(&main_state) % PAGES;

				check_page(region, page);
				if (region >= FIXED)
					write_page(region, page);
				check_page(region, page);
			}
			_exit(7);
		}
		for (int i = 0; i < 30; i++)
			write_page(FIXED + next(&main_state) % (REGIONS - FIXED), next(&main_state) % PAGES);
		while (waitpid(pid, &status, 0) < 0)
			CHECK(errno == EINTR);
		CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
		break;
	case 9: case 10: case 11: case 12: case 13:
		write_page(r, p);
		break;
	default:
		check_page(next(&main_state) % REGIONS, p);
	}
}

int main(int argc, char **argv)
{
	struct itimerval often = { { 0, 3000 }, { 0, 3000 } }, never = { { 0, 0 }, { 0, 0 } };
	struct sigaction action = { .sa_handler = on_alarm, .sa_flags = SA_RESTART };
	pthread_t t;

	start(argc, argv, 2);
	for (int r = 0; r < REGIONS; r++) {
		mem[r] = mmap(NULL, (size_t)PAGES * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		CHECK(mem[r] != MAP_FAILED);
		for (int p = 0; p < PAGES; p++)
			if (p % 50 < 45)
				write_page(r, p);
	}
	sigaction(SIGALRM, &action, NULL);
	CHECK(pthread_create(&t, NULL, thread, NULL) == 0);
	setitimer(ITIMER_REAL, &often, NULL);
	ready();
	while (running())
		for (int i = 0; i < 200; i++)
			change();
	setitimer(ITIMER_REAL, &never, NULL);
	for (int r = 0; r < REGIONS; r++)
		for (int p = 0; p < PAGES; p++)
			check_page(r, p);
	done();
}
