/* All progress is made by SIGALRM, of a timer that is set again each time for once. */
#include "selfcheck.h"
#include <sys/time.h>

static volatile unsigned long handled;

static void on_alarm(int sig)
{
	struct itimerval again = { { 0, 0 }, { 0, 5000 } };

	(void)sig;
	handled++;
	setitimer(ITIMER_REAL, &again, NULL);
}

static void damage(int kind)
{
	(void)kind;
	signal(SIGALRM, SIG_DFL);	/* and die of the next one */
}

int main(int argc, char **argv)
{
	sigset_t alrm, old;
	unsigned long want = 0;

	start(argc, argv, 1);
	sigemptyset(&alrm);
	sigaddset(&alrm, SIGALRM);
	sigprocmask(SIG_BLOCK, &alrm, &old);
	signal(SIGALRM, on_alarm);
	ready();
	raise(SIGALRM);
	do {
		/* A restart ends it early at most once; then nothing was handled. */
		while (handled == want)
			sigsuspend(&old);
		want++;
		EQUAL(handled, want);
	} while (running());
	done();
}
