/*
 * Processes that wait in shared memory: for a semaphore, a process-shared mutex and
 * condition; woken up each time round, and waiting in between.
 */
#include "selfcheck.h"
#include <pthread.h>
#include <semaphore.h>

static struct shared {
	sem_t go, gone;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	int round, seen;
} *sh;
static pid_t waiter[2];

static void damage(int kind)
{
	switch (kind) {
	case 1: sem_post(&sh->go); break;
	case 2: kill(waiter[1], SIGKILL); break;
	}
}

int main(int argc, char **argv)
{
	pthread_mutexattr_t m;
	pthread_condattr_t c;

	start(argc, argv, 2);
	sh = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	sem_init(&sh->go, 1, 0);
	sem_init(&sh->gone, 1, 0);
	pthread_mutexattr_init(&m);
	pthread_mutexattr_setpshared(&m, PTHREAD_PROCESS_SHARED);
	pthread_mutex_init(&sh->lock, &m);
	pthread_condattr_init(&c);
	pthread_condattr_setpshared(&c, PTHREAD_PROCESS_SHARED);
	pthread_cond_init(&sh->cond, &c);
	if ((waiter[0] = fork()) == 0) {
		for (;;) {
			while (sem_wait(&sh->go))
				INTERRUPTED();
			if (exists("end"))
				_exit(16);
			sem_post(&sh->gone);
		}
	}
	if ((waiter[1] = fork()) == 0) {
		pthread_mutex_lock(&sh->lock);
		while (sh->round >= 0) {
			sh->seen = sh->round;
			pthread_cond_wait(&sh->cond, &sh->lock);
		}
		pthread_mutex_unlock(&sh->lock);
		_exit(17);
	}
	ready();
	while (running()) {
		int value, seen, tries = 0;

		sem_getvalue(&sh->gone, &value);
		EQUAL(value, 0);
		sem_post(&sh->go);
		while (sem_wait(&sh->gone))
			INTERRUPTED();
		pthread_mutex_lock(&sh->lock);
		sh->round++;
		pthread_cond_broadcast(&sh->cond);
		pthread_mutex_unlock(&sh->lock);
		do {
			if (tries++ > 3000)
				wrong("round %d is not seen", sh->round);
			msleep(1);
			pthread_mutex_lock(&sh->lock);
			seen = sh->seen;
			pthread_mutex_unlock(&sh->lock);
		} while (seen != sh->round);
	}
	sem_post(&sh->go);
	pthread_mutex_lock(&sh->lock);
	sh->round = -1;
	pthread_cond_broadcast(&sh->cond);
	pthread_mutex_unlock(&sh->lock);
	reap_child(waiter[0], 16);
	reap_child(waiter[1], 17);
	done();
}
