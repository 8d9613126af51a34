/* Processes three levels deep, 2 x 2 x 2, in process groups of their own; each knows its parent. */
#include "selfcheck.h"

static pid_t first[2];
static volatile int *up;	/* how many of the last level are there */

static void damage(int kind)
{
	switch (kind) {
	case 1: kill(first[0], SIGKILL); break;
	case 2: setpgid(first[1], first[0]); break;
	}
}

/* level starts two processes, each of which starts two, down to the third level. */
static void level(int depth, pid_t *child)
{
	for (int i = 0; i < 2; i++) {
		pid_t parent = getpid();

		if ((child[i] = fork()) == 0) {
			pid_t me = getpid(), group, below[2];

			self = me;
			/* The first of each pair leads a group, the second is in that of its parent. */
			if (depth == 1 || i == 0)
				CHECK(setpgid(0, 0) == 0);
			group = getpgrp();
			if (depth < 3)
				level(depth + 1, below);
			else
				__atomic_add_fetch(up, 1, __ATOMIC_SEQ_CST);
			while (!child_ends()) {
				EQUAL(getpid(), me);
				EQUAL(getppid(), parent);
				EQUAL(getpgrp(), group);
			}
			if (depth < 3) {
				reap_child(below[0], 20 + depth + 1);
				reap_child(below[1], 20 + depth + 1);
			}
			_exit(20 + depth);
		}
	}
}

int main(int argc, char **argv)
{
	start(argc, argv, 2);
	up = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	level(1, first);
	while (*up < 8)
		msleep(1);
	ready();
	while (running()) {
		EQUAL(getpgid(first[0]), first[0]);
		EQUAL(getpgid(first[1]), first[1]);
		CHECK(!exists("wrong") && state(first[0]) && state(first[1]) && (state(first[0]) != 'Z'));
	}
	reap_child(first[0], 21);
	reap_child(first[1], 21);
	done();
}
