#!/bin/bash
# A SLURM job that survives its time limit, by cr_checkpoint and cr_restart alone.
# The lines that are to be changed: the limits, and ./simulate. With sbatch --array
# each task has a context of its own.
#SBATCH --time=04:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append

job=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}
job=${job:-$SLURM_JOB_ID}
context=$SLURM_SUBMIT_DIR/$job.context

# If the checkpoint fails, the program and the script run on.
save() {
	asked=yes
	if [ "$pid" ] && cr_checkpoint -f "$context" --kill "$pid"
	then
		exec scontrol requeue "$job"
	fi
}
asked='' pid=''
trap save USR1

if [ -e "$context" ]
then
	cr_restart "$context" &
else
	cr_run ./simulate input &
fi
pid=$!
# The signal may have come before the program.
[ -z "$asked" ] || save

# A signal ends the wait, too.
while asked=''; wait "$pid"; status=$?; [ "$asked" ]
do
	:
done
[ "$status" != 0 ] || rm -f "$context"
exit "$status"
