/* Files at an offset: read, written, and beyond the end. */
#include "selfcheck.h"

static int rd, wr, beyond;

static void damage(int kind)
{
	switch (kind) {
	case 1: lseek(rd, 0, SEEK_SET); break;
	case 2: lseek(wr, -8, SEEK_CUR); break;
	case 3: lseek(beyond, 0, SEEK_SET); break;
	}
}

int main(int argc, char **argv)
{
	uint32_t number, n = 0, total;
	struct stat st;
	int fd;

	start(argc, argv, 3);
	fd = open(path("in"), O_WRONLY | O_CREAT, 0644);
	for (number = 0; number < 100000; number++)
		if (number % 1000 == 0) {
			uint32_t block[1000];
			for (int i = 0; i < 1000; i++)
				block[i] = number + i;
			CHECK(write(fd, block, sizeof block) == sizeof block);
		}
	close(fd);
	rd = open(path("in"), O_RDONLY);
	wr = open(path("out"), O_WRONLY | O_CREAT, 0644);
	beyond = open(path("beyond"), O_RDWR | O_CREAT, 0644);
	CHECK(rd >= 0 && wr >= 0 && beyond >= 0);
	CHECK(lseek(beyond, 1000000, SEEK_SET) == 1000000);
	ready();
	while (running()) {	/* copies one number each time */
		CHECK(read(rd, &number, sizeof number) == sizeof number);
		EQUAL(number, n);
		CHECK(write(wr, &number, sizeof number) == sizeof number);
		n++;
		EQUAL(lseek(wr, 0, SEEK_CUR), n * 4);
		EQUAL(lseek(beyond, 0, SEEK_CUR), 1000000);
	}
	CHECK(write(beyond, "x", 1) == 1);
	CHECK(fstat(beyond, &st) == 0);
	EQUAL(st.st_size, 1000001);
	fd = open(path("out"), O_RDONLY);
	for (total = 0; read(fd, &number, sizeof number) == sizeof number; total++)
		EQUAL(number, total);
	EQUAL(total, n);
	done();
}
