/*
 * A pseudo-terminal inside the job: the root holds the master, a child leads a session
 * on the slave, in raw mode, with a window size; lines go through in both directions.
 */
#include "selfcheck.h"
#include <sys/ioctl.h>
#include <termios.h>

static int master;

static void damage(int kind)
{
	struct winsize w = { 1, 1, 0, 0 };
	struct termios t;

	if (kind == 1) {
		ioctl(master, TIOCSWINSZ, &w);
	} else {
		tcgetattr(master, &t);
		t.c_lflag |= ECHO;
		tcsetattr(master, TCSANOW, &t);
	}
}

int main(int argc, char **argv)
{
	struct winsize w = { 33, 77, 0, 0 }, got;
	struct termios t, raw;
	char text[64], want[64];
	pid_t child;

	start(argc, argv, 2);
	master = posix_openpt(O_RDWR | O_NOCTTY);
	CHECK(master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0);
	CHECK(ioctl(master, TIOCSWINSZ, &w) == 0);
	if ((child = fork()) == 0) {
		char c, name[64];
		int slave;

		snprintf(name, sizeof name, "%s", ptsname(master));
		close(master);
		CHECK(setsid() > 0);
		slave = open(name, O_RDWR);	/* becomes the terminal of the session */
		CHECK(slave >= 0);
		tcgetattr(slave, &t);
		cfmakeraw(&t);
		CHECK(tcsetattr(slave, TCSANOW, &t) == 0);
		CHECK(write(slave, "!", 1) == 1);
		for (;;) {	/* answers each byte with the next one */
			ssize_t n = read(slave, &c, 1);

			if (n < 0 && errno == EINTR)
				continue;
			if (n != 1 || c == 'Q')
				break;
			EQUAL(tcgetsid(slave), getpid());
			EQUAL(tcgetpgrp(slave), getpid());
			CHECK(open("/dev/tty", O_RDWR) == slave + 1 && close(slave + 1) == 0);
			c++;
			CHECK(write(slave, &c, 1) == 1);
		}
		_exit(18);
	}
	CHECK(read(master, text, 1) == 1 && text[0] == '!');
	tcgetattr(master, &raw);
	ready();
	while (running()) {
		snprintf(want, sizeof want, "%c", 'a' + (int)(counter % 20));
		CHECK(write(master, want, 1) == 1);
		while (read(master, text, 1) < 0)
			INTERRUPTED();
		EQUAL(text[0], want[0] + 1);
		CHECK(ioctl(master, TIOCGWINSZ, &got) == 0);
		EQUAL(got.ws_row, 33);
		EQUAL(got.ws_col, 77);
		CHECK(tcgetattr(master, &t) == 0);
		CHECK(t.c_lflag == raw.c_lflag && t.c_iflag == raw.c_iflag && t.c_oflag == raw.c_oflag && t.c_cflag == raw.c_cflag);
	}
	CHECK(write(master, "Q", 1) == 1);
	reap_child(child, 18);
	done();
}
