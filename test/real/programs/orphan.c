/*
 * Processes whose parent has died. The root of the job takes them in (PR_SET_CHILD_SUBREAPER),
 * so that they stay in the tree, and it goes on doing so.
 */
#include "selfcheck.h"

static volatile pid_t *sh;

static void damage(int kind)
{
	if (kind == 1)
		prctl(PR_SET_CHILD_SUBREAPER, 0);
	else
		kill(sh[0], SIGKILL);
}

/* orphan starts a process that dies at once and leaves one behind. */
static pid_t orphan(int slot)
{
	pid_t middle = fork();

	if (middle == 0) {
		if (fork() == 0) {
			sh[slot] = getpid();
			while (!child_ends() && slot == 0)
				;
			_exit(12);
		}
		_exit(0);
	}
	reap_child(middle, 0);
	while (!sh[slot])
		msleep(1);
	return sh[slot];
}

int main(int argc, char **argv)
{
	pid_t old, new;
	int is;

	start(argc, argv, 2);
	sh = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	old = orphan(0);
	ready();
	while (running()) {
		CHECK(prctl(PR_GET_CHILD_SUBREAPER, &is) == 0);
		EQUAL(is, 1);
		CHECK(state(old) != 'Z');
		sh[1] = 0;
		new = orphan(1);
		reap_child(new, 12);
	}
	reap_child(old, 12);
	done();
}
