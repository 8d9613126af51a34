#!/bin/bash
# A SLURM job that survives its time limit, preemption and failures of its node. The
# lines that are to be changed: the limit, the interval, and ./simulate. With
# sbatch --array each task has contexts of its own.
#SBATCH --time=04:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append

exec cr_batch --requeue --interval 30m -- ./simulate input
