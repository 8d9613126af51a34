/*
 * Works in, watches, and has a file open in, the directory DIR/A. The harness renames that
 * to DIR/B while the job is saved, and restarts it with --relocate.
 */
#include "selfcheck.h"
#include <sys/inotify.h>

static int fd, log_;

static void damage(int kind)
{
	if (kind == 1)
		CHECK(chdir("/") == 0);
	else
		lseek(fd, 0, SEEK_SET);
}

static const char *where(void)
{
	return exists("A") ? "A" : "B";
}

/* In between the program may be saved, and the directory renamed. */
static void link_is(const char *name, const char *below)
{
	char got[PATH_MAX], want[PATH_MAX];
	const char *dir;
	ssize_t n;

	do {
		dir = where();
		snprintf(want, sizeof want, "%s%s", path(dir), below);
		n = readlink(name, got, sizeof got - 1);
		CHECK(n > 0);
		got[n] = 0;
	} while (strcmp(got, want) && strcmp(dir, where()));
	if (strcmp(got, want))
		wrong("%s is %s, want %s", name, got, want);
}

int main(int argc, char **argv)
{
	char name[64];
	unsigned char *map, text[4096];

	start(argc, argv, 2);
	CHECK(mkdir(path("A"), 0755) == 0 && chdir(path("A")) == 0);
	fd = open(path("A/data"), O_RDWR | O_CREAT, 0644);
	log_ = open("log", O_WRONLY | O_CREAT | O_APPEND, 0644);
	fill(text, sizeof text, 1);
	CHECK(write(fd, text, sizeof text) == sizeof text);
	CHECK(lseek(fd, 100, SEEK_SET) == 100);
	map = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
	CHECK(map != MAP_FAILED && log_ >= 0);
	if (geteuid() == 0) /* CRIU needs root for that. */
		CHECK(inotify_add_watch(inotify_init1(0), path("A"), IN_CREATE) > 0);
	ready();
	while (running()) {
		link_is("/proc/self/cwd", "");
		snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
		link_is(name, "/data");
		EQUAL(lseek(fd, 0, SEEK_CUR), 100);
		check_fill(map, 4096, 1, "mapping");
		CHECK(write(log_, "x", 1) == 1);
		EQUAL(lseek(log_, 0, SEEK_CUR), counter);
	}
	done();
}
