/*
 * The signal that a process gets when its parent dies. The root's parent is cr_restart: not even
 * one of its threads may end, for that is what the kernel takes for the parent.
 */
#include "selfcheck.h"

static void damage(int kind)
{
	prctl(PR_SET_PDEATHSIG, kind == 1 ? 0 : SIGTERM);
}

int main(int argc, char **argv)
{
	int sig;

	start(argc, argv, 2);
	prctl(PR_SET_PDEATHSIG, SIGHUP);
	ready();
	while (running()) {
		CHECK(prctl(PR_GET_PDEATHSIG, &sig) == 0);
		EQUAL(sig, SIGHUP);
	}
	done();
}
