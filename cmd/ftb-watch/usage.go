package main

// usage is the text of --help. A test compares it with the options.
const usage = `Usage: ftb-watch [options] [MASK]

Show the events of a CIFTS Fault Tolerance Backplane (FTB) that MASK matches, a
line for each, until a signal ends it.

      --json                print JSON
      --pair                print a line for each END or ERROR with its BEGIN,
                            instead of one for each event
  -n, --count <num>         end after <num> lines
  -t, --timeout <sec>       end after <sec> seconds
  -v, --verbose             print on stderr which agent was found
  -q, --quiet               print nothing on stderr
  -h, --help                print this text and exit
      --version             print the version and exit

MASK is a subscription string of FTB, KEY=VALUE[,KEY=VALUE...], with the keys
event_space, event_name, severity, host_name, jobid and client_name. Without it
all events are shown:

  ftb-watch event_space=FTB.checkpoint_sw.blcr,jobid=4185

The exit status is 0 after the lines or the time that were asked for, 1 if the
output could not be written, 2 for bad arguments, 3 if there is no agent, 4 if
the time was over before the lines had come or an agent had answered, and 5 if
what has answered is no agent.
`
