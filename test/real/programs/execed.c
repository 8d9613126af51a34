/* Children made by fork and by vfork that execute something else, and what they inherited. */
#include "selfcheck.h"

static pid_t child[2];

static void damage(int kind)
{
	kill(child[kind - 1], SIGKILL);
}

/* become is the program that the children execute. */
static int become(char **argv)
{
	sigset_t set;
	struct sigaction sa;

	self = getpid();
	do {
		CHECK(strcmp(argv[2], "child of") == 0);
		EQUAL(getppid(), atoi(argv[3]));
		CHECK(getenv("INHERITED") && strcmp(getenv("INHERITED"), "yes") == 0);
		EQUAL(fcntl(50, F_GETFD), 0);
		EQUAL(fcntl(51, F_GETFD), -1);
		sigprocmask(SIG_SETMASK, NULL, &set);
		EQUAL(sigismember(&set, SIGWINCH), 1);
		sigaction(SIGPIPE, NULL, &sa);
		CHECK(sa.sa_handler == SIG_IGN);
		if (counter++ == 0)
			write_file(argv[4], "1");
	} while (!child_ends());
	return 15;
}

int main(int argc, char **argv)
{
	char parent[16];
	sigset_t set;

	start(argc, argv, 2);
	if (argc > 2)
		return become(argv);
	snprintf(parent, sizeof parent, "%d", (int)self);
	setenv("INHERITED", "yes", 1);
	CHECK(dup2(0, 50) == 50 && dup2(0, 51) == 51);
	fcntl(51, F_SETFD, FD_CLOEXEC);
	sigemptyset(&set);
	sigaddset(&set, SIGWINCH);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	for (int i = 0; i < 2; i++) {
		const char *up = i ? "up1" : "up0";

		child[i] = i ? vfork() : fork();
		if (child[i] == 0) {
			execl("/proc/self/exe", "renamed", argv[1], "child of", parent, up, NULL);
			_exit(127);
		}
		while (!exists(up))
			msleep(1);
	}
	ready();
	while (running())
		for (int i = 0; i < 2; i++)
			CHECK(state(child[i]) != 'Z');
	reap_child(child[0], 15);
	reap_child(child[1], 15);
	done();
}
