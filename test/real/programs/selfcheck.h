/*
 * What the programs of this directory have in common. Each is run as
 *
 *	PROGRAM DIR
 *
 * sets up what it is about, and then, in the private directory DIR,
 *
 *	ready	is created: its pid and how many kinds of damage it knows
 *	beat	gets its counter, each time round its loop
 *	finish	when it is there the program checks everything and ends with 42
 *	wrong	says what is wrong, if something is; the program then ends with 1
 *	damage	holds the number of a damage that the program does to itself, as a
 *		bad restart would, so that one sees that it would be found
 *
 * A program is
 *
 *	int main(int argc, char **argv)
 *	{
 *		start(argc, argv, KINDS);
 *		... set up ...
 *		ready();
 *		while (running())
 *			... CHECK what can be checked each time ...
 *		... CHECK the rest ...
 *		done();
 *	}
 *
 * with a function damage(kind), kind from 1 to KINDS. No descriptor is open
 * between the calls, so that a program knows all of its own.
 */
#ifndef SELFCHECK_H
#define SELFCHECK_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void damage(int kind);

static const char *dir;
static int kinds;
static pid_t self;		/* the pid that start saw */
static volatile unsigned long counter;
static volatile unsigned long inverse = ~0UL;	/* of counter */

/* path is where NAME is in DIR; there are four at a time. */
static const char *path(const char *name)
{
	static char buf[4][PATH_MAX];
	static unsigned next;
	char *p = buf[next++ % 4];

	snprintf(p, PATH_MAX, "%s/%s", dir, name);
	return p;
}

/* wrong ends the process. The first one to come is the one that is told. */
__attribute__((format(printf, 1, 2), noreturn, unused))
static void wrong(const char *format, ...)
{
	va_list args;
	int fd = open(path("wrong"), O_WRONLY | O_CREAT | O_EXCL, 0644);

	if (fd >= 0) {
		va_start(args, format);
		vdprintf(fd, format, args);
		va_end(args);
		dprintf(fd, " [pid %d, counter %lu]\n", (int)getpid(), counter);
	}
	_exit(1);
}

#define CHECK(cond) do { \
		errno = 0; \
		if (!(cond)) \
			wrong("%s:%d: not so: %s (errno: %s)", __FILE__, __LINE__, #cond, strerror(errno)); \
	} while (0)

/* INTERRUPTED follows a call that failed, which it may by a signal or a restart only. */
#define INTERRUPTED() do { \
		if (errno != EINTR) \
			wrong("%s:%d: %s", __FILE__, __LINE__, strerror(errno)); \
	} while (0)

/* EQUAL says both values. */
#define EQUAL(a, b) do { \
		long long a_ = (long long)(a), b_ = (long long)(b); \
		if (a_ != b_) \
			wrong("%s:%d: %s is %lld, want %s = %lld", __FILE__, __LINE__, #a, a_, #b, b_); \
	} while (0)

static int exists(const char *name)
{
	return access(path(name), F_OK) == 0;
}

__attribute__((unused))
static void write_file(const char *name, const char *format, ...)
{
	char tmp[64], text[256];
	va_list args;
	int fd, n;

	va_start(args, format);
	n = vsnprintf(text, sizeof text, format, args);
	va_end(args);
	/* Whoever waits for the file must not see it empty. */
	snprintf(tmp, sizeof tmp, "%s.new", name);
	fd = open(path(tmp), O_WRONLY | O_CREAT | O_TRUNC, 0644);
	if (fd < 0 || write(fd, text, n) != n || close(fd) || rename(path(tmp), path(name)))
		wrong("cannot write %s: %s", name, strerror(errno));
}

static void msleep(long ms)
{
	struct timespec t = { ms / 1000, ms % 1000 * 1000000 };

	/* A restart may end a sleep early, as a signal would. */
	while (nanosleep(&t, &t) && errno == EINTR)
		;
}

__attribute__((unused))
static double seconds(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static void start(int argc, char **argv, int kinds_)
{
	if (argc < 2) {
		fprintf(stderr, "usage: %s DIR\n", argv[0]);
		exit(2);
	}
	dir = argv[1];
	kinds = kinds_;
	self = getpid();
}

static void ready(void)
{
	write_file("ready", "%d %d\n", (int)self, kinds);
}

/* beat counts, and shows it. */
static void beat(void)
{
	char text[32];
	int fd, n;

	if (counter != ~inverse)
		wrong("counter is %lu, its inverse %lu", counter, inverse);
	if (getpid() != self)
		wrong("pid is %d, was %d", (int)getpid(), (int)self);
	counter++;
	inverse = ~counter;
	n = snprintf(text, sizeof text, "%020lu\n", counter);
	fd = open(path("beat"), O_WRONLY | O_CREAT, 0644);
	if (fd < 0 || pwrite(fd, text, n, 0) != n || close(fd))
		wrong("cannot write beat: %s", strerror(errno));
}

/* running is once round the loop: false when it is time to finish. */
static int running(void)
{
	char text[16] = "";
	int fd;

	msleep(10);
	beat();
	if (kinds > 0 && (fd = open(path("damage"), O_RDONLY)) >= 0) {
		if (read(fd, text, sizeof text - 1) < 1)
			wrong("cannot read damage");
		close(fd);
		unlink(path("damage"));
		damage(atoi(text));
	}
	if (!exists("finish"))
		return 1;
	write_file("end", "");	/* for the children, who see it after the root's last round */
	return 0;
}

__attribute__((noreturn, unused))
static void done(void)
{
	if (exists("wrong"))
		exit(1);
	exit(42);
}

/* fill and check a pattern that depends on where a byte is. */
__attribute__((unused))
static unsigned char pattern_at(size_t i, unsigned seed)
{
	return (unsigned char)((i * 2654435761u + seed * 40503u) >> 11 ^ i >> 3);
}

__attribute__((unused))
static void fill(void *p, size_t n, unsigned seed)
{
	for (size_t i = 0; i < n; i++)
		((unsigned char *)p)[i] = pattern_at(i, seed);
}

__attribute__((unused))
static void check_fill(const void *p, size_t n, unsigned seed, const char *what)
{
	for (size_t i = 0; i < n; i++)
		if (((const unsigned char *)p)[i] != pattern_at(i, seed))
			wrong("%s: byte %zu of %zu is %d, want %d", what, i, n,
			      ((const unsigned char *)p)[i], pattern_at(i, seed));
}

/*
 * A child of the job that loops on its own: child_ends is for its loop, which
 * ends when the root's has. Its end is checked by reap_child.
 */
__attribute__((unused))
static int child_ends(void)
{
	msleep(10);
	return exists("end") || exists("wrong");
}

__attribute__((unused))
static void reap_child(pid_t pid, int want)
{
	int status;
	pid_t got;

	do
		got = waitpid(pid, &status, 0);
	while (got < 0 && errno == EINTR);
	EQUAL(got, pid);
	if (!WIFEXITED(status) || WEXITSTATUS(status) != want)
		wrong("child %d ended with status %#x, want exit %d", (int)pid, status, want);
}

/* state is the letter in /proc/PID/stat, 0 if there is no such process. */
__attribute__((unused))
static char state(pid_t pid)
{
	char name[64], text[512], *p;
	int fd, n;

	snprintf(name, sizeof name, "/proc/%d/stat", (int)pid);
	if ((fd = open(name, O_RDONLY)) < 0)
		return 0;
	n = read(fd, text, sizeof text - 1);
	close(fd);
	if (n <= 0)
		return 0;
	text[n] = 0;
	p = strrchr(text, ')');
	return p ? p[2] : 0;
}

#endif
