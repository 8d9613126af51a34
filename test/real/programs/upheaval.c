/* Threads that do to their memory whatever a program can do to it, each to memory of its
   own, and check every page that they touch: advice, moves, new mappings, locks, reads and
   writes of the kernel's and of other processes, children, programs, threads, stacks. */
#include "selfcheck.h"
#include <linux/futex.h>
#include <pthread.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>

enum { WORKERS = 3, REGIONS = 20, PAGES = 512, FIXED = 3, MOST = 64, PAGE = 4096, FILED = 256 };

#ifndef MADV_COLD
#define MADV_COLD 20
#define MADV_PAGEOUT 21
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

struct worker {
	int number, file;
	uint64_t state;
	uint32_t last;
	char *mem[REGIONS];
	uint32_t seeds[REGIONS][PAGES];	/* 0: the page is zeros */
	char *filed;			/* a private mapping of a file */
	uint32_t changed[FILED];	/* 0: the page is the file's */
	char buffer[PAGE] __attribute__((aligned(PAGE)));
};

static struct worker workers[WORKERS];
static volatile int stopping;
static char *heap;
static size_t heap_pages;
static uint32_t heap_seeds[1024];
static struct { uint64_t wrote, seen; } *lockstep[2];	/* of two threads, a page each */

static uint64_t next(uint64_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 7;
	return *s ^= *s << 17;
}

static uint64_t word(uint32_t seed, int i)
{
	return seed ? ((uint64_t)seed << 20 ^ i) * 0x9e3779b97f4a7c15u | 1 : 0;
}

static char *at(struct worker *w, int r, int p) { return w->mem[r] + (size_t)p * PAGE; }

static void check_as(const void *page, uint32_t seed, const char *what, int r, int p)
{
	const uint64_t *v = page;

	for (int i = 0; i < 512; i += i % 64 == 63 ? 1 : 9)
		if (v[i] != word(seed, i))
			wrong("%s: region %d, page %d at %p, word %d is %#lx, want %#lx", what, r, p, page, i,
				(unsigned long)v[i], (unsigned long)word(seed, i));
}

static void check_page(struct worker *w, int r, int p, const char *what)
{
	check_as(at(w, r, p), w->seeds[r][p], what, r, p);
}

static void check_pages(struct worker *w, int r, int p, int n, const char *what)
{
	for (int i = p; i < p + n; i++)
		check_page(w, r, i, what);
}

static uint32_t write_as(void *page, uint32_t seed)
{
	for (int i = 0; i < 512; i++)
		((uint64_t *)page)[i] = word(seed, i);
	return seed;
}

static uint32_t new_seed(struct worker *w) { return w->last = (w->last + WORKERS) & 0x7fffffff; }

static void write_page(struct worker *w, int r, int p) { w->seeds[r][p] = write_as(at(w, r, p), new_seed(w)); }

static void forget(struct worker *w, int r, int p, int n) { memset(&w->seeds[r][p], 0, n * sizeof w->seeds[r][p]); }

static void damage(int kind)
{
	*(uint64_t *)at(&workers[kind - 1], kind == 1 ? 1 : REGIONS - 1, 77) ^= 1;
	for (int r = 0; r < REGIONS; r++)	/* the page may just be given up */
		at(&workers[kind - 1], r, 33)[0] ^= 4;
}

/* whole transfers all, however often the program is saved meanwhile. */
static void whole(ssize_t (*call)(int, void *, size_t), int fd, void *p, size_t n)
{
	for (size_t done = 0; done < n;) {
		ssize_t got = call(fd, (char *)p + done, n - done);

		if (got < 0)
			INTERRUPTED();
		else if (got == 0)
			wrong("the end of a pipe");
		else
			done += got;
	}
}

static ssize_t write_out(int fd, void *p, size_t n) { return write(fd, p, n); }

static ssize_t splice_out(int fd, void *p, size_t n)
{
	struct iovec v = { p, n };

	return vmsplice(fd, &v, 1, 0);
}

/* on_signal checks what never changes, on a stack of its own. */
static void on_signal(int sig)
{
	static __thread uint64_t state = 4711;
	struct worker *w = &workers[next(&state) % WORKERS];

	(void)sig;
	check_page(w, next(&state) % FIXED, next(&state) % PAGES, "signal");
}

static void *checks_some(void *arg)
{
	struct worker *w = arg;

	check_page(w, w->state % FIXED, w->state / 7 % PAGES, "thread");
	return arg;
}

static int deep(struct worker *w, int depth)
{
	volatile char room[PAGE];

	memset((void *)room, depth, sizeof room);
	check_page(w, depth % FIXED, depth * 7 % PAGES, "deep");
	if (depth > 0 && deep(w, depth - 1) != depth - 1)
		wrong("deep");
	for (int i = 0; i < PAGE; i++)
		if (room[i] != (char)depth)
			wrong("stack at depth %d", depth);
	return depth;
}

static void waits_for(pid_t pid, int want)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		CHECK(errno == EINTR);
	if (status != want << 8)
		wrong("a child ends with %#x, want %d", status, want);
}

static void checks_as_child(struct worker *w)
{
	for (int i = 0; i < 40; i++) {
		int r = next(&w->state) % REGIONS, p = next(&w->state) % PAGES;

		check_page(w, r, p, "child");
		if (i % 4 == 0)
			write_page(w, r, p);
		if (i % 10 == 9) {
			p = next(&w->state) % (PAGES - 8);
			CHECK(madvise(at(w, r, p), 8 * PAGE, MADV_DONTNEED) == 0);
			forget(w, r, p, 8);
		}
		check_page(w, r, p, "child");
	}
}

/* reads_parent reads a page of the parent, which waits and does not change it. */
static void reads_parent(struct worker *w, int r, int p)
{
	struct iovec to = { w->buffer, PAGE }, from = { at(w, r, p), PAGE };

	CHECK(process_vm_readv(getppid(), &to, 1, &from, 1, 0) == PAGE);
	check_as(w->buffer, w->seeds[r][p], "parent", r, p);
	write_as(w->buffer, 1 + p);
	CHECK(process_vm_writev(getppid(), &to, 1, &from, 1, 0) == PAGE);
}

static void anew(struct worker *w, int r, int p, int n)
{
	if (n == 0)
		return;
	CHECK(mmap(at(w, r, p), (size_t)n * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == at(w, r, p));
	forget(w, r, p, n);
}

/* move_off moves memory, unless it is in more than one mapping. With MREMAP_FIXED, Linux
   6.17 may move the first of them before it finds that out. */
static char *move_off(char *from, size_t size)
{
	char *to = mremap(from, size, size, MREMAP_MAYMOVE | MREMAP_DONTUNMAP);

	return to == MAP_FAILED ? NULL : to;
}

static void move_back(char *from, char *to, size_t size)
{
	CHECK(mremap(from, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
}

static void change(struct worker *w)
{
	int r = FIXED + next(&w->state) % (REGIONS - FIXED), p = next(&w->state) % PAGES, n = 1 + next(&w->state) % MOST;
	int kind = next(&w->state) % 43, fds[2];
	struct iovec mine, theirs;
	char *a, *to, *arg[] = { "true", NULL };
	size_t size;
	pthread_t t;
	pthread_attr_t attr;
	uint32_t seed;
	pid_t pid;

	if (n > PAGES - p)
		n = PAGES - p;
	a = at(w, r, p);
	size = (size_t)n * PAGE;
	switch (kind) {
	case 0:
		CHECK(madvise(a, size, MADV_DONTNEED) == 0);
		forget(w, r, p, n);
		check_pages(w, r, p, n, "DONTNEED");
		break;
	case 1:
		CHECK(madvise(a, size, MADV_FREE) == 0);
		for (int i = 0; i < n; i++) {
			volatile uint64_t *first = (uint64_t *)at(w, r, p + i);
			uint32_t had = w->seeds[r][p + i];
			uint64_t v = *first;

			*first = v;	/* now it stays as it is */
			if (*first == v && v != word(had, 0) && v != 0)
				wrong("FREE: word is %#lx", (unsigned long)v);
			write_page(w, r, p + i);
		}
		break;
	case 2:
		CHECK(madvise(a, size, MADV_WILLNEED) == 0 || errno == EBADF);
		check_pages(w, r, p, n, "WILLNEED");
		break;
	case 3:
		madvise(w->mem[r], (size_t)PAGES * PAGE, next(&w->state) % 2 ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
		write_page(w, r, p);
		break;
	case 4:
		CHECK(madvise(a, size, MADV_POPULATE_READ) == 0 || errno == EINTR || errno == EINVAL);
		check_pages(w, r, p, n, "POPULATE_READ");
		break;
	case 5:
		CHECK(madvise(a, size, MADV_POPULATE_WRITE) == 0 || errno == EINTR || errno == EINVAL);
		check_pages(w, r, p, n, "POPULATE_WRITE");
		break;
	case 6:
		madvise(a, size, MADV_COLD);
		madvise(a, size, MADV_PAGEOUT);
		check_pages(w, r, p, n, "COLD");
		break;
	case 7:
		madvise(w->mem[r], (size_t)PAGES * PAGE, MADV_COLLAPSE);
		check_pages(w, r, p, n, "COLLAPSE");
		break;
	case 8:
		madvise(a, size, next(&w->state) % 2 ? MADV_MERGEABLE : MADV_UNMERGEABLE);
		check_pages(w, r, p, n, "MERGEABLE");
		break;
	/* The place stays mapped, as others would get it. */
	case 9: case 10: case 11:
		if (!(to = move_off(a, size)))
			break;
		if (kind == 10)
			check_as(to + size - PAGE, w->seeds[r][p + n - 1], "moved", r, p + n - 1);
		if (kind == 11) {
			CHECK(madvise(to, PAGE, MADV_DONTNEED) == 0);
			w->seeds[r][p] = 0;
		}
		move_back(to, a, size);
		check_pages(w, r, p, n, "moved there and back");
		break;
	case 12: {
		size_t all = (size_t)PAGES * PAGE;

		if (!(to = move_off(w->mem[r], all)))
			break;
		CHECK(munmap(w->mem[r], all) == 0);
		w->mem[r] = mmap(NULL, all, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		CHECK(w->mem[r] != MAP_FAILED);
		move_back(to, w->mem[r], all);
		check_pages(w, r, p, n, "moved");
		break;
	}
	case 13:
		to = mremap(a, size, size, MREMAP_MAYMOVE | MREMAP_DONTUNMAP);
		if (to == MAP_FAILED)
			break;
		for (int i = 0; i < n; i++)
			check_as(a + i * PAGE, 0, "left behind", r, p + i);
		for (int i = 0; i < n; i += 3)
			check_as(to + i * PAGE, w->seeds[r][p + i], "moved off", r, p + i);
		CHECK(mremap(to, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, a) == a);
		check_pages(w, r, p, n, "moved back");
		break;
	case 14:
		if (!(to = move_off(a, size)))
			break;
		CHECK(mremap(to, size, (size_t)(n + 1) / 2 * PAGE, 0) == to);
		{
			char *larger = mremap(to, (size_t)(n + 1) / 2 * PAGE, size, MREMAP_MAYMOVE);

			if (larger != MAP_FAILED) {
				move_back(larger, a, size);
				forget(w, r, p + (n + 1) / 2, n / 2);
			} else {	/* it is in more than one mapping */
				move_back(to, a, (size_t)(n + 1) / 2 * PAGE);
				anew(w, r, p + (n + 1) / 2, n / 2);
			}
		}
		check_pages(w, r, p, n, "smaller, and larger again");
		break;
	case 15:
		if (next(&w->state) % 8)
			break;
		CHECK(munmap(w->mem[r], (size_t)PAGES * PAGE) == 0);
		w->mem[r] = mmap(NULL, (size_t)PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		CHECK(w->mem[r] != MAP_FAILED);
		forget(w, r, 0, PAGES);
		for (int i = 0; i < PAGES; i += 5)
			write_page(w, r, i);
		check_pages(w, r, p, n, "mapped anew");
		break;
	case 16:
		anew(w, r, p, n);
		write_page(w, r, p);
		check_pages(w, r, p, n, "mapped over");
		break;
	case 17:
		CHECK(mmap(a, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == a);
		for (int i = 0; i < n; i += 5)
			check_as(a + i * PAGE, 0, "shared", r, p + i);
		anew(w, r, p, n);
		break;
	case 18:
		CHECK(mprotect(a, size, PROT_READ) == 0);
		check_pages(w, r, p, n, "READ");
		CHECK(mprotect(a, size, PROT_NONE) == 0 && mprotect(a, size, PROT_READ | PROT_WRITE) == 0);
		check_pages(w, r, p, n, "NONE");
		break;
	case 19:
		CHECK(mlock(a, size) == 0);
		check_pages(w, r, p, n, "locked");
		CHECK(munlock(a, size) == 0);
		break;
	case 20:
		CHECK(syscall(SYS_mlock2, a, size, 1) == 0);
		check_pages(w, r, p, n, "locked on fault");
		CHECK(munlock(a, size) == 0);
		break;
	case 21: case 22: case 23:	/* in and out by a pipe */
		CHECK(pipe(fds) == 0);
		whole(kind == 21 ? splice_out : write_out, fds[1], a, PAGE);
		whole(read, fds[0], w->buffer, PAGE);
		check_as(w->buffer, w->seeds[r][p], kind == 21 ? "vmsplice" : "write", r, p);
		if (kind == 23) {
			seed = write_as(w->buffer, new_seed(w));
			whole(write_out, fds[1], w->buffer, PAGE);
			whole(read, fds[0], a, PAGE);
			w->seeds[r][p] = seed;
			check_page(w, r, p, "read");
		}
		close(fds[0]);
		close(fds[1]);
		break;
	case 24:
		CHECK(pwrite(w->file, a, PAGE, 0) == PAGE);
		CHECK(pread(w->file, w->buffer, PAGE, 0) == PAGE);
		check_as(w->buffer, w->seeds[r][p], "pwrite", r, p);
		write_as(w->buffer, seed = new_seed(w));
		CHECK(pwrite(w->file, w->buffer, PAGE, 0) == PAGE);
		CHECK(pread(w->file, a, PAGE, 0) == PAGE);
		w->seeds[r][p] = seed;
		check_page(w, r, p, "pread");
		break;
	case 25:
		mine.iov_base = w->buffer;
		theirs.iov_base = a;
		mine.iov_len = theirs.iov_len = PAGE;
		CHECK(process_vm_readv(self, &mine, 1, &theirs, 1, 0) == PAGE);
		check_as(w->buffer, w->seeds[r][p], "process_vm_readv", r, p);
		write_as(w->buffer, seed = new_seed(w));
		CHECK(process_vm_writev(self, &mine, 1, &theirs, 1, 0) == PAGE);
		w->seeds[r][p] = seed;
		check_page(w, r, p, "process_vm_writev");
		break;
	case 26:
		fds[0] = open("/proc/self/mem", O_RDWR);
		if (fds[0] < 0)
			break;
		/* The kernel reads so only what is there. */
		if (pread(fds[0], w->buffer, PAGE, (off_t)a) == PAGE)
			check_as(w->buffer, w->seeds[r][p], "/proc/self/mem", r, p);
		close(fds[0]);
		break;
	case 27: case 28:
		if (next(&w->state) % 6)
			break;
		CHECK((pid = fork()) >= 0);
		if (pid == 0) {
			checks_as_child(w);
			if (kind == 28) {
				CHECK((pid = fork()) >= 0);
				if (pid == 0) {
					checks_as_child(w);
					_exit(9);
				}
				checks_as_child(w);
				waits_for(pid, 9);
			}
			_exit(7);
		}
		for (int i = 0; i < 20; i++)
			write_page(w, FIXED + next(&w->state) % (REGIONS - FIXED), next(&w->state) % PAGES);
		waits_for(pid, 7);
		break;
	case 29:
		if (next(&w->state) % 6)
			break;
		CHECK((pid = fork()) >= 0);
		if (pid == 0) {
			reads_parent(w, r, p);
			_exit(8);
		}
		waits_for(pid, 8);
		w->seeds[r][p] = 1 + p;
		check_page(w, r, p, "written by a child");
		break;
	case 30:
		if (next(&w->state) % 8)
			break;
		if (next(&w->state) % 2) {
			CHECK(posix_spawn(&pid, "/bin/true", NULL, NULL, arg, NULL) == 0);
		} else if ((pid = fork()) == 0) {
			execl("/bin/true", "true", NULL);
			_exit(99);
		}
		waits_for(pid, 0);
		break;
	case 31:
		/* Its page need not be there. */
		CHECK(syscall(SYS_futex, a, FUTEX_WAIT_PRIVATE, (uint32_t)word(w->seeds[r][p], 0) + 1, NULL, NULL, 0) < 0 && errno == EAGAIN);
		CHECK(syscall(SYS_futex, a + 64, FUTEX_WAKE, 1, NULL, NULL, 0) == 0);
		check_page(w, r, p, "futex");
		break;
	case 32:
		if (next(&w->state) % 4)
			break;
		pthread_attr_init(&attr);
		pthread_attr_setstacksize(&attr, 256 << 10);
		CHECK(pthread_create(&t, &attr, checks_some, w) == 0);
		pthread_attr_destroy(&attr);
		CHECK(pthread_join(t, NULL) == 0);
		break;
	case 33:
		deep(w, next(&w->state) % 60);
		break;
	case 34:
		to = mmap(NULL, 64 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		CHECK(to != MAP_FAILED && munmap(to, 64 * PAGE) == 0);
		break;
	case 35:	/* a private mapping of a file: what is given up is the file's again */
		p %= FILED;
		to = w->filed + (size_t)p * PAGE;
		check_as(to, w->changed[p] ? w->changed[p] : 1000u + p, "private file", -1, p);
		if (next(&w->state) % 2) {
			w->changed[p] = write_as(to, new_seed(w) | 0x80000000);
		} else {
			CHECK(madvise(to, PAGE, MADV_DONTNEED) == 0);
			w->changed[p] = 0;
		}
		break;
	case 36:
		syscall(SYS_tgkill, self, syscall(SYS_gettid), SIGUSR1);
		break;
	case 37:
		mincore(a, size, (unsigned char *)w->buffer);
		msync(a, size, MS_SYNC);
		check_page(w, r, p, "mincore");
		break;
	default:
		write_page(w, r, p);
		p = next(&w->state) % PAGES;
		check_page(w, next(&w->state) % REGIONS, p, "any");
	}
}

static void alternate_stack(void)
{
	stack_t s = { .ss_size = 64 << 10 };

	s.ss_sp = mmap(NULL, s.ss_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(s.ss_sp != MAP_FAILED && sigaltstack(&s, NULL) == 0);
}

static void *works(void *arg)
{
	alternate_stack();
	while (!stopping)
		change(arg);
	return NULL;
}

/* in_step: what one thread writes second is never newer than what it wrote first, in
   pages that are far apart. */
static void *in_step(void *arg)
{
	size_t apart = PAGE / sizeof *lockstep[0];
	int writer = arg == NULL;

	for (uint64_t n = 1; !stopping; n++)
		for (int i = 0; i < 64; i++)
			if (writer) {
				__atomic_store_n(&lockstep[0][i * apart].wrote, n, __ATOMIC_SEQ_CST);
				__atomic_store_n(&lockstep[1][(63 - i) * apart].wrote, n, __ATOMIC_SEQ_CST);
			} else {
				uint64_t second = __atomic_load_n(&lockstep[1][(63 - i) * apart].wrote, __ATOMIC_SEQ_CST);
				uint64_t first = __atomic_load_n(&lockstep[0][i * apart].wrote, __ATOMIC_SEQ_CST);

				if (second > first)
					wrong("lock-step: page %d is at %lu, and was at %lu before", i, (unsigned long)first, (unsigned long)second);
			}
	return NULL;
}

/* change_heap lets the heap grow and shrink. Only this thread uses it. */
static void change_heap(uint64_t *state)
{
	size_t n = next(state) % 200;

	for (size_t i = 0; i < heap_pages; i += 1 + next(state) % 7)
		check_as(heap + i * PAGE, heap_seeds[i], "heap", 0, i);
	if (sbrk(0) != heap + heap_pages * PAGE)
		wrong("the heap ends at %p", sbrk(0));
	if (heap_pages + n <= 1000 && next(state) % 2) {
		CHECK(sbrk(n * PAGE) == heap + heap_pages * PAGE);
		for (size_t i = heap_pages; i < heap_pages + n; i++) {
			check_as(heap + i * PAGE, 0, "new heap", 0, i);
			heap_seeds[i] = i % 3 ? write_as(heap + i * PAGE, next(state) & 0x7fffffff) : 0;
		}
		heap_pages += n;
	} else if (n < heap_pages) {
		heap_pages -= n;
		CHECK(sbrk(-(intptr_t)(n * PAGE)) != (void *)-1);
	}
}

static void set_up(struct worker *w, int number)
{
	char name[32];
	int fd;

	w->number = number;
	w->last = 5000 + number;
	w->state = 88172645463325252u + number;
	for (int r = 0; r < REGIONS; r++) {
		w->mem[r] = mmap(NULL, (size_t)PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		CHECK(w->mem[r] != MAP_FAILED);
		for (int p = 0; p < PAGES; p++)
			if (p % 50 < 45)
				write_page(w, r, p);
	}
	snprintf(name, sizeof name, "filed.%d", number);
	fd = open(path(name), O_RDWR | O_CREAT, 0600);
	CHECK(fd >= 0 && ftruncate(fd, FILED * PAGE) == 0);
	for (int p = 0; p < FILED; p++) {
		write_as(w->buffer, 1000 + p);
		CHECK(pwrite(fd, w->buffer, PAGE, p * PAGE) == PAGE);
	}
	w->filed = mmap(NULL, FILED * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	CHECK(w->filed != MAP_FAILED);
	close(fd);
	w->file = memfd_create("scratch", 0);
	CHECK(w->file >= 0);
}

int main(int argc, char **argv)
{
	struct itimerval often = { { 0, 5000 }, { 0, 5000 } }, never = { { 0, 0 }, { 0, 0 } };
	struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART | SA_ONSTACK };
	pthread_t threads[WORKERS + 2];
	uint64_t state = 12345;

	start(argc, argv, 2);
	for (int i = 0; i < WORKERS; i++)
		set_up(&workers[i], i);
	for (int i = 0; i < 2; i++) {
		lockstep[i] = mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		CHECK(lockstep[i] != MAP_FAILED);
	}
	sigaction(SIGALRM, &action, NULL);
	sigaction(SIGUSR1, &action, NULL);
	alternate_stack();
	for (int i = 0; i < WORKERS; i++)
		CHECK(pthread_create(&threads[i], NULL, works, &workers[i]) == 0);
	for (int i = 0; i < 2; i++)
		CHECK(pthread_create(&threads[WORKERS + i], NULL, in_step, i ? &workers : NULL) == 0);
	heap = sbrk(0);
	CHECK(sbrk(PAGE - (uintptr_t)heap % PAGE) == heap);
	heap = sbrk(0);
	setitimer(ITIMER_REAL, &often, NULL);
	ready();
	while (running())
		for (int i = 0; i < 5; i++)
			change_heap(&state);
	setitimer(ITIMER_REAL, &never, NULL);
	stopping = 1;
	for (int i = 0; i < WORKERS + 2; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
	for (int i = 0; i < WORKERS; i++) {
		struct worker *w = &workers[i];

		for (int r = 0; r < REGIONS; r++)
			check_pages(w, r, 0, PAGES, "at the end");
	}
	done();
}
