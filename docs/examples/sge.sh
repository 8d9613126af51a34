#!/bin/bash
# A job of Grid Engine that survives its time limit and failures of its node. Its own
# signals before the limit, those of s_rt and -notify, go to the program as well, so the
# script asks for a checkpoint itself. cr_batch ends with 99, which requeues the job.
# With qsub -ckpt cr_batch, the environment in sge.ckpt, it also gives way when it is
# suspended.
#$ -S /bin/bash
#$ -l h_rt=04:00:00
#$ -r y
#$ -cwd

# Ten minutes before the limit; exec keeps the process ID.
(sleep 13800 && kill -s USR1 $$) &
exec cr_batch --requeue --interval 30m -- ./simulate input
