/*
 * Removed directories and files, with something else in their places by now: another
 * directory of the same name, with and without a file in it, and a file where there was a
 * directory. Two removed directories are one in the other. And a removed file in a directory
 * that may only be read by now.
 */
#include "selfcheck.h"

static int in, readonly, below, nested;

static void damage(int kind)
{
	switch (kind) {
	case 1: CHECK(chdir(dir) == 0); break;
	case 2: CHECK(pwrite(in, "?", 1, 0) == 1); break;
	}
}

static void holds(int fd, const char *text)
{
	char got[16] = "";
	struct stat st;

	CHECK(pread(fd, got, sizeof got - 1, 0) == (ssize_t)strlen(text));
	if (strcmp(got, text))
		wrong("a removed file has %s, want %s", got, text);
	CHECK(fstat(fd, &st) == 0);
	EQUAL(st.st_nlink, 0);
}

static int removed(const char *name, const char *text)
{
	int fd = open(path(name), O_RDWR | O_CREAT, 0600);

	CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text) && unlink(path(name)) == 0);
	return fd;
}

static void check(void)
{
	struct stat st;

	CHECK(stat(".", &st) == 0);
	EQUAL(st.st_nlink, 0);
	CHECK(fstat(below, &st) == 0 && S_ISDIR(st.st_mode));
	EQUAL(st.st_nlink, 0);
	CHECK(fstat(nested, &st) == 0 && S_ISDIR(st.st_mode));
	EQUAL(st.st_nlink, 0);
	CHECK(open("new", O_WRONLY | O_CREAT, 0600) < 0);
	holds(in, "in");
	holds(readonly, "readonly");
	CHECK(exists("work/full") && exists("empty") && !exists("outer"));
	CHECK(stat(path("was"), &st) == 0);
	EQUAL(st.st_size, 4);
}

int main(int argc, char **argv)
{
	int empty;

	start(argc, argv, 2);
	CHECK(mkdir(path("work"), 0700) == 0 && chdir(path("work")) == 0 && rmdir(path("work")) == 0);
	CHECK(mkdir(path("work"), 0700) == 0);
	write_file("work/full", "full");
	CHECK(mkdir(path("empty"), 0700) == 0 && (empty = open(path("empty"), O_RDONLY)) >= 0);
	CHECK(rmdir(path("empty")) == 0 && mkdir(path("empty"), 0700) == 0);
	CHECK(mkdir(path("was"), 0700) == 0);
	in = removed("was/file", "in");
	CHECK(rmdir(path("was")) == 0);
	write_file("was", "file");
	CHECK(mkdir(path("outer"), 0700) == 0 && mkdir(path("outer/inner"), 0700) == 0);
	CHECK((below = open(path("outer"), O_RDONLY)) >= 0 && (nested = open(path("outer/inner"), O_RDONLY)) >= 0);
	CHECK(rmdir(path("outer/inner")) == 0 && rmdir(path("outer")) == 0);
	CHECK(mkdir(path("readonly"), 0700) == 0);
	readonly = removed("readonly/file", "readonly");
	CHECK(chmod(path("readonly"), 0500) == 0);
	ready();
	while (running())
		check();
	check();
	done();
}
