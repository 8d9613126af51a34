/* What is done on each signal, with masks and flags, the blocked ones, the alternate stack. */
#include "selfcheck.h"

static char alt[65536];
static volatile int handled, on_alt, nested_masked;

static void handler(int sig)
{
	char here;
	sigset_t now;

	(void)sig;
	handled++;
	on_alt = &here >= alt && &here < alt + sizeof alt;
	sigprocmask(SIG_SETMASK, NULL, &now);
	nested_masked = sigismember(&now, SIGUSR2) && sigismember(&now, SIGRTMAX) && sigismember(&now, SIGUSR1);
}

static void info(int sig, siginfo_t *i, void *context)
{
	(void)sig, (void)context;
	handled += i->si_value.sival_int;
}

static void damage(int kind)
{
	stack_t off = { .ss_flags = SS_DISABLE };
	sigset_t set;

	switch (kind) {
	case 1: sigaltstack(&off, NULL); break;
	case 2: signal(SIGHUP, SIG_DFL); break;
	case 3: signal(SIGUSR1, handler); break;
	case 4: sigfillset(&set); sigprocmask(SIG_SETMASK, &set, NULL); break;
	case 5: signal(SIGTERM, SIG_IGN); break;
	}
}

int main(int argc, char **argv)
{
	struct sigaction a = { .sa_handler = handler, .sa_flags = SA_ONSTACK | SA_RESTART };
	struct sigaction b = { .sa_sigaction = info, .sa_flags = SA_SIGINFO | SA_RESETHAND };
	struct sigaction now;
	stack_t st = { .ss_sp = alt, .ss_size = sizeof alt }, got;
	sigset_t blocked, cur;

	start(argc, argv, 5);
	CHECK(sigaltstack(&st, NULL) == 0);
	sigemptyset(&a.sa_mask);
	sigaddset(&a.sa_mask, SIGUSR2);
	sigaddset(&a.sa_mask, SIGRTMAX);
	sigaction(SIGUSR1, &a, NULL);
	signal(SIGHUP, SIG_IGN);
	signal(SIGRTMIN + 10, SIG_IGN);
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGINT);
	sigaddset(&blocked, SIGRTMIN + 1);
	sigprocmask(SIG_SETMASK, &blocked, NULL);
	ready();
	while (running()) {
		int before = handled;

		sigaction(SIGUSR1, NULL, &now);
		CHECK(now.sa_handler == handler);
		EQUAL(now.sa_flags & (SA_ONSTACK | SA_RESTART | SA_SIGINFO | SA_RESETHAND), SA_ONSTACK | SA_RESTART);
		raise(SIGUSR1);
		EQUAL(handled, before + 1);
		EQUAL(on_alt, 1);
		EQUAL(nested_masked, 1);
		sigaction(SIGHUP, NULL, &now);
		CHECK(now.sa_handler == SIG_IGN);
		sigaction(SIGRTMIN + 10, NULL, &now);
		CHECK(now.sa_handler == SIG_IGN);
		sigaction(SIGTERM, NULL, &now);
		CHECK(now.sa_handler == SIG_DFL);
		sigprocmask(SIG_SETMASK, NULL, &cur);
		for (int sig = 1; sig < 65; sig++)
			if (sig != 32 && sig != 33)
				EQUAL(sigismember(&cur, sig), sig == SIGINT || sig == SIGRTMIN + 1);
		CHECK(sigaltstack(NULL, &got) == 0);
		CHECK(got.ss_sp == alt && got.ss_size == sizeof alt && got.ss_flags == 0);
		/* A handler for one time is there again after it was set again. */
		sigaction(SIGQUIT, &b, NULL);
		sigqueue(self, SIGQUIT, (union sigval){ .sival_int = 10 });
		EQUAL(handled, before + 11);
		sigaction(SIGQUIT, NULL, &now);
		CHECK(now.sa_handler == SIG_DFL);
	}
	done();
}
