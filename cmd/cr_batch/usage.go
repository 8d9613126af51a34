package main

// usage is the text of --help. A test compares it with the options.
const usage = `Usage: cr_batch [options] -- COMMAND [ARG...]

Start COMMAND, or restart it from its newest checkpoint if there is one. Save it
from time to time, and save and end it when the batch system says so.

  -d, --dir <dir>           where the checkpoints are; by default cr_batch.ID
                            with the id of the batch job, or the command's name
  -i, --interval <time>     between checkpoints: 900, 15m, 1h; 0 for none
                            (default 1h)
  -k, --keep <num>          keep so many checkpoints (default 2)
  -s, --signal <names>      save and end the job at these signals (default
                            USR1,TERM); most others are passed on to it
  -r, --requeue             have the batch system start it again when it has
                            been saved and ended
      --requeue-command <command>  the same, by this command for the shell
      --max-restarts <num>  give up after so many restarts
      --stage <dir>         keep the files in <dir> with each checkpoint, and
                            put them back before a restart
      --checkpoint-option <word>  pass this on to cr_checkpoint
      --restart-option <word>  pass this on to cr_restart
  -l, --log <file>          write to <file> what is done, instead of stderr
  -q, --quiet               write no such lines
  -h, --help                print this text and exit
      --version             print the version and exit

The exit status is that of COMMAND, which may have been saved and restarted any
number of times; 85 if it has been saved and ended, and is to be started again
by the same command line; 75 if it cannot be restarted here and now; 125 for
bad arguments, 126 and 127 if COMMAND cannot be executed.
`
