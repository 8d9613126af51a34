/* A stopped child stays stopped, and goes on when it is told to. */
#include "selfcheck.h"

static pid_t child;
static volatile unsigned long *sh;

static void damage(int kind)
{
	if (kind == 1)
		kill(child, SIGCONT);
	else
		kill(child, SIGKILL);
}

int main(int argc, char **argv)
{
	unsigned long before;

	start(argc, argv, 2);
	sh = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if ((child = fork()) == 0) {
		while (!child_ends() || !sh[1])
			(*sh)++;
		_exit(14);
	}
	while (*sh < 5)
		msleep(1);
	kill(child, SIGSTOP);
	while (state(child) != 'T')
		msleep(1);
	before = *sh;
	ready();
	while (running()) {
		/* A restart may let the parent go on a moment before the child is stopped again. */
		for (int tries = 0; state(child) != 'T' && tries < 200; tries++)
			msleep(5);
		EQUAL(state(child), 'T');
		EQUAL(*sh, before);	/* but the child must not have done anything */
	}
	sh[1] = 1;
	kill(child, SIGCONT);
	reap_child(child, 14);
	CHECK(*sh >= before);
	done();
}
