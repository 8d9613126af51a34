/*
 * Eight threads, each with its own variables, name, signal mask and alternate stack, taking turns
 * under a mutex and a condition; a robust mutex held all the time by one of them.
 */
#include "selfcheck.h"
#include <pthread.h>
#include <sys/syscall.h>

#define THREADS 8

static __thread int number = -1;
static __thread unsigned char mine[5000];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t turn_changed = PTHREAD_COND_INITIALIZER;
static pthread_mutex_t robust;
static int turn, finished, broken;
static unsigned long turns[THREADS];
static pid_t tids[THREADS];

static void damage(int kind)
{
	broken = kind;
}

static void *body(void *arg)
{
	char name[16], got[16];
	sigset_t set, now;
	stack_t st, st_now;

	number = (int)(long)arg;
	fill(mine, sizeof mine, number);
	tids[number] = syscall(SYS_gettid);
	snprintf(name, sizeof name, "thread-%d", number);
	prctl(PR_SET_NAME, name);
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + number);
	pthread_sigmask(SIG_SETMASK, &set, NULL);
	st = (stack_t){ .ss_sp = malloc(32768), .ss_size = 32768 };
	CHECK(sigaltstack(&st, NULL) == 0);
	if (number == 3)	/* and ends with it */
		CHECK(pthread_mutex_lock(&robust) == 0);
	pthread_mutex_lock(&lock);
	while (!finished) {
		while (turn % THREADS != number && !finished)
			pthread_cond_wait(&turn_changed, &lock);
		if (broken == 1 && number == 4)
			mine[77] ^= 1;
		if (broken == 2 && number == 5)
			prctl(PR_SET_NAME, "another");
		if (broken == 3 && number == 6) {
			sigaddset(&set, SIGUSR1);
			pthread_sigmask(SIG_SETMASK, &set, NULL);
			sigdelset(&set, SIGUSR1);
		}
		if (broken == 4 && number == 3)
			pthread_mutex_unlock(&robust);
		check_fill(mine, sizeof mine, number, "thread-local memory");
		EQUAL(syscall(SYS_gettid), tids[number]);
		prctl(PR_GET_NAME, got);
		CHECK(strcmp(got, name) == 0);
		pthread_sigmask(SIG_SETMASK, NULL, &now);
		CHECK(memcmp(&now, &set, 8) == 0);
		sigaltstack(NULL, &st_now);
		CHECK(st_now.ss_sp == st.ss_sp && st_now.ss_size == st.ss_size);
		turns[number]++;
		turn++;
		pthread_cond_broadcast(&turn_changed);
	}
	pthread_mutex_unlock(&lock);
	return (void *)(long)(100 + number);
}

int main(int argc, char **argv)
{
	pthread_t thread[THREADS];
	pthread_mutexattr_t attr;
	void *end;

	start(argc, argv, 4);
	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	pthread_mutex_init(&robust, &attr);
	for (long i = 0; i < THREADS; i++)
		CHECK(pthread_create(&thread[i], NULL, body, (void *)i) == 0);
	while (__atomic_load_n(&turn, __ATOMIC_RELAXED) < 100)
		msleep(1);
	ready();
	while (running()) {
		int before, tries = 0;

		pthread_mutex_lock(&lock);
		before = turn;
		pthread_mutex_unlock(&lock);
		do {
			if (tries++ > 3000)
				wrong("the threads stand still at turn %d", before);
			msleep(1);
		} while (__atomic_load_n(&turn, __ATOMIC_RELAXED) < before + 16);
		EQUAL(pthread_mutex_trylock(&robust), EBUSY);
		EQUAL(number, -1);
	}
	pthread_mutex_lock(&lock);
	finished = 1;
	pthread_cond_broadcast(&turn_changed);
	pthread_mutex_unlock(&lock);
	for (int i = 0; i < THREADS; i++) {
		CHECK(pthread_join(thread[i], &end) == 0);
		EQUAL((long)end, 100 + i);
		CHECK(turns[i] == turns[0] || turns[i] + 1 == turns[0]);
	}
	/* The kernel still knows of it: its owner died holding it. */
	EQUAL(pthread_mutex_lock(&robust), EOWNERDEAD);
	done();
}
