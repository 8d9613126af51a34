/* Many deleted files in one directory, and a file that is opened after them. */
#include "selfcheck.h"

#define FILES 300

static int files[FILES], late;

static void damage(int kind)
{
	switch (kind) {
	case 1: dup2(files[1], files[200]); break;
	case 2: lseek(late, 0, SEEK_SET); break;
	}
}

int main(int argc, char **argv)
{
	char name[64], text[64];
	struct stat st;
	int i, n;

	start(argc, argv, 2);
	CHECK(mkdir(path("removed"), 0700) == 0);
	for (i = 0; i < FILES; i++) {
		snprintf(name, sizeof name, "removed/%d", i);
		files[i] = open(path(name), O_RDWR | O_CREAT | O_EXCL, 0640);
		CHECK(files[i] >= 0);
		CHECK(dprintf(files[i], "%d", i) > 0);
		CHECK(unlink(path(name)) == 0);
	}
	write_file("late", "late");
	late = open(path("late"), O_RDONLY);
	CHECK(lseek(late, 2, SEEK_SET) == 2);
	ready();
	while (running()) {
		for (i = 0; i < FILES; i++) {
			n = pread(files[i], text, sizeof text - 1, 0);
			CHECK(n > 0);
			text[n] = 0;
			EQUAL(atoi(text), i);
			CHECK(fstat(files[i], &st) == 0);
			EQUAL(st.st_nlink, 0);
		}
		EQUAL(lseek(late, 0, SEEK_CUR), 2);
	}
	done();
}
