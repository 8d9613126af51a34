/* All progress is made by SIGALRM: the main program only waits for it. */
#include "selfcheck.h"
#include <sys/time.h>

static volatile unsigned long handled;

static void on_alarm(int sig)
{
	(void)sig;
	handled++;
}

static void damage(int kind)
{
	(void)kind;
	signal(SIGALRM, SIG_DFL);	/* and die of the next one */
}

int main(int argc, char **argv)
{
	struct itimerval often = { { 0, 5000 }, { 0, 5000 } };
	unsigned long last = 0;
	sigset_t alrm, old;

	start(argc, argv, 1);
	sigemptyset(&alrm);
	sigaddset(&alrm, SIGALRM);
	sigprocmask(SIG_BLOCK, &alrm, &old);
	signal(SIGALRM, on_alarm);
	ready();
	setitimer(ITIMER_REAL, &often, NULL);
	do {
		while (handled == last)
			sigsuspend(&old);
		last++;	/* it is blocked again after one */
		EQUAL(handled, last);
	} while (running());
	done();
}
