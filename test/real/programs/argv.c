/*
 * A long argument list, the environment, and the names: the program executes
 * itself again with them. The command line in /proc is what it was, too.
 */
#include "selfcheck.h"

#define ARGS 2000

static char **args;

static void damage(int kind)
{
	switch (kind) {
	case 1: args[1000][3] = '!'; break;
	case 2: setenv("LONG", "short", 1); break;
	case 3: prctl(PR_SET_NAME, "wrong"); break;
	}
}

int main(int argc, char **argv)
{
	static char text[ARGS][48], longer[30000], now[ARGS * 48 + PATH_MAX + 64], name[16];
	char *list[ARGS + 3];
	int fd, n, len;

	start(argc, argv, 3);
	if (argc == 2) {
		list[0] = argv[0];
		list[1] = argv[1];
		for (int i = 0; i < ARGS; i++) {
			snprintf(text[i], sizeof *text, "argument %d of %d", i, ARGS);
			list[i + 2] = text[i];
		}
		list[ARGS + 2] = NULL;
		memset(longer, 'L', sizeof longer - 1);
		setenv("LONG", longer, 1);
		setenv("EMPTY", "", 1);
		execv("/proc/self/exe", list);
		wrong("exec: %s", strerror(errno));
	}
	args = argv;
	prctl(PR_SET_NAME, "argv of 2000");
	ready();
	while (running()) {
		EQUAL(argc, ARGS + 2);
		for (int i = 0; i < ARGS; i++) {
			snprintf(now, sizeof now, "argument %d of %d", i, ARGS);
			if (strcmp(argv[i + 2], now))
				wrong("argument %d is '%s'", i, argv[i + 2]);
		}
		CHECK(getenv("LONG") && strlen(getenv("LONG")) == sizeof longer - 1);
		CHECK(getenv("EMPTY") && !*getenv("EMPTY"));
		prctl(PR_GET_NAME, name);
		if (strcmp(name, "argv of 2000"))
			wrong("name is '%s'", name);
		fd = open("/proc/self/cmdline", O_RDONLY);
		for (len = 0; (n = read(fd, now + len, sizeof now - len)) > 0; len += n)
			;
		close(fd);
		for (char *p = now, **a = argv; *a; p += strlen(p) + 1, a++)
			if (p >= now + len || strcmp(p, *a))
				wrong("/proc/self/cmdline: '%s', not '%s'", p, *a);
	}
	done();
}
