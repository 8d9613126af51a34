/* What sockets, terminals, removed files and threads have been told, CRIU does not save, and cr_restart sets again. */
#include "selfcheck.h"
#include <arpa/inet.h>
#include <linux/fs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/xattr.h>
#include <termios.h>

#define GROUP "239.77.1.2"
#define FILTERED "239.77.1.3"
#define GROUP6 "ff15::77:1"

static int four, six = -1, listener, pair[2], master, slave, removed, flags, xattr, clamp;
static unsigned loopback;
static const struct timespec times[2] = { { 1000, 123456789 }, { 2000, 987654321 } };

struct filter {
	uint32_t index;
	struct sockaddr_storage group;
	uint32_t mode, count;
	struct sockaddr_storage sources[2];
};

static void address(struct sockaddr_storage *to, const char *text)
{
	memset(to, 0, sizeof *to);
	to->ss_family = strchr(text, ':') ? AF_INET6 : AF_INET;
	CHECK(inet_pton(to->ss_family, text, strchr(text, ':') ? (void *)&((struct sockaddr_in6 *)to)->sin6_addr : (void *)&((struct sockaddr_in *)to)->sin_addr) == 1);
}

static struct filter filter(const char *group)
{
	struct filter f = { .index = loopback };

	address(&f.group, group);
	return f;
}

static void join(int fd, int level, const char *group)
{
	struct filter f = filter(group);

	CHECK(setsockopt(fd, level, MCAST_JOIN_GROUP, &f, sizeof(struct group_req)) == 0);
}

static void is_in(int fd, int level, const char *group, unsigned mode, unsigned count)
{
	struct filter f = filter(group);
	socklen_t size = sizeof f;

	f.count = 2;
	CHECK(getsockopt(fd, level, MCAST_MSFILTER, &f, &size) == 0);
	EQUAL(f.mode, mode);
	EQUAL(f.count, count);
}

static int option(int fd, int level, int name)
{
	int value = -1;
	socklen_t size = sizeof value;

	CHECK(getsockopt(fd, level, name, &value, &size) == 0);
	return value;
}

static void damage(int kind)
{
	struct filter f = filter(GROUP);
	int off = 0;

	switch (kind) {
	case 1: setsockopt(four, IPPROTO_IP, MCAST_LEAVE_GROUP, &f, sizeof(struct group_req)); break;
	case 2: ioctl(slave, TIOCNXCL); break;
	case 3: fchmod(slave, 0620); break;
	case 4: ioctl(slave, TCXONC, TCOON); break;
	case 5: futimens(removed, (struct timespec[]){ { 1000, 123456000 }, { 2000, 987654000 } }); break;
	case 6: setsockopt(pair[0], SOL_SOCKET, SO_TIMESTAMP, &off, sizeof off); break;
	}
}

int main(int argc, char **argv)
{
	struct filter f;
	struct stat st;
	int on = 1, value;
	char text[16];

	start(argc, argv, 6);
	CHECK((loopback = if_nametoindex("lo")) > 0);
	CHECK((four = socket(AF_INET, SOCK_DGRAM, 0)) >= 0);
	join(four, IPPROTO_IP, GROUP);
	join(four, IPPROTO_IP, FILTERED);
	f = filter(FILTERED);
	f.mode = MCAST_INCLUDE;
	f.count = 1;
	address(&f.sources[0], "127.0.0.9");
	CHECK(setsockopt(four, IPPROTO_IP, MCAST_MSFILTER, &f, sizeof f) == 0);
	if ((six = socket(AF_INET6, SOCK_DGRAM, 0)) >= 0) {
		join(six, IPPROTO_IPV6, GROUP6);
		join(six, IPPROTO_IP, GROUP);
	}
	CHECK((listener = socket(AF_INET, SOCK_STREAM, 0)) >= 0);
	value = 700;
	CHECK(setsockopt(listener, IPPROTO_TCP, TCP_MAXSEG, &value, sizeof value) == 0 && listen(listener, 1) == 0);
	value = 9000;
	CHECK(setsockopt(listener, IPPROTO_TCP, TCP_WINDOW_CLAMP, &value, sizeof value) == 0);
	clamp = option(listener, IPPROTO_TCP, TCP_WINDOW_CLAMP);
	CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) == 0);
	CHECK(setsockopt(pair[0], SOL_SOCKET, SO_TIMESTAMP, &on, sizeof on) == 0);

	CHECK((master = open("/dev/ptmx", O_RDWR | O_NOCTTY)) >= 0 && grantpt(master) == 0 && unlockpt(master) == 0);
	CHECK((slave = open(ptsname(master), O_RDWR | O_NOCTTY)) >= 0);
	CHECK(fchmod(slave, 0604) == 0 && ioctl(slave, TIOCEXCL) == 0 && ioctl(slave, TCXONC, TCOOFF) == 0);

	CHECK((removed = open(path("removed"), O_RDWR | O_CREAT, 0644)) >= 0);
	xattr = fsetxattr(removed, "user.mark", "saved", 5, 0) == 0;
	flags = FS_NODUMP_FL;
	if (ioctl(removed, FS_IOC_GETFLAGS, &value) || (value |= flags, ioctl(removed, FS_IOC_SETFLAGS, &value)))
		flags = 0;	/* the file system has none */
	CHECK(futimens(removed, times) == 0 && unlink(path("removed")) == 0);
	ready();
	while (running()) {
		is_in(four, IPPROTO_IP, GROUP, MCAST_EXCLUDE, 0);
		is_in(four, IPPROTO_IP, FILTERED, MCAST_INCLUDE, 1);
		if (six >= 0) {
			is_in(six, IPPROTO_IPV6, GROUP6, MCAST_EXCLUDE, 0);
			is_in(six, IPPROTO_IP, GROUP, MCAST_EXCLUDE, 0);
		}
		EQUAL(option(listener, IPPROTO_TCP, TCP_MAXSEG), 700);
		EQUAL(option(listener, IPPROTO_TCP, TCP_WINDOW_CLAMP), clamp);
		EQUAL(option(pair[0], SOL_SOCKET, SO_TIMESTAMP), 1);

		struct pollfd p = { .fd = slave, .events = POLLOUT };
		CHECK(ioctl(slave, TIOCGEXCL, &value) == 0);
		EQUAL(value, 1);
		EQUAL(poll(&p, 1, 0), 0);
		CHECK(fstat(slave, &st) == 0);
		EQUAL(st.st_mode & 0777, 0604);

		CHECK(fstat(removed, &st) == 0);
		EQUAL(st.st_mtim.tv_nsec, times[1].tv_nsec);
		if (xattr)
			EQUAL(fgetxattr(removed, "user.mark", text, sizeof text), 5);
		if (flags) {
			CHECK(ioctl(removed, FS_IOC_GETFLAGS, &value) == 0);
			EQUAL(value & flags, flags);
		}
	}
	done();
}
