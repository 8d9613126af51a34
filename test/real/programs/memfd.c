/* Memory files: contents, offset, size, a mapping, seals. */
#include "selfcheck.h"

#define N (8 * 4096)

static unsigned char *map;
static int fd, sealed;

static void damage(int kind)
{
	switch (kind) {
	case 1: lseek(fd, 1, SEEK_SET); break;
	case 2: map[77] ^= 1; break;
	case 3: CHECK(ftruncate(fd, N - 1) == 0); break;
	case 4: sealed = fd; break;
	}
}

int main(int argc, char **argv)
{
	struct stat st;

	start(argc, argv, 4);
	fd = memfd_create("first", 0);
	sealed = memfd_create("sealed", MFD_ALLOW_SEALING | MFD_CLOEXEC);
	CHECK(fd >= 0 && sealed >= 0);
	CHECK(ftruncate(fd, N) == 0);
	map = mmap(NULL, N, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(map != MAP_FAILED);
	fill(map, N, 4);
	CHECK(lseek(fd, 1234, SEEK_SET) == 1234);
	CHECK(write(sealed, "sealed", 6) == 6);
	CHECK(fcntl(sealed, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW) == 0);
	ready();
	while (running()) {
		char text[7] = "";
		unsigned char c;

		check_fill(map, N, 4, "mapping");
		EQUAL(lseek(fd, 0, SEEK_CUR), 1234);
		CHECK(fstat(fd, &st) == 0);
		EQUAL(st.st_size, N);
		/* The mapping is still the file's. */
		c = counter;
		CHECK(pwrite(fd, &c, 1, 10) == 1);
		EQUAL(map[10], c);
		map[10] = pattern_at(10, 4);
		EQUAL(fcntl(sealed, F_GET_SEALS), F_SEAL_WRITE | F_SEAL_GROW);
		CHECK(pread(sealed, text, 6, 0) == 6 && strcmp(text, "sealed") == 0);
		EQUAL(pwrite(sealed, "x", 1, 0), -1);
		EQUAL(fcntl(sealed, F_GETFD), FD_CLOEXEC);
	}
	done();
}
