/* Descriptors that share an offset, within a process and with a child, and one that does not. */
#include "selfcheck.h"

static int fd, copy, apart, back[2];

static void damage(int kind)
{
	switch (kind) {
	case 1: dup2(apart, copy); break;	/* another open file of the same name */
	case 2: dup2(fd, apart); break;
	case 3: lseek(fd, 1, SEEK_CUR); break;
	}
}

int main(int argc, char **argv)
{
	pid_t child;
	int to[2];
	char c;

	start(argc, argv, 3);
	fd = open(path("data"), O_RDWR | O_CREAT, 0644);
	CHECK(ftruncate(fd, 100000000) == 0);
	copy = dup(fd);
	apart = open(path("data"), O_RDONLY);
	CHECK(lseek(apart, 17, SEEK_SET) == 17);
	CHECK(pipe(to) == 0 && pipe(back) == 0);
	if ((child = fork()) == 0) {
		/* Moves the shared offset on by 3 whenever it is told to. */
		close(to[1]);
		while (read(to[0], &c, 1) == 1) {
			lseek(fd, 3, SEEK_CUR);
			CHECK(write(back[1], &c, 1) == 1);
		}
		_exit(0);
	}
	close(to[0]);
	close(back[1]);
	ready();
	for (off_t want = 0; running(); ) {
		EQUAL(lseek(copy, 0, SEEK_CUR), want);
		EQUAL(lseek(fd, 0, SEEK_CUR), want);
		EQUAL(lseek(apart, 0, SEEK_CUR), 17);
		lseek(copy, 2, SEEK_CUR);
		want += 2;
		EQUAL(lseek(fd, 0, SEEK_CUR), want);
		CHECK(write(to[1], "x", 1) == 1 && read(back[0], &c, 1) == 1);
		want += 3;
	}
	close(to[1]);
	reap_child(child, 0);
	done();
}
