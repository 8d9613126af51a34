#!/bin/sh
# Jobs of GNU parallel that go on where they were when this script is started again, after
# Ctrl-C, kill, or a failure of the machine. GNU parallel passes no signal on: kill -s USR1
# of the processes of cr_batch saves them.
exec parallel --jobs 2 --results output \
	'cr_batch --dir {}.contexts --interval 30m -- ./simulate {}' ::: "$@"
