/* The working directory and the umask. */
#include "selfcheck.h"

static void damage(int kind)
{
	if (kind == 1)
		CHECK(chdir("..") == 0);
	else
		umask(022);
}

int main(int argc, char **argv)
{
	char want[PATH_MAX], got[PATH_MAX];
	struct stat st;
	int fd;

	start(argc, argv, 2);
	CHECK(mkdir(path("here"), 0755) == 0);
	CHECK(chdir(path("here")) == 0);
	CHECK(getcwd(want, sizeof want));
	umask(0137);
	ready();
	while (running()) {
		CHECK(getcwd(got, sizeof got) && strcmp(got, want) == 0);
		fd = open("new", O_WRONLY | O_CREAT, 0777);
		CHECK(fd >= 0 && fstat(fd, &st) == 0);
		EQUAL(st.st_mode & 0777, 0640);
		close(fd);
		CHECK(exists("here/new") && unlink("new") == 0);
	}
	done();
}
