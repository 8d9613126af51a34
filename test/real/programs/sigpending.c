/*
 * Signals pending, blocked: a standard one, and real-time ones queued with values, to the
 * process and to the thread; unblocked at the end they come in order, each once.
 */
#include "selfcheck.h"
#include <pthread.h>

static int got_usr2, got_rt, values[16];

static void on_usr2(int sig) { (void)sig; got_usr2++; }

static void on_rt(int sig, siginfo_t *info, void *context)
{
	(void)sig, (void)context;
	if (got_rt < 16)
		values[got_rt] = info->si_code == SI_QUEUE && info->si_pid == self ? info->si_value.sival_int : -1;
	got_rt++;
}

static void damage(int kind)
{
	sigset_t set;
	struct timespec now = { 0, 0 };

	sigemptyset(&set);
	switch (kind) {
	case 1: sigaddset(&set, SIGUSR2); sigtimedwait(&set, NULL, &now); break;
	case 2: sigaddset(&set, SIGRTMIN + 3); sigtimedwait(&set, NULL, &now); break;
	case 3: sigaddset(&set, SIGRTMIN + 3); sigtimedwait(&set, NULL, &now);
		kill(self, SIGRTMIN + 3); break;
	case 4: sigaddset(&set, SIGRTMIN + 5); sigtimedwait(&set, NULL, &now); break;
	}
}

int main(int argc, char **argv)
{
	struct sigaction sa = { .sa_handler = on_usr2 };
	struct sigaction rt = { .sa_sigaction = on_rt, .sa_flags = SA_SIGINFO };
	sigset_t set, pending;
	int thread = 0;

	start(argc, argv, 4);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	sigaddset(&set, SIGRTMIN + 3);
	sigaddset(&set, SIGRTMIN + 5);
	sigaction(SIGUSR2, &sa, NULL);
	sigaction(SIGRTMIN + 3, &rt, NULL);
	sigaction(SIGRTMIN + 5, &rt, NULL);
	sigprocmask(SIG_BLOCK, &set, NULL);
	kill(self, SIGUSR2);
	for (int i = 0; i < 5; i++)
		CHECK(sigqueue(self, SIGRTMIN + 3, (union sigval){ .sival_int = 1000 + i }) == 0);
	CHECK(pthread_sigqueue(pthread_self(), SIGRTMIN + 5, (union sigval){ .sival_int = 77 }) == 0);
	ready();
	while (running()) {
		sigpending(&pending);
		for (int sig = 1; sig <= 64; sig++)
			EQUAL(sigismember(&pending, sig) == 1, sig == SIGUSR2 || sig == SIGRTMIN + 3 || sig == SIGRTMIN + 5);
		EQUAL(got_usr2 + got_rt, 0);
	}
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	EQUAL(got_usr2, 1);
	EQUAL(got_rt, 6);
	for (int want = 1000, i = 0; i < 6; i++)
		if (values[i] != 77)
			EQUAL(values[i], want++);
		else
			thread++;
	EQUAL(thread, 1);
	done();
}
