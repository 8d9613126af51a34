#!/bin/bash
# A job of PBS or Torque that survives its time limit and failures of its node. PBS sends
# SIGTERM at the limit, to the program as well, so the script asks for a checkpoint before.
# Untried: no PBS was to be had.
#PBS -l walltime=04:00:00
#PBS -r y

cd "$PBS_O_WORKDIR" || exit
# Ten minutes before the limit; exec keeps the process ID.
(sleep 13800 && kill -s USR1 $$) &
# qrerun is for operators at many sites: then use --requeue-command "qsub pbs.sh", with a
# directory that does not depend on the job's id, as here.
exec cr_batch --dir "$PBS_JOBNAME.contexts" --requeue --interval 30m -- ./simulate input
