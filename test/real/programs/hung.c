/*
 * Terminals that have hung up, as of a user who has logged out: as standard input and as
 * other descriptors. And one of the job's own that has not.
 */
#include "selfcheck.h"
#include <sys/ioctl.h>
#include <termios.h>

static int live, master, dead;

static void damage(int kind)
{
	int fd;

	switch (kind) {
	case 1: CHECK((fd = open("/dev/null", O_RDWR)) >= 0 && dup2(fd, dead) == dead && close(fd) == 0); break;
	case 2: CHECK(close(dead) == 0); break;
	}
}

static int slave_of(int fd)
{
	int slave;

	CHECK(fd >= 0 && grantpt(fd) == 0 && unlockpt(fd) == 0);
	CHECK((slave = open(ptsname(fd), O_RDWR | O_NOCTTY)) >= 0);
	return slave;
}

static void check_hung(int fd)
{
	struct termios modes;
	char c;

	EQUAL(read(fd, &c, 1), 0);
	CHECK(write(fd, "x", 1) < 0 && errno == EIO);
	CHECK(tcgetattr(fd, &modes) < 0 && errno == EIO);
}

int main(int argc, char **argv)
{
	int other;

	start(argc, argv, 2);
	live = slave_of(master = posix_openpt(O_RDWR | O_NOCTTY));
	dead = slave_of(other = posix_openpt(O_RDWR | O_NOCTTY));
	CHECK(close(other) == 0 && dup2(dead, 0) == 0);
	ready();
	while (running()) {
		char text[8] = "";
		int was = fcntl(live, F_GETFL);

		check_hung(0);
		check_hung(dead);
		CHECK(fcntl(live, F_SETFL, was | O_NONBLOCK) == 0 && write(master, "say\n", 4) == 4);
		for (int n = 0; n < 500 && read(live, text, sizeof text) != 4; n++)
			msleep(10);
		if (strcmp(text, "say\n"))
			wrong("the terminal that has not hung up says %s", text);
		CHECK(fcntl(live, F_SETFL, was) == 0);
		while (ioctl(master, TCFLSH, TCIOFLUSH) < 0)
			INTERRUPTED();
	}
	done();
}
