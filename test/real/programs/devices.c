/* Device files. */
#include "selfcheck.h"

static int null, zero, full, random_;

static void damage(int kind)
{
	if (kind == 1)
		dup2(zero, null);
	else
		dup2(zero, full);
}

int main(int argc, char **argv)
{
	unsigned char text[64];

	start(argc, argv, 2);
	null = open("/dev/null", O_RDWR);
	zero = open("/dev/zero", O_RDWR);
	full = open("/dev/full", O_RDWR);
	random_ = open("/dev/urandom", O_RDONLY);
	CHECK(null >= 0 && zero >= 0 && full >= 0 && random_ >= 0);
	ready();
	while (running()) {
		EQUAL(write(null, "x", 1), 1);
		EQUAL(read(null, text, 1), 0);
		memset(text, 1, sizeof text);
		EQUAL(read(zero, text, sizeof text), sizeof text);
		for (unsigned i = 0; i < sizeof text; i++)
			EQUAL(text[i], 0);
		EQUAL(write(full, "x", 1), -1);
		EQUAL(read(random_, text, sizeof text), sizeof text);
	}
	done();
}
