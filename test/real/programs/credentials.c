/* Groups and capabilities, of children that gave up much of what root may do; see users.c for more. */
#include "selfcheck.h"
#include <grp.h>
#include <sys/syscall.h>
#include <linux/capability.h>

static pid_t grouped, weak;
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

/* In other groups, and never to gain anything by exec. */
static void be_grouped(void)
{
	gid_t groups[] = { 2001, 2002, 2003 }, got[8];

	CHECK(setgroups(3, groups) == 0);
	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	do {
		if (*fault)
			_exit(3);
		EQUAL(getgroups(8, got), 3);
		CHECK(memcmp(got, groups, sizeof groups) == 0);
		EQUAL(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 1);
	} while (!child_ends());
	_exit(5);
}

/* Two capabilities are left, one of them in effect. */
static void be_weak(void)
{
	struct __user_cap_header_struct h = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct d[2] = { { 1 << CAP_KILL, 1 << CAP_KILL | 1 << CAP_CHOWN, 0 }, { 0, 0, 0 } };
	uint32_t eff, perm;

	CHECK(syscall(SYS_capset, &h, d) == 0);
	do {
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
	if ((grouped = fork()) == 0)
		be_grouped();
	if ((weak = fork()) == 0)
		be_weak();
	ready();
	while (running())
		CHECK(getuid() == 0);
	reap_child(grouped, 5);
	reap_child(weak, 6);
	done();
}
