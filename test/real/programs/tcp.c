/*
 * TCP connections of which both ends are in the job: a child that answers, one with full queues in both
 * directions, one with an end that is shut down; and the socket that listens, without SO_REUSEADDR.
 */
#include "selfcheck.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

static int talk[2], full[2], half[2];
static long queued[2];
static struct sockaddr_in address = { .sin_family = AF_INET };

static void damage(int kind)
{
	char c;
	int yes = 1;

	switch (kind) {
	case 1: CHECK(read(full[1], &c, 1) == 1); break;
	case 2: CHECK(read(half[1], &c, 1) == 1); break;
	case 3: CHECK(setsockopt(talk[0], IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes) == 0); break;
	}
}

/* Buffers that are soon full. */
static void small(int fd)
{
	int size = 30000;

	CHECK(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size) == 0);
	CHECK(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size) == 0);
}

static void pair(int listener, int fds[2])
{
	fds[0] = socket(AF_INET, SOCK_STREAM, 0);
	small(fds[0]);
	CHECK(connect(fds[0], (void *)&address, sizeof address) == 0);
	CHECK((fds[1] = accept(listener, 0, 0)) >= 0);
}

/* The bytes that are sent from one end. */
static unsigned char nth(int end, long i) { return i * 7 + i / 251 + end; }

/* How large the segments are that an end sends. */
static int segment(int fd)
{
	int size;
	socklen_t len = sizeof size;

	CHECK(getsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, &size, &len) == 0);
	return size;
}

/* Sends from an end until nothing more fits in. */
static void stuff(int end)
{
	unsigned char text[1000];
	ssize_t n;

	do {
		for (int i = 0; i < (int)sizeof text; i++)
			text[i] = nth(end, queued[end] + i);
		while ((n = send(full[end], text, sizeof text, MSG_DONTWAIT)) < 0 && errno == EINTR)
			;
		if (n > 0)
			queued[end] += n;
	} while (n > 0);
	CHECK(n < 0);
}

/* Receives what was sent from the other end. */
static void drain(int end)
{
	unsigned char text[5000];
	long got = 0;
	ssize_t n;

	while (got < queued[!end]) {
		while ((n = recv(full[end], text, sizeof text, 0)) < 0)
			INTERRUPTED();
		CHECK(n > 0);
		for (int i = 0; i < n; i++)
			EQUAL(text[i], nth(!end, got + i));
		got += n;
	}
	EQUAL(got, queued[!end]);
	CHECK(recv(full[end], text, 1, MSG_DONTWAIT) < 0);
}

int main(int argc, char **argv)
{
	char text[64], c;
	int listener, again[2], got, first;
	socklen_t len = sizeof address;
	pid_t child;
	ssize_t n;

	start(argc, argv, 3);
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	listener = socket(AF_INET, SOCK_STREAM, 0);
	CHECK(listener >= 0);
	small(listener);
	CHECK(bind(listener, (void *)&address, sizeof address) == 0);
	CHECK(getsockname(listener, (void *)&address, &len) == 0 && listen(listener, 3) == 0);
	pair(listener, talk);
	pair(listener, full);
	pair(listener, half);
	stuff(0);
	stuff(1);
	CHECK(write(half[0], "left over", 9) == 9 && shutdown(half[0], SHUT_WR) == 0);
	if ((child = fork()) == 0) {
		close(talk[0]);
		while ((n = read(talk[1], &c, 1)) == 1 || (n < 0 && errno == EINTR))
			if (n == 1) {
				c ^= 0x20;
				CHECK(write(talk[1], &c, 1) == 1);
			}
		_exit(21);
	}
	close(talk[1]);
	first = segment(talk[0]);
	ready();
	while (running()) {
		c = 'a' + counter % 26;
		CHECK(write(talk[0], &c, 1) == 1);
		while ((n = read(talk[0], text, 1)) < 0)
			INTERRUPTED();
		EQUAL(n, 1);
		EQUAL(text[0], c ^ 0x20);
		len = sizeof got;
		CHECK(getsockopt(talk[0], IPPROTO_TCP, TCP_NODELAY, &got, &len) == 0);
		EQUAL(got, 0);
		/* Not as small as where nothing is known of the way. */
		CHECK(segment(talk[0]) > first / 4);
	}
	drain(0);
	drain(1);
	CHECK(recv(half[1], text, sizeof text, MSG_WAITALL) == 9 && memcmp(text, "left over", 9) == 0);
	CHECK(write(half[1], "answer", 6) == 6);
	while ((n = recv(half[0], text, 6, MSG_WAITALL)) < 0)
		INTERRUPTED();
	CHECK(n == 6 && memcmp(text, "answer", 6) == 0);
	pair(listener, again);
	CHECK(close(talk[0]) == 0);
	CHECK(waitpid(child, &got, 0) == child);
	EQUAL(got, 21 << 8);
	done();
}
