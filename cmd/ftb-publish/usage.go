package main

// usage is the text of --help. A test compares it with the option table.
const usage = `Usage: ftb-publish [options] EVENT

Publish EVENT on a CIFTS Fault Tolerance Backplane (FTB), through its agent on
this machine.

General:
  -v, --verbose             say what is being done
  -q, --quiet               say nothing on stderr
  -?, -h, --help            print this text and exit
      --version             print the version and exit

What is published; of each the last one counts:
      --space <space>       the event space, such as SITE.scheduler.prolog
                            (default FTB.checkpoint_sw.blcr, which takes BLCR's
                            six events only)
      --severity <name>     fatal, error, warning or info (default: as BLCR has
                            it for its own events, INFO for all others)
      --client-name <name>  the client's name (default none)
      --jobid <id>          the job's (default CR_FTB_JOBID of the environment)

What goes with it, 368 bytes in all; at most one of the first three:
      --payload <text>      this text
      --payload-hex <hex>   the bytes that these hexadecimal digits stand for
      --payload-file <file> the content of this file, of standard input if it
                            is '-'
      --reply-to <handle>   the event is a response to the one with this handle,
                            720 hexadecimal digits, which goes first
      --errno <num>         the error number <num> goes last, as 4 bytes

Other:
      --timeout <sec>       give up after <sec> seconds (default 2)
      --print-handle        print the event's handle, for --reply-to
      --json                print what has become of it, in JSON
      --check               connect to an agent and publish nothing, without an
                            EVENT

The exit status is 0 if an agent has taken the event, 2 for bad arguments, 3 if
there is no agent, 4 if it took too long, 5 if the agent broke the protocol, and
1 if the output could not be written.
`
