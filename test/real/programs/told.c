/* What threads and memory have been told, which only the process itself can set again: NUMA policies, locks, seals, and what prctl(2) sets. */
#include "selfcheck.h"
#include <pthread.h>
#include <sys/syscall.h>

enum { WIPE, FAULT, SEAL, KINDS };

static char *memory[KINDS];
static int *broken, mdwe, seal, numa, merge, locked;
static const size_t size = 3 * 4096;

static void damage(int kind)
{
	*broken = kind;
}

/* flags are those that the kernel shows of the mapping at an address. */
static int has(const void *at, const char *flag)
{
	FILE *f = fopen("/proc/self/smaps", "r");
	unsigned long start, end;
	char line[4096];
	int in = 0, found = -1;

	CHECK(f != NULL);
	while (found < 0 && fgets(line, sizeof line, f))
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			in = (unsigned long)at >= start && (unsigned long)at < end;
		else if (in && strncmp(line, "VmFlags:", 8) == 0)
			found = strstr(line, flag) != NULL;
	fclose(f);
	CHECK(found >= 0);
	return found;
}

static int policy(void)
{
	unsigned long nodes[16];
	int mode = -1;

	CHECK(syscall(SYS_get_mempolicy, &mode, nodes, 1024, 0, 0) == 0);
	return nodes[0] == 1 ? mode : -1;
}

static void own(int mode, int early)
{
	unsigned long node = 1;

	numa = syscall(SYS_set_mempolicy, mode, &node, 64) == 0;
	CHECK(prctl(PR_MCE_KILL, PR_MCE_KILL_SET, early, 0, 0) == 0);
}

static void check(int mode, int early)
{
	if (numa)
		EQUAL(policy(), mode);
	EQUAL(prctl(PR_MCE_KILL_GET, 0, 0, 0, 0), early);
}

static void *body(void *arg)
{
	own(2, PR_MCE_KILL_LATE);
	do {
		if (*broken == 1)
			CHECK(prctl(PR_MCE_KILL, PR_MCE_KILL_CLEAR, 0, 0, 0) == 0);
		check(2, PR_MCE_KILL_LATE);
		msleep(5);
	} while (!exists("end"));
	return arg;
}

int main(int argc, char **argv)
{
	pthread_t thread;

	start(argc, argv, 4);
	broken = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(broken != MAP_FAILED);
	for (int i = 0; i < KINDS; i++) {
		CHECK((memory[i] = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) != MAP_FAILED);
		memset(memory[i], 'a' + i, 4096);
		CHECK(mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
	}
	CHECK(pthread_create(&thread, NULL, body, NULL) == 0);
	CHECK(madvise(memory[WIPE], size, MADV_WIPEONFORK) == 0);
	CHECK(mlock2(memory[FAULT], size, MLOCK_ONFAULT) == 0);
	locked = mlockall(MCL_FUTURE | MCL_ONFAULT) == 0;
	seal = syscall(462, memory[SEAL], size, 0) == 0;
	merge = prctl(67, 1, 0, 0, 0) == 0;		/* PR_SET_MEMORY_MERGE */
	own(3, PR_MCE_KILL_EARLY);
	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	mdwe = prctl(65, 1, 0, 0, 0) == 0;		/* PR_SET_MDWE */
	ready();
	while (running()) {
		if (*broken == 2)
			CHECK(munlockall() == 0);
		if (*broken == 3)
			CHECK(madvise(memory[WIPE], size, 19) == 0);	/* MADV_KEEPONFORK */
		if (*broken == 4 && merge)
			CHECK(prctl(67, 0, 0, 0, 0) == 0);
		check(3, PR_MCE_KILL_EARLY);
		for (int i = 0; i < KINDS; i++) {
			EQUAL(memory[i][4095], 'a' + i);
			EQUAL(memory[i][4096], 0);
		}
		EQUAL(has(memory[WIPE], " wf "), 1);
		EQUAL(has(memory[FAULT], " lf "), 1);
		EQUAL(has(memory[SEAL], " sl "), seal);
		if (locked) {
			char *fresh = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

			CHECK(fresh != MAP_FAILED);
			EQUAL(has(fresh, " lf "), 1);
			CHECK(munmap(fresh, size) == 0);
		}
		if (merge)
			EQUAL(prctl(68, 0, 0, 0, 0), *broken == 4 ? 2 : 1);
		EQUAL(prctl(66, 0, 0, 0, 0) == 1, mdwe);
	}
	CHECK(pthread_join(thread, NULL) == 0);
	done();
}
