/*
 * Socket pairs, stream, datagram and seqpacket, with data queued in both directions, options set, and
 * one end closed, and one shared with a child.
 */
#include "selfcheck.h"
#include <sys/socket.h>

static int stream[2], dgram[2], seq[2], half[2], talk[2], idle[2];

static void damage(int kind)
{
	char text[64];
	int no = 0;

	switch (kind) {
	case 1: CHECK(read(stream[0], text, 1) == 1); break;
	case 2: CHECK(read(dgram[1], text, sizeof text) > 0); break;
	case 3: setsockopt(idle[0], SOL_SOCKET, SO_PASSCRED, &no, sizeof no); break;
	case 4: CHECK(write(seq[0], "more", 4) == 4); break;
	}
}

static void expect(int fd, const char *want)
{
	char got[64];
	ssize_t n = recv(fd, got, sizeof got, MSG_DONTWAIT);

	if (n != (ssize_t)strlen(want) || memcmp(got, want, n))
		wrong("received %zd bytes '%.*s', want '%s'", n, n > 0 ? (int)n : 0, got, want);
}

int main(int argc, char **argv)
{
	char text[64], c;
	pid_t child;
	int yes = 1, got;
	socklen_t len;
	ssize_t n;

	start(argc, argv, 4);
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, stream) == 0);
	CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, dgram) == 0);
	CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, seq) == 0);
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, half) == 0);
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, talk) == 0);
	/* With data queued as well, CRIU refuses: that has credentials with it then. */
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, idle) == 0);
	CHECK(setsockopt(idle[0], SOL_SOCKET, SO_PASSCRED, &yes, sizeof yes) == 0);
	CHECK(write(stream[0], "to the right", 12) == 12 && write(stream[1], "to the left", 11) == 11);
	CHECK(write(dgram[0], "one", 3) == 3 && write(dgram[0], "two two", 7) == 7);
	CHECK(write(seq[0], "first", 5) == 5 && write(seq[0], "2nd", 3) == 3);
	CHECK(write(half[1], "left over", 9) == 9);
	CHECK(shutdown(half[1], SHUT_WR) == 0);
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
	ready();
	while (running()) {
		c = 'a' + counter % 26;
		CHECK(write(talk[0], &c, 1) == 1);
		while (read(talk[0], text, 1) < 0)
			INTERRUPTED();
		EQUAL(text[0], c ^ 0x20);
		len = sizeof got;
		CHECK(getsockopt(idle[0], SOL_SOCKET, SO_PASSCRED, &got, &len) == 0);
		EQUAL(got, 1);
	}
	expect(stream[1], "to the right");
	expect(stream[0], "to the left");
	expect(dgram[1], "one");
	expect(dgram[1], "two two");
	expect(seq[1], "first");
	expect(seq[1], "2nd");
	EQUAL(recv(seq[1], text, sizeof text, MSG_DONTWAIT), -1);
	expect(half[0], "left over");
	expect(half[0], "");	/* its end */
	close(talk[0]);
	reap_child(child, 21);
	done();
}
