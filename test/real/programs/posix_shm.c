/* A file below /dev/shm, mapped by a parent and a child, and deleted since. */
#include "selfcheck.h"

static volatile unsigned long *sh;
static pid_t child;

static void damage(int kind)
{
	if (kind == 1)
		mmap((void *)sh, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	else
		sh[100] = 0;
}

int main(int argc, char **argv)
{
	unsigned long last = 0;
	char name[64];
	int fd;

	start(argc, argv, 2);
	snprintf(name, sizeof name, "/realtest-%d", (int)self);
	shm_unlink(name); /* of one that was killed */
	fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
	CHECK(fd >= 0 && ftruncate(fd, 8192) == 0);
	sh = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(sh != MAP_FAILED);
	CHECK(shm_unlink(name) == 0);
	close(fd);
	sh[100] = 0xfeedUL;
	if ((child = fork()) == 0) {
		self = getpid();
		while (!child_ends())
			sh[0]++;
		_exit(3);
	}
	ready();
	while (running()) {
		for (int tries = 0; sh[0] <= last; tries++) {
			if (tries > 500)
				wrong("the child's counting is not seen");
			msleep(5);
		}
		last = sh[0];
		EQUAL(sh[100], 0xfeed);
	}
	reap_child(child, 3);
	done();
}
