/* A session inside the tree: a child that called setsid, with a child and a group of its own. */
#include "selfcheck.h"

static pid_t leader;
static volatile pid_t *sh;

static void damage(int kind)
{
	(void)kind;
	kill(sh[0], SIGKILL);
}

int main(int argc, char **argv)
{
	start(argc, argv, 1);
	sh = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if ((leader = fork()) == 0) {
		pid_t me = getpid(), child;

		CHECK(setsid() == me);
		if ((child = fork()) == 0) {
			pid_t inner = getpid();

			CHECK(setpgid(0, 0) == 0);
			sh[0] = inner;
			while (!child_ends()) {
				EQUAL(getsid(0), me);
				EQUAL(getpgrp(), inner);
				EQUAL(getppid(), me);
			}
			_exit(8);
		}
		while (!child_ends()) {
			EQUAL(getsid(0), me);
			EQUAL(getpgrp(), me);
			EQUAL(getsid(child), me);
		}
		reap_child(child, 8);
		_exit(9);
	}
	while (!sh[0])
		msleep(1);
	ready();
	while (running()) {
		EQUAL(getsid(leader), leader);
		CHECK(getsid(0) != leader);
		CHECK(!exists("wrong"));
	}
	reap_child(leader, 9);
	done();
}
