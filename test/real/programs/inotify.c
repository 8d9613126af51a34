/* Watches on a directory and on a file; events come after a restart as before. */
#include "selfcheck.h"
#include <sys/inotify.h>

static int fd, wd_dir, wd_file;

static void damage(int kind)
{
	inotify_rm_watch(fd, kind == 1 ? wd_dir : wd_file);
}

/*
 * event waits for one that is expected; there is room for one only. It is false if
 * none comes.
 */
static int event(int wd, uint32_t mask, const char *name)
{
	union { struct inotify_event e; char room[4096]; } u;

	for (int tries = 0; read(fd, &u, sizeof u.e + 32) < 0; tries++) {
		if (tries > 50)
			return 0;
		msleep(10);
	}
	EQUAL(u.e.wd, wd);
	EQUAL(u.e.mask, mask);
	CHECK(strcmp(u.e.len ? u.e.name : "", name) == 0);
	return 1;
}

int main(int argc, char **argv)
{
	int f;

	start(argc, argv, 2);
	CHECK(mkdir(path("d"), 0755) == 0);
	f = open(path("file"), O_RDWR | O_CREAT, 0644);
	fd = inotify_init1(IN_NONBLOCK);
	CHECK(f >= 0 && fd >= 0);
	wd_dir = inotify_add_watch(fd, path("d"), IN_CREATE | IN_DELETE);
	wd_file = inotify_add_watch(fd, path("file"), IN_MODIFY);
	CHECK(wd_dir >= 0 && wd_file >= 0);
	ready();
	for (int missing = 0; running(); ) {
		int new = open(path("d/new"), O_WRONLY | O_CREAT, 0644);
		int seen;

		close(new);
		seen = event(wd_dir, IN_CREATE, "new");
		CHECK(unlink(path("d/new")) == 0);
		seen += event(wd_dir, IN_DELETE, "new");
		CHECK(pwrite(f, "x", 1, 0) == 1);
		seen += event(wd_file, IN_MODIFY, "");
		/* CRIU drops an event that is waiting to be read. */
		missing = seen < 3 ? missing + 1 : 0;
		if (missing > 1 || seen < 2)
			wrong("%d events of 3", seen);
	}
	done();
}
