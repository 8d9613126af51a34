/* Children that ended and were not waited for: each keeps how it ended. */
#include "selfcheck.h"

static pid_t exited, killed, below;

static void damage(int kind)
{
	waitpid(kind == 1 ? exited : killed, NULL, 0);
}

int main(int argc, char **argv)
{
	int status;

	start(argc, argv, 2);
	if ((exited = fork()) == 0)
		_exit(77);
	if ((killed = fork()) == 0)
		for (;;)
			pause();
	kill(killed, SIGUSR1);
	/* And one that is not a child of the root. */
	if ((below = fork()) == 0) {
		pid_t z = fork();
		if (z == 0)
			_exit(78);
		while (state(z) != 'Z')
			msleep(1);
		write_file("below", "1");
		while (!child_ends())
			EQUAL(state(z), 'Z');
		reap_child(z, 78);
		_exit(13);
	}
	while (!exists("below") || state(exited) != 'Z' || state(killed) != 'Z')
		msleep(1);
	ready();
	while (running()) {
		EQUAL(state(exited), 'Z');
		EQUAL(state(killed), 'Z');
		CHECK(!exists("wrong"));
	}
	reap_child(exited, 77);
	CHECK(waitpid(killed, &status, 0) == killed);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGUSR1);
	reap_child(below, 13);
	done();
}
