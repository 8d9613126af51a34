/* An open file whose name is gone, but that has another. */
#include "selfcheck.h"

static int fd;

static void damage(int kind)
{
	(void)kind;
	dup2(open(path("ready"), O_RDWR), fd);
}

int main(int argc, char **argv)
{
	struct stat a, b;

	start(argc, argv, 1);
	fd = open(path("one"), O_RDWR | O_CREAT, 0600);
	CHECK(write(fd, "0123456789", 10) == 10);
	CHECK(link(path("one"), path("other")) == 0 && unlink(path("one")) == 0);
	CHECK(lseek(fd, 4, SEEK_SET) == 4);
	ready();
	while (running()) {
		CHECK(fstat(fd, &a) == 0 && stat(path("other"), &b) == 0);
		EQUAL(a.st_ino, b.st_ino);
		EQUAL(lseek(fd, 0, SEEK_CUR), 4);
		CHECK(!exists("one"));
	}
	/* Nothing was left beside it by the restarts. */
	CHECK(stat(path("other"), &b) == 0);
	EQUAL(b.st_nlink, 1);
	done();
}
