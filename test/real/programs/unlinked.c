/* A deleted file, still open twice, once at an offset; its name stays free. */
#include "selfcheck.h"

static int a, b;

static void damage(int kind)
{
	switch (kind) {
	case 1: lseek(a, 0, SEEK_SET); break;
	case 2: CHECK(pwrite(b, "?", 1, 500) == 1); break;
	case 3: dup2(a, b); break;
	}
}

int main(int argc, char **argv)
{
	unsigned char text[10000];
	struct stat st;

	start(argc, argv, 3);
	a = open(path("gone"), O_RDWR | O_CREAT, 0600);
	b = open(path("gone"), O_RDWR);
	fill(text, sizeof text, 7);
	CHECK(write(a, text, sizeof text) == sizeof text);
	CHECK(lseek(a, 777, SEEK_SET) == 777 && lseek(b, 5, SEEK_SET) == 5);
	CHECK(unlink(path("gone")) == 0);
	ready();
	while (running()) {
		EQUAL(lseek(a, 0, SEEK_CUR), 777);
		EQUAL(lseek(b, 0, SEEK_CUR), 5);
		CHECK(pread(b, text, sizeof text, 0) == sizeof text);
		text[0] = pattern_at(0, 7);
		check_fill(text, sizeof text, 7, "deleted file");
		/* It is one file still. */
		text[0] = counter;
		CHECK(pwrite(a, text, 1, 0) == 1 && pread(b, text + 1, 1, 0) == 1);
		EQUAL(text[1], text[0]);
		CHECK(fstat(a, &st) == 0);
		EQUAL(st.st_nlink, 0);
		EQUAL(st.st_size, sizeof text);
		CHECK(!exists("gone"));
	}
	done();
}
