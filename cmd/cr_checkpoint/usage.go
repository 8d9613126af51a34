package main

// usage is the text of --help. A test compares it with the option table.
const usage = `Usage: cr_checkpoint [options] ID

Save running processes into a context file, from which cr_restart(1) brings
them back.

General:
  -v, --verbose             say what is being done
  -q, --quiet               say nothing on stderr
  -?, -h, --help            print this text and exit
      --version             print the version and exit

What to save; the last one counts:
  -T, --tree                the process ID and all its descendants (default)
  -p, --pid, --process      the process ID alone
  -g, --pgid, --group       the process group ID
  -s, --sid, --session      the session ID

Where to, at most one of:
  -c, --cwd                 'context.ID' in the working directory (default)
  -d, --dir <dir>           a directory, as CRIU's images (engine criu only)
  -f, --file <file>         this file
  -F, --fd <fd>             this open descriptor, from its offset on

      --compress[=<how>]    compress the context, by 'zstd' (default) or by
                            'zstd:<level>', from 1, the fastest, to 22, or by
                            'none'; the last one counts; engine criu only, and
                            not with -d

What becomes of an existing file, or directory of images; the last one counts,
none matters with -F:
      --atomic              it is replaced once the new one is whole (default)
      --backup[=<name>]     as --atomic, and it is kept, as <name> or as
                            FILE.~1~, FILE.~2~ and so on
      --keep <num>          as --backup, and only the <num> newest contexts,
                            FILE included, stay; not with -d or -F
      --clobber             it is overwritten in place (a directory: --atomic)
      --noclobber           it is left alone, and cr_checkpoint fails

Signal sent to every process afterwards; the last one counts:
      --run                 none, they run on (default)
  -S, --signal <sig>        this one, by number or name (15, TERM, SIGTERM)
      --stop                SIGSTOP
      --term                SIGTERM
      --abort               SIGABRT
      --kill                SIGKILL
      --cont                SIGCONT

Durability; the last one counts:
      --sync                the context is on disk before success is reported
                            (default)
      --nosync              the system writes it when it likes

Mapped files to save with the processes; they add up from left to right:
      --save-exe            the executables
      --save-private        privately mapped files, such as libraries
      --save-shared         files mapped as shared memory
      --save-all            all of these
      --save-none           none of these (default)

Processes that are being traced; the last one counts:
      --ptraced-error       fail (default)
      --ptraced-skip        leave them out, with --tree their children too
      --ptraced-allow       save them; their tracer may have to continue them

Processes that trace others; the last one counts:
      --ptracer-error       fail (default)
      --ptracer-skip        leave them out, with --tree their children too

Messages that the kernel logged about the request; the last one counts:
      --kmsg-none           never show them
      --kmsg-error          show them when the checkpoint fails (default)
      --kmsg-warning        show them in any case

Other:
      --check               save nothing, say whether it could be saved; with
                            the exit status that the checkpoint would have
  -t, --time <sec>          give up after <sec> seconds; 0 is never (default)

The exit status is 0 for success, 255 for a usage error, else the number of the
error. The engine is the kernel module of BLCR where there is one, else CRIU;
CR_ENGINE=kernel or CR_ENGINE=criu names it explicitly.
`
