#!/bin/sh
# A job without a batch system. When the script is started again it goes on where it was:
# at(1), cron and systemd can do that after the machine has been started. kill saves and
# ends it. The input of a program of at(1) is a file that only at may open.
exec cr_batch --dir simulate.contexts --interval 30m -- ./simulate input </dev/null >>output 2>&1
