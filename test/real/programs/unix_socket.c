/*
 * UNIX sockets inside the job: two that listen, by path and by abstract name, a child
 * connected to each, and new connections all the time.
 */
#include "selfcheck.h"
#include <sys/socket.h>
#include <stddef.h>
#include <sys/un.h>

static int listening[2], conn[2];

static void damage(int kind)
{
	if (kind == 1)
		shutdown(conn[0], SHUT_RDWR);
	else
		close(listening[1]);
}

static socklen_t address(struct sockaddr_un *a, int which)
{
	memset(a, 0, sizeof *a);
	a->sun_family = AF_UNIX;
	/* Relative, for the names of directories may be longer than it can be. */
	if (which == 0)
		strcpy(a->sun_path, "socket");
	else
		sprintf(a->sun_path + 1, "realtest-%d", (int)self);
	return which == 0 ? sizeof *a : offsetof(struct sockaddr_un, sun_path) + 1 + strlen(a->sun_path + 1);
}

static void echo(int fd, char c)
{
	char got = 0;

	CHECK(send(fd, &c, 1, MSG_NOSIGNAL) == 1);
	while (read(fd, &got, 1) < 0)
		INTERRUPTED();
	EQUAL(got, c + 1);
}

int main(int argc, char **argv)
{
	struct sockaddr_un a;
	socklen_t len;
	pid_t child[2];

	start(argc, argv, 2);
	CHECK(chdir(dir) == 0);
	for (int i = 0; i < 2; i++) {
		len = address(&a, i);
		listening[i] = socket(AF_UNIX, SOCK_STREAM, 0);
		CHECK(listening[i] >= 0 && bind(listening[i], (void *)&a, len) == 0 && listen(listening[i], 5) == 0);
		if ((child[i] = fork()) == 0) {
			int fd = socket(AF_UNIX, SOCK_STREAM, 0);
			ssize_t n;
			char c;

			close(listening[i]);
			CHECK(connect(fd, (void *)&a, len) == 0);
			while ((n = read(fd, &c, 1)) == 1 || (n < 0 && errno == EINTR))
				if (n == 1) {
					c++;
					CHECK(write(fd, &c, 1) == 1);
				}
			_exit(22);
		}
		conn[i] = accept(listening[i], NULL, NULL);
		CHECK(conn[i] >= 0);
	}
	ready();
	while (running())
		for (int i = 0; i < 2; i++) {
			struct sockaddr_un now;
			socklen_t now_len = sizeof now;
			int to, from;

			echo(conn[i], 'a' + counter % 20);
			/* A new connection, to the address that the socket still has. */
			len = address(&a, i);
			CHECK(getsockname(listening[i], (void *)&now, &now_len) == 0);
			CHECK(memcmp(&now, &a, i == 0 ? offsetof(struct sockaddr_un, sun_path) + 7 : len) == 0);
			to = socket(AF_UNIX, SOCK_STREAM, 0);
			CHECK(connect(to, (void *)&a, len) == 0);
			from = accept(listening[i], NULL, NULL);
			CHECK(from >= 0 && write(to, "x", 1) == 1);
			CHECK(read(from, &now, 1) == 1);
			close(to);
			close(from);
		}
	for (int i = 0; i < 2; i++) {
		shutdown(conn[i], SHUT_RDWR);
		reap_child(child[i], 22);
	}
	done();
}
