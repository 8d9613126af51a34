package main

// usage is the text of --help, after the name by which cr_run was called. A test
// compares it with the option table.
const usage = `: program [args...]

Start a program so that BLCR can save it: with BLCR's library in LD_PRELOAD,
where this machine has it.

Options, in front of the program:
  -?, --help       print this text and exit
      --version    print the version and exit
      --run        let checkpoints save the program (this is the default)
      --omit       let checkpoints leave the program out
      --           end the options

Of --run and --omit the last one counts. The exit status is the program's, or
127 if it is not found, or 126 if it cannot be executed.
`
