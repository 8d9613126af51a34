/* Signals read from a descriptor, one of them waiting there all the time. */
#include "selfcheck.h"
#include <sys/signalfd.h>

static int fd, other;

static void damage(int kind)
{
	struct signalfd_siginfo i;
	sigset_t set;

	if (kind == 1) {
		CHECK(read(other, &i, sizeof i) == sizeof i);
	} else {
		sigemptyset(&set);
		sigaddset(&set, SIGHUP);
		CHECK(signalfd(fd, &set, 0) == fd);
	}
}

int main(int argc, char **argv)
{
	struct signalfd_siginfo i;
	sigset_t set, one;

	start(argc, argv, 2);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGUSR2);
	sigprocmask(SIG_BLOCK, &set, NULL);
	sigemptyset(&one);
	sigaddset(&one, SIGUSR1);
	fd = signalfd(-1, &one, SFD_NONBLOCK);
	sigemptyset(&one);
	sigaddset(&one, SIGUSR2);
	other = signalfd(-1, &one, SFD_NONBLOCK | SFD_CLOEXEC);
	CHECK(fd >= 0 && other >= 0);
	sigqueue(self, SIGUSR2, (union sigval){ .sival_int = 4242 });
	ready();
	while (running()) {
		EQUAL(read(fd, &i, sizeof i), -1);
		CHECK(kill(self, SIGUSR1) == 0);
		EQUAL(read(fd, &i, sizeof i), sizeof i);
		EQUAL(i.ssi_signo, SIGUSR1);
		EQUAL(i.ssi_pid, self);
		sigpending(&set);
		EQUAL(sigismember(&set, SIGUSR2), 1);
	}
	EQUAL(read(other, &i, sizeof i), sizeof i);
	EQUAL(i.ssi_signo, SIGUSR2);
	EQUAL(i.ssi_int, 4242);
	done();
}
