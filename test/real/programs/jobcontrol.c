/*
 * Job control on a pseudo-terminal: a session leader as a shell is, a job of two in the foreground
 * and one in the background; interrupts typed at the master reach the foreground only.
 */
#include "selfcheck.h"
#include <termios.h>

static volatile struct shared {
	pid_t leader, front[2], behind;
	int up[4];
	int ints[4];	/* seen by leader, front 0 and 1, behind */
} *sh;
static int me;	/* index into ints */

static void damage(int kind)
{
	kill(kind == 1 ? sh->front[1] : sh->behind, kind == 1 ? SIGKILL : SIGINT);
}

static void on_int(int sig)
{
	(void)sig;
	sh->ints[me]++;
}

static pid_t job(int index, pid_t group)
{
	pid_t pid = fork();

	if (pid == 0) {
		me = index;
		setpgid(0, group);
		sh->up[me] = 1;
		/*
		 * They do not look at the terminal themselves: CRIU gives it back as the
		 * controlling one to the leader of the session only.
		 */
		while (!child_ends())
			;
		_exit(19);
	}
	setpgid(pid, group ? group : pid);
	/* Before, it would count an interrupt as its parent's. */
	while (!sh->up[index])
		msleep(1);
	return pid;
}

static void leader(const char *name)
{
	pid_t f0, f1, b;
	int slave;

	CHECK(setsid() == getpid());
	slave = open(name, O_RDWR);
	CHECK(slave >= 0);
	signal(SIGINT, on_int);
	signal(SIGTTOU, SIG_IGN);
	sh->front[0] = f0 = job(1, 0);
	sh->front[1] = f1 = job(2, f0);
	b = job(3, 0);
	CHECK(tcsetpgrp(slave, f0) == 0);
	sh->behind = b;
	sh->leader = getpid();
	while (!child_ends()) {
		EQUAL(tcgetpgrp(slave), f0);
		EQUAL(getpgid(f1), f0);
		EQUAL(getpgid(b), b);
	}
	reap_child(f0, 19);
	reap_child(f1, 19);
	reap_child(b, 19);
	_exit(20);
}

int main(int argc, char **argv)
{
	pid_t child;
	int master, ints = 0;

	start(argc, argv, 2);
	sh = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	master = posix_openpt(O_RDWR | O_NOCTTY);
	CHECK(master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0);
	if ((child = fork()) == 0) {
		char name[64];

		snprintf(name, sizeof name, "%s", ptsname(master));
		close(master);
		leader(name);
	}
	while (!sh->leader)
		msleep(1);
	ready();
	while (running()) {
		CHECK(write(master, "\003", 1) == 1);	/* ^C */
		ints++;
		for (int tries = 0; sh->ints[1] < ints || sh->ints[2] < ints; tries++) {
			char echo[64];

			if (tries > 3000)
				wrong("interrupts seen: %d %d of %d", sh->ints[1], sh->ints[2], ints);
			msleep(1);
			fcntl(master, F_SETFL, O_NONBLOCK);
			(void)!read(master, echo, sizeof echo);
			fcntl(master, F_SETFL, 0);
		}
		EQUAL(sh->ints[0], 0);
		EQUAL(sh->ints[3], 0);
		EQUAL(sh->ints[1], ints);
		CHECK(!exists("wrong"));
	}
	reap_child(child, 20);
	done();
}
