/*
 * An MPI program for the tests: a number goes round all ranks, each of which adds its own
 * rank and remembers the sum of all rounds. Rank 0 appends the number of each round to the
 * file steps. When there is a file finish, all ranks compare their sums with what they
 * have to be; if they are not the program ends with 1.
 */
#include <mpi.h>
#include <stdio.h>
#include <unistd.h>

static void step(long n)
{
	FILE *f = fopen("steps", "a");

	if (!f || fprintf(f, "%ld\n", n) < 0 || fclose(f) != 0)
		MPI_Abort(MPI_COMM_WORLD, 1);
}

int main(int argc, char **argv)
{
	int rank, size, end = 0, wrong = 0;
	long n = 0, sum = 0, number;

	MPI_Init(&argc, &argv);
	MPI_Comm_rank(MPI_COMM_WORLD, &rank);
	MPI_Comm_size(MPI_COMM_WORLD, &size);
	while (!end) {
		number = ++n;
		if (rank == 0) {
			end = access("finish", F_OK) == 0;
			step(n);
			usleep(100000);
		} else {
			MPI_Recv(&number, 1, MPI_LONG, rank - 1, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
		}
		number += rank;
		sum += number;
		MPI_Send(&number, 1, MPI_LONG, (rank + 1) % size, 0, MPI_COMM_WORLD);
		if (rank == 0) {
			MPI_Recv(&number, 1, MPI_LONG, size - 1, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
			wrong |= number != n + (long)size * (size - 1) / 2;
		}
		MPI_Bcast(&end, 1, MPI_INT, 0, MPI_COMM_WORLD);
	}
	wrong |= sum != n * (n + 1) / 2 + n * rank * (rank + 1) / 2;
	if (wrong)
		fprintf(stderr, "rank %d: the sum of %ld rounds is %ld\n", rank, n, sum);
	MPI_Finalize();
	return wrong;
}
