/* Semaphores with names, by which a process and its child wait for each other. */
#include "selfcheck.h"
#include <semaphore.h>

static sem_t *there, *back;

static void drop(const char *which)
{
	char name[64];

	snprintf(name, sizeof(name), "/blcr-cli-%s.%d", which, (int)getpid());
	CHECK(sem_unlink(name) == 0);
}

static void damage(int kind)
{
	(void)kind;
	drop("there");
	drop("back");
	sem_post(back);
}

static sem_t *make(const char *which)
{
	static char name[64];
	sem_t *s;

	snprintf(name, sizeof(name), "/blcr-cli-%s.%d", which, (int)getpid());
	s = sem_open(name, O_CREAT | O_EXCL, 0600, 0);
	CHECK(s != SEM_FAILED);
	return s;
}

int main(int argc, char **argv)
{
	int status, value;
	long *count, n = 0;
	pid_t child;

	start(argc, argv, 1);
	there = make("there");
	back = make("back");
	count = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(count != MAP_FAILED);
	CHECK((child = fork()) >= 0);
	if (child == 0) {
		for (;;) {
			while (sem_wait(there) != 0)
				CHECK(errno == EINTR);
			if (*count < 0)
				_exit(8);
			++*count;
			CHECK(sem_post(back) == 0);
		}
	}
	ready();
	while (running()) {
		CHECK(sem_post(there) == 0);
		while (sem_wait(back) != 0)
			CHECK(errno == EINTR);
		EQUAL(*count, ++n);
		CHECK(sem_getvalue(back, &value) == 0);
		EQUAL(value, 0);
	}
	*count = -1;
	CHECK(sem_post(there) == 0);
	CHECK(waitpid(child, &status, 0) == child);
	EQUAL(status, 8 << 8);
	drop("there");
	drop("back");
	done();
}
