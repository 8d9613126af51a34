/* Flags of open files, and open directories, paths and files that moved. */
#include "selfcheck.h"
#include <dirent.h>

static int nonblock, trunc, renamed, dirfd_, pathfd;

static void damage(int kind)
{
	switch (kind) {
	case 1: fcntl(nonblock, F_SETFL, O_SYNC); break;
	case 2: CHECK(ftruncate(trunc, 0) == 0); break;
	case 3: dup2(nonblock, renamed); break;
	case 4: dup2(pathfd, dirfd_); break;
	case 5: dup2(dirfd_, pathfd); break;
	}
}

int main(int argc, char **argv)
{
	char text[32], link[PATH_MAX];
	struct stat a, b;
	int fd, n;

	start(argc, argv, 5);
	nonblock = open(path("n"), O_RDWR | O_CREAT | O_NONBLOCK | O_SYNC, 0600);
	/* Opened to truncate or create: a restart must not do it again. */
	trunc = open(path("t"), O_RDWR | O_CREAT | O_TRUNC | O_EXCL, 0640);
	CHECK(write(trunc, "contents", 8) == 8);
	renamed = open(path("before"), O_RDWR | O_CREAT, 0644);
	CHECK(write(renamed, "renamed", 7) == 7);
	CHECK(rename(path("before"), path("after")) == 0);
	CHECK(mkdir(path("d"), 0755) == 0);
	dirfd_ = open(path("d"), O_RDONLY | O_DIRECTORY);
	pathfd = open(path("t"), O_PATH);
	CHECK(nonblock >= 0 && trunc >= 0 && renamed >= 0 && dirfd_ >= 0 && pathfd >= 0);
	ready();
	while (running()) {
		EQUAL(fcntl(nonblock, F_GETFL) & (O_ACCMODE | O_NONBLOCK | O_SYNC), O_RDWR | O_NONBLOCK | O_SYNC);
		CHECK(pread(trunc, text, sizeof text, 0) == 8 && memcmp(text, "contents", 8) == 0);
		CHECK(pread(renamed, text, sizeof text, 0) == 7 && memcmp(text, "renamed", 7) == 0);
		CHECK(fstat(renamed, &a) == 0 && stat(path("after"), &b) == 0);
		EQUAL(a.st_ino, b.st_ino);
		CHECK(!exists("before"));
		fd = openat(dirfd_, "inside", O_WRONLY | O_CREAT, 0644);
		CHECK(fd >= 0);
		close(fd);
		CHECK(exists("d/inside") && unlinkat(dirfd_, "inside", 0) == 0);
		EQUAL(read(pathfd, text, 1), -1);
		snprintf(text, sizeof text, "/proc/self/fd/%d", pathfd);
		n = readlink(text, link, sizeof link - 1);
		CHECK(n > 0);
		link[n] = 0;
		CHECK(strcmp(strrchr(link, '/'), "/t") == 0);
		CHECK(fstat(trunc, &a) == 0);
		EQUAL(a.st_mode & 0777, 0640);
	}
	done();
}
