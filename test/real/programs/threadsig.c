/* Signals that are pending for one thread and blocked there, with their values. */
#include "selfcheck.h"
#include <pthread.h>

#define THREADS 4

static pthread_t thread[THREADS];
static volatile int spoil;
static pthread_barrier_t set_up;

static void damage(int kind)
{
	spoil = kind;
}

static void *body(void *arg)
{
	int number = (int)(long)arg;
	sigset_t set, pending;
	siginfo_t info;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGRTMIN + 7);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	CHECK(pthread_kill(pthread_self(), SIGUSR1) == 0);
	for (int i = 0; i < 3; i++)
		CHECK(pthread_sigqueue(pthread_self(), SIGRTMIN + 7, (union sigval){ .sival_int = 10 * number + i }) == 0);
	pthread_barrier_wait(&set_up);
	while (!child_ends()) {
		sigpending(&pending);
		EQUAL(sigismember(&pending, SIGUSR1), 1);
		EQUAL(sigismember(&pending, SIGRTMIN + 7), 1);
		if (spoil && number == 2) {
			sigwaitinfo(&set, &info);
			if (spoil == 2)
				sigwaitinfo(&set, &info);
			spoil = 0;
		}
	}
	EQUAL(sigwaitinfo(&set, &info), SIGUSR1);
	for (int i = 0; i < 3; i++) {
		EQUAL(sigwaitinfo(&set, &info), SIGRTMIN + 7);
		EQUAL(info.si_value.sival_int, 10 * number + i);
		EQUAL(info.si_pid, self);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	start(argc, argv, 2);
	pthread_barrier_init(&set_up, NULL, THREADS + 1);
	for (long i = 0; i < THREADS; i++)
		CHECK(pthread_create(&thread[i], NULL, body, (void *)i) == 0);
	pthread_barrier_wait(&set_up);
	ready();
	while (running()) {
		sigset_t pending;

		sigpending(&pending);
		EQUAL(sigismember(&pending, SIGUSR1), 0);
		CHECK(!exists("wrong"));
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
	done();
}
