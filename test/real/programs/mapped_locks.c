/*
 * Locks of fcntl on files that are mapped, and a child that tries to get them all the time. The
 * child has one itself, on a file that it has inherited open.
 */
#include "selfcheck.h"

static int shared, private;

static int lock(int fd, int type, off_t start)
{
	struct flock l = { .l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = 50 };

	return fcntl(fd, F_SETLK, &l);
}

static void damage(int kind)
{
	switch (kind) {
	case 1: lock(shared, F_UNLCK, 100); break;
	case 2: lock(shared, F_UNLCK, 300); break;
	case 3: lock(private, F_UNLCK, 100); break;
	}
}

static void rival(void)
{
	int s = open(path("shared"), O_RDWR), p = open(path("private"), O_RDWR);

	CHECK(prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && lock(shared, F_WRLCK, 500) == 0);
	CHECK(close(open(path("locked"), O_WRONLY | O_CREAT, 0644)) == 0);
	for (;;) {
		EQUAL(lock(s, F_RDLCK, 100), -1);
		EQUAL(lock(s, F_WRLCK, 300), -1);
		EQUAL(lock(p, F_WRLCK, 149), -1);
		usleep(100);
	}
}

int main(int argc, char **argv)
{
	char *at[2];
	pid_t child;

	start(argc, argv, 3);
	shared = open(path("shared"), O_RDWR | O_CREAT, 0644);
	private = open(path("private"), O_RDWR | O_CREAT, 0644);
	CHECK(ftruncate(shared, 4096) == 0 && ftruncate(private, 4096) == 0);
	at[0] = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, shared, 0);
	at[1] = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, private, 0);
	CHECK(at[0] != MAP_FAILED && at[1] != MAP_FAILED);
	CHECK(lock(shared, F_WRLCK, 100) == 0 && lock(shared, F_RDLCK, 300) == 0 && lock(private, F_WRLCK, 100) == 0);
	child = fork();
	if (child == 0)
		rival();
	while (access(path("locked"), F_OK) != 0)
		usleep(1000);
	ready();
	while (running()) {
		EQUAL(waitpid(child, NULL, WNOHANG), 0);
		EQUAL(lock(shared, F_RDLCK, 500), -1);
	}
	kill(child, SIGKILL);
	CHECK(waitpid(child, NULL, 0) == child);
	done();
}
