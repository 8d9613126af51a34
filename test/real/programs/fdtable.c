/* The numbers of descriptors, with holes and high ones, and the close-on-exec flags. */
#include "selfcheck.h"
#include <dirent.h>

static const struct { int fd, cloexec; } table[] = {
	{ 0, 0 }, { 1, 0 }, { 2, 0 }, { 5, 0 }, { 7, FD_CLOEXEC }, { 10, 0 }, { 63, FD_CLOEXEC },
	{ 64, 0 }, { 100, 0 }, { 255, FD_CLOEXEC }, { 256, 0 }, { 700, 0 }, { 1000, FD_CLOEXEC },
};
enum { ROWS = sizeof table / sizeof *table };

static void damage(int kind)
{
	switch (kind) {
	case 1: close(255); break;
	case 2: dup2(5, 300); break;
	case 3: fcntl(7, F_SETFD, 0); break;
	case 4: fcntl(64, F_SETFD, FD_CLOEXEC); break;
	}
}

int main(int argc, char **argv)
{
	int fd;

	start(argc, argv, 4);
	for (fd = 3; fd < 1024; fd++)	/* what was inherited, if anything */
		close(fd);
	for (int i = 3; i < ROWS; i++) {
		fd = open("/dev/null", O_RDWR);
		CHECK(fd >= 0);
		if (fd != table[i].fd) {
			CHECK(dup2(fd, table[i].fd) == table[i].fd);
			close(fd);
		}
		fcntl(table[i].fd, F_SETFD, table[i].cloexec);
	}
	ready();
	while (running()) {
		DIR *d = opendir("/proc/self/fd");
		struct dirent *e;
		int n = 0;

		CHECK(d);
		while ((e = readdir(d)))
			if (e->d_name[0] != '.' && atoi(e->d_name) != dirfd(d))
				n++;
		closedir(d);
		EQUAL(n, ROWS);
		for (int i = 0; i < ROWS; i++)
			EQUAL(fcntl(table[i].fd, F_GETFD), table[i].cloexec);
	}
	done();
}
