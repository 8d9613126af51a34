/*
 * A thread that does nothing but handle faults, as some runtimes do, of memory and of arithmetic,
 * and another one that handles some.
 */
#include "selfcheck.h"
#include <pthread.h>
#include <setjmp.h>

static __thread sigjmp_buf jump;
static __thread siginfo_t last;
static volatile char *memory;
static volatile int zero, finished, broken;

static void fault(int sig, siginfo_t *info, void *context)
{
	(void)context;
	last = *info;
	siglongjmp(jump, sig);
}

/* once has one fault of memory and one of arithmetic. */
static void once(void)
{
	int sig = sigsetjmp(jump, 1);

	if (sig == 0)
		memory[77] = 1;
	EQUAL(sig, broken == 1 ? SIGBUS : SIGSEGV);
	CHECK(last.si_addr == &memory[77]);
	sig = sigsetjmp(jump, 1);
	if (sig == 0)
		zero = 100 / zero;
	EQUAL(sig, broken == 2 ? SIGBUS : SIGFPE);
	EQUAL(last.si_code, FPE_INTDIV);
}

static void *body(void *arg)
{
	while (!finished)
		once();
	return arg;
}

static void damage(int kind)
{
	broken = kind;
}

int main(int argc, char **argv)
{
	struct sigaction sa = { .sa_sigaction = fault, .sa_flags = SA_SIGINFO };
	pthread_t thread;

	start(argc, argv, 2);
	CHECK(sigaction(SIGSEGV, &sa, NULL) == 0 && sigaction(SIGFPE, &sa, NULL) == 0);
	memory = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(memory != MAP_FAILED && pthread_create(&thread, NULL, body, NULL) == 0);
	ready();
	while (running())
		once();
	finished = 1;
	CHECK(pthread_join(thread, NULL) == 0);
	done();
}
