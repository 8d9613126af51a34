/*
 * Calls that wait for long, each in a child: none of them may come to its end before
 * its time. A restart may end some with EINTR, as a signal does; then there is
 * a rest, and the time is not over.
 */
#include "selfcheck.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>

enum { SLEEP, ABSOLUTE, POLL, SELECT, PPOLL, PAUSE, EPOLL, KINDS };
static pid_t child[KINDS];

static void damage(int kind)
{
	(void)kind;
	kill(child[PAUSE], SIGUSR1);
}

static void nothing(int sig) { (void)sig; }

static void finished(int sig)
{
	(void)sig;
	_exit(6);
}

__attribute__((noreturn))
static void early(const char *what, double begin)
{
	wrong("%s is over after %.3f s, its errno: %s", what, seconds(CLOCK_MONOTONIC) - begin, strerror(errno));
}

static void waits(int which)
{
	struct timespec t = { 600, 0 }, rest;
	struct pollfd none = { .fd = -1 };
	double begin = seconds(CLOCK_MONOTONIC);
	int ep = epoll_create1(0);

	switch (which) {
	case SLEEP:
		while (nanosleep(&t, &rest)) {
			INTERRUPTED();
			/* What was to come of it before is what is to come now. */
			if (rest.tv_sec < 500 || rest.tv_sec >= 600)
				wrong("nanosleep leaves %ld s", (long)rest.tv_sec);
			t = rest;
		}
		early("nanosleep", begin);
	case ABSOLUTE:
		clock_gettime(CLOCK_MONOTONIC, &t);
		t.tv_sec += 600;
		while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
			;
		early("clock_nanosleep", begin);
	case POLL:
		while (poll(&none, 1, 600000) < 0 && errno == EINTR)
			;
		early("poll", begin);
	case SELECT:
		while (select(0, NULL, NULL, NULL, &(struct timeval){ 600, 0 }) < 0 && errno == EINTR)
			;
		early("select", begin);
	case PPOLL:
		while (ppoll(&none, 1, &t, NULL) < 0 && errno == EINTR)
			;
		early("ppoll", begin);
	case PAUSE:	/* ends by a signal that is handled, and by nothing else */
		signal(SIGUSR1, nothing);
		pause();
		early("pause", begin);
	case EPOLL: {
		struct epoll_event e;
		while (epoll_wait(ep, &e, 1, 600000) < 0 && errno == EINTR)
			;
		early("epoll_wait", begin);
	}
	}
}

int main(int argc, char **argv)
{
	start(argc, argv, 1);
	for (int i = 0; i < KINDS; i++) {
		if ((child[i] = fork()) == 0) {
			signal(SIGTERM, finished);
			waits(i);
		}
		while (state(child[i]) != 'S')
			msleep(1);
	}
	msleep(50);
	ready();
	while (running())
		for (int i = 0; i < KINDS; i++)
			CHECK(state(child[i]) != 'Z');
	for (int i = 0; i < KINDS; i++) {
		kill(child[i], SIGTERM);
		reap_child(child[i], 6);
	}
	done();
}
