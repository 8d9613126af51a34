/* Shared anonymous memory between a parent and two children. */
#include "selfcheck.h"

#define N (32 * 4096)

static struct shared {
	volatile unsigned long a, b, parent;
} *sh;
static unsigned char *more;
static pid_t pid[2];

static void damage(int kind)
{
	switch (kind) {
	case 1:	/* no longer shared */
		mmap(sh, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
		break;
	case 2: more[4097] ^= 1; break;
	case 3: kill(pid[1], SIGKILL); break;
	}
}

int main(int argc, char **argv)
{
	unsigned long a = 0, b = 0;

	start(argc, argv, 3);
	sh = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	more = mmap(NULL, N, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(sh != MAP_FAILED && more != MAP_FAILED);
	fill(more, N, 9);
	for (int i = 0; i < 2; i++) {
		if ((pid[i] = fork()) == 0) {
			self = getpid();
			do {
				if (i == 0)
					sh->a++;
				else
					sh->b++;
				check_fill(more, N, 9, "shared memory, child");
			} while (!child_ends());
			_exit(7);
		}
	}
	ready();
	while (running()) {
		check_fill(more, N, 9, "shared memory");
		/* Both children are seen to count. */
		for (int tries = 0; sh->a <= a || sh->b <= b; tries++) {
			if (tries > 500)
				wrong("a child's counting is not seen: %lu %lu", sh->a, sh->b);
			msleep(5);
		}
		a = sh->a;
		b = sh->b;
	}
	reap_child(pid[0], 7);
	reap_child(pid[1], 7);
	done();
}
