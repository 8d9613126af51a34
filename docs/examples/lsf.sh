#!/bin/bash
# A job of LSF that survives its time limit and failures of its node. The signal of -wa
# goes to the program as well, so the script asks for a checkpoint itself.
# Untried: no LSF was to be had.
#BSUB -W 240
#BSUB -r

# Ten minutes before the limit; exec keeps the process ID.
(sleep 13800 && kill -s USR1 $$) &
exec cr_batch --requeue --interval 30m -- ./simulate input
