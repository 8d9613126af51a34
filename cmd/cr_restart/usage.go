package main

// usage is the text of --help. A test compares it with the option table.
const usage = `Usage: cr_restart [options] [checkpoint_file]

Bring the processes in a context file, written by cr_checkpoint(1), back to
life, wait for them, and end as the first of them ends.

General:
  -?, -h, --help            print this text and exit
  -v, --version             print the version and exit
  -q, --quiet               say nothing on stderr

Where from; without any of these, the operand:
  -f, --file <file>         this file; of a directory of contexts the newest
                            one that is not damaged
  -F, --fd <fd>             this open descriptor, from its offset on
  -d, --dir <dir>           this directory of CRIU's images (engine criu only)
      --trust               as root, also a context that another user owns or
                            may write to (engine criu; see the manual)
      --cpu-any             try it also on a processor that lacks what the job's
                            code may use (engine criu)
      --limits-any          also with lower limits of resources than the job
                            had (engine criu)

When:
      --lazy                before all memory is in place; it comes while the
                            job runs (engine criu only)

Signal sent to every process after the restart; the last one counts:
      --run                 none, they run on (default)
  -S, --signal <sig>        this one, by number or name (15, TERM, SIGTERM)
      --stop, --freeze      SIGSTOP
      --term                SIGTERM
      --abort               SIGABRT
      --kill                SIGKILL
      --cont                SIGCONT

Whether cr_restart takes part in later checkpoints; the last one counts:
      --omit-maybe          not when it is named itself or an orphan (default)
      --omit-always         never
      --omit-never          always

Commands to run by /bin/sh -c. One that ends with a status other than 0 gives
cr_restart that status, and silences it; of each kind the last one counts:
      --run-on-success=<command>    as soon as the job runs
      --run-on-failure=<command>    on every failure
      --run-on-fail-args=<command>  bad arguments, or no context to be opened
      --run-on-fail-temp=<command>  may work later: memory, a pid in use
      --run-on-fail-env=<command>   files missing, existing or forbidden
      --run-on-fail-perm=<command>  everything else

      --failure-status <num>  every failure of cr_restart itself ends with this
                            status, 0 to 255; the job's end stays the job's

Moving files, up to 16 times; the first match wins:
      --relocate <old>=<new>  paths that are <old> or below it become <new>;
                              \= stands for =, and \\ for \

      --keep-stdio          standard input, output and error of the job are
                            cr_restart's, even where they were files (engine
                            criu only)

Identifiers; the last one of each pair counts:
      --restore-pid         the saved process IDs (default)
      --no-restore-pid      new process IDs
      --restore-pgid        the saved process groups
      --no-restore-pgid     cr_restart's process group (default)
      --restore-sid         the saved sessions
      --no-restore-sid      cr_restart's session (default)

Messages that the kernel logged about the request; the last one counts:
      --kmsg-none           never show them
      --kmsg-error          show them when the restart fails (default)
      --kmsg-warning        show them in any case

The exit status is the job's, or its signal; 255 for a usage error or a context
that cannot be opened, else the number of the error, unless --failure-status is
given. The engine is the one that has written the context, the kernel module of
BLCR or CRIU; CR_ENGINE=kernel or CR_ENGINE=criu names it explicitly.
`
