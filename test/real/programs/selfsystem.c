/* The C program of TestSelfSystem: it counts, gives its command to system() with
   its own pid put in for @, and counts on. With "threads" another thread does
   that while two have something else to do. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile unsigned long turns[2];

static void *busy(void *arg)
{
	for (volatile unsigned long *n = arg;; usleep(1000))
		++*n;
	return NULL;
}

static void *call(void *command)
{
	int status = system(command);

	if (WIFEXITED(status))
		printf("status %d\n", WEXITSTATUS(status));
	else
		printf("status %#x\n", status);
	return NULL;
}

int main(int argc, char **argv)
{
	char command[4096];
	pthread_t threads[3];
	int n;

	if (argc < 2)
		return 2;
	setvbuf(stdout, NULL, _IOLBF, 0);
	n = strcspn(argv[1], "@");
	snprintf(command, sizeof command, "%.*s%d%s", n, argv[1], (int)getpid(), argv[1][n] ? argv[1] + n + 1 : "");
	for (int i = 1; i <= 3; i++)
		printf("%d\n", i);
	if (argc > 2 && strcmp(argv[2], "threads") == 0) {
		for (int i = 0; i < 2; i++)
			pthread_create(&threads[i], NULL, busy, (void *)&turns[i]);
		pthread_create(&threads[2], NULL, call, command);
		pthread_join(threads[2], NULL);
		for (int i = 0; i < 2; i++)
			for (unsigned long before = turns[i]; turns[i] == before;)
				usleep(1000);
	} else {
		call(command);
	}
	for (int i = 4; i <= 6; i++)
		printf("%d\n", i);
	return 7;
}
