/* File locks: flock, and fcntl's on ranges, held against a child that tries. */
#include "selfcheck.h"
#include <sys/file.h>

static int whole, ranges;

static void damage(int kind)
{
	struct flock l = { .l_type = F_UNLCK, .l_whence = SEEK_SET, .l_start = 100, .l_len = 50 };

	switch (kind) {
	case 1: flock(whole, LOCK_UN); break;
	case 2: fcntl(ranges, F_SETLK, &l); break;
	case 3: l.l_type = F_WRLCK; l.l_start = 300; fcntl(ranges, F_SETLK, &l); break;
	}
}

/* range says what another process would find in the way. */
static void range(off_t start, int want)
{
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = start, .l_len = 1 };
	int fd = open(path("ranges"), O_RDWR);

	CHECK(fd >= 0 && fcntl(fd, F_GETLK, &l) == 0);
	EQUAL(l.l_type, want);
	if (want != F_UNLCK)
		EQUAL(l.l_pid, getppid());
	close(fd);
}

int main(int argc, char **argv)
{
	struct flock w = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 100, .l_len = 50 };
	struct flock r = { .l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 300, .l_len = 50 };

	start(argc, argv, 3);
	whole = open(path("whole"), O_RDWR | O_CREAT, 0644);
	ranges = open(path("ranges"), O_RDWR | O_CREAT, 0644);
	CHECK(flock(whole, LOCK_EX) == 0);
	CHECK(fcntl(ranges, F_SETLK, &w) == 0 && fcntl(ranges, F_SETLK, &r) == 0);
	ready();
	while (running()) {
		pid_t child = fork();

		if (child == 0) {
			int fd = open(path("whole"), O_RDWR);

			EQUAL(flock(fd, LOCK_EX | LOCK_NB), -1);
			range(99, F_UNLCK);
			range(100, F_WRLCK);
			range(149, F_WRLCK);
			range(150, F_UNLCK);
			range(320, F_RDLCK);
			_exit(9);
		}
		reap_child(child, 9);
	}
	done();
}
