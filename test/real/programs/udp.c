/* A UDP socket on the loopback interface, connected to itself, with its options, of which CRIU does not know all. */
#include "selfcheck.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

static int fd;

static void damage(int kind)
{
	int small = 4096, off = 0;

	if (kind == 1)
		connect(fd, &(struct sockaddr){ .sa_family = AF_UNSPEC }, sizeof(struct sockaddr));
	else if (kind == 2)
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
	else
		setsockopt(fd, IPPROTO_IP, IP_RECVTTL, &off, sizeof off);
}

int main(int argc, char **argv)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) }, now;
	socklen_t len = sizeof a;
	int size = 100000, on = 1, discover = IP_PMTUDISC_DO, got;
	char text[16];

	start(argc, argv, 3);
	fd = socket(AF_INET, SOCK_DGRAM, 0);
	CHECK(fd >= 0 && bind(fd, (void *)&a, sizeof a) == 0);
	CHECK(getsockname(fd, (void *)&a, &len) == 0 && connect(fd, (void *)&a, len) == 0);
	CHECK(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size) == 0);
	CHECK(setsockopt(fd, IPPROTO_IP, IP_RECVTTL, &on, sizeof on) == 0);
	CHECK(setsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &discover, sizeof discover) == 0);
	ready();
	while (running()) {
		len = sizeof now;
		CHECK(getsockname(fd, (void *)&now, &len) == 0);
		EQUAL(now.sin_port, a.sin_port);
		EQUAL(send(fd, "datagram", 8, 0), 8);
		EQUAL(recv(fd, text, sizeof text, MSG_DONTWAIT), 8);
		len = sizeof got;
		CHECK(getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &got, &len) == 0);
		EQUAL(got, 2 * size);
		CHECK(getsockopt(fd, IPPROTO_IP, IP_RECVTTL, &got, &len) == 0);
		EQUAL(got, on);
		CHECK(getsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &got, &len) == 0);
		EQUAL(got, discover);
	}
	done();
}
