/*
 * Not of the suite's usual kind: for the tests of signals. It counts without any
 * system call; on SIGUSR1 a line with its count goes into the file `handled`.
 */
#include "selfcheck.h"

static void damage(int kind) { (void)kind; }

static volatile unsigned long spins;

static void on_usr1(int sig)
{
	char text[32];
	int fd, n;

	(void)sig;
	fd = open(path("handled"), O_WRONLY | O_CREAT | O_APPEND, 0644);
	n = snprintf(text, sizeof text, "%lu\n", spins);
	if (fd < 0 || write(fd, text, n) != n || close(fd))
		wrong("cannot write handled");
	beat();
}

int main(int argc, char **argv)
{
	start(argc, argv, 0);
	signal(SIGUSR1, on_usr1);
	beat();
	ready();
	for (;;)
		spins++;
	if (running())	/* not reached; so that it is used */
		done();
}
