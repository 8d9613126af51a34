#!/bin/bash
# A job of OAR that survives its time limit: OAR sends the script SIGUSR1 ten minutes
# before. An idempotent job that ends with 99 is submitted again, with another id, and
# goes on in the directory that the script names.
# Untried: no OAR was to be had.
#OAR -l walltime=04:00:00
#OAR --checkpoint 600
#OAR --signal 10
#OAR -t idempotent

cr_batch --dir simulate.contexts --interval 30m -- ./simulate input
status=$?
[ "$status" != 85 ] || exit 99
exit "$status"
