/* Kills its children when there is a file `go`, with as little before that as can be, and ends with 7. */
#include "selfcheck.h"
#include <sys/wait.h>

static void damage(int kind) { (void)kind; }

int main(int argc, char **argv)
{
	enum { CHILDREN = 64 };
	pid_t children[CHILDREN];
	char go[PATH_MAX];
	int n, status;
	long i;

	start(argc, argv, 0);
	snprintf(go, sizeof go, "%s", path("go"));
	for (n = 0; n < CHILDREN; n++) {
		children[n] = fork();
		CHECK(children[n] >= 0);
		if (children[n] == 0)
			for (;;)
				pause();
	}
	ready();
	for (i = 0; access(go, F_OK) != 0; i++)
		if (i % 20000 == 0 && !running())
			done();
	while (n-- > 0)
		kill(children[n], SIGKILL);
	for (n = 0; n < CHILDREN; n++) {
		EQUAL(waitpid(children[n], &status, 0), children[n]);
		EQUAL(status, SIGKILL);
	}
	_exit(7);
}
