/* Other users, of children that gave up being root. */
#include "selfcheck.h"
#include <grp.h>
#include <sys/syscall.h>
#include <linux/capability.h>

static pid_t user, mixed;
static int *fault;

static void damage(int kind)
{
	*fault = kind;
}

static void caps(uint32_t *effective, uint32_t *permitted)
{
	struct __user_cap_header_struct h = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct d[2];

	CHECK(syscall(SYS_capget, &h, d) == 0);
	*effective = d[0].effective;
	*permitted = d[0].permitted;
}

/* An ordinary user. */
static void be_user(void)
{
	gid_t groups[] = { 2001, 2002, 2003 }, got[8];
	uid_t r, e, s;
	uint32_t eff, perm;

	CHECK(setgroups(3, groups) == 0 && setresgid(1500, 1500, 1500) == 0 && setresuid(1600, 1600, 1600) == 0);
	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	do {
		if (*fault)
			_exit(3);
		CHECK(getresuid(&r, &e, &s) == 0);
		CHECK(r == 1600 && e == 1600 && s == 1600);
		CHECK(getresgid(&r, &e, &s) == 0);
		CHECK(r == 1500 && e == 1500 && s == 1500);
		EQUAL(getgroups(8, got), 3);
		CHECK(memcmp(got, groups, sizeof groups) == 0);
		EQUAL(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 1);
		caps(&eff, &perm);
		EQUAL(eff | perm, 0);
	} while (!child_ends());
	_exit(5);
}

/* Three different ids, one capability of root's left. */
static void be_mixed(void)
{
	struct __user_cap_header_struct h = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct d[2] = { { 1 << CAP_KILL, 1 << CAP_KILL | 1 << CAP_CHOWN, 0 }, { 0, 0, 0 } };
	uid_t r, e, s;
	uint32_t eff, perm;

	CHECK(prctl(PR_SET_KEEPCAPS, 1) == 0);
	CHECK(setresgid(11, 12, 13) == 0 && setresuid(21, 22, 23) == 0);
	CHECK(syscall(SYS_capset, &h, d) == 0);
	do {
		CHECK(getresuid(&r, &e, &s) == 0);
		CHECK(r == 21 && e == 22 && s == 23);
		CHECK(getresgid(&r, &e, &s) == 0);
		CHECK(r == 11 && e == 12 && s == 13);
		caps(&eff, &perm);
		EQUAL(eff, 1 << CAP_KILL);
		EQUAL(perm, 1 << CAP_KILL | 1 << CAP_CHOWN);
	} while (!child_ends());
	_exit(6);
}

int main(int argc, char **argv)
{
	start(argc, argv, 1);
	fault = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(chmod(dir, 0777) == 0);	/* for the children's `wrong` */
	if ((user = fork()) == 0)
		be_user();
	if ((mixed = fork()) == 0)
		be_mixed();
	ready();
	while (running())
		CHECK(getuid() == 0);
	reap_child(user, 5);
	reap_child(mixed, 6);
	done();
}
