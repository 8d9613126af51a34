package main

import (
	"fmt"
	"io"

	"blcr-cli/internal/cli"
	"blcr-cli/internal/entry"

	// Importing it answers a request by BLCR's module that arrives before the exec.
	_ "blcr-cli/internal/ckpt/kernel/selfckpt"
)

const name = "cr_run"

func versionLine() string { return fmt.Sprintf("%s: version %s\n", name, cli.Version) }

// run is the command: args is its whole argument vector. It returns the exit status; it
// does not return if the program was executed.
func run(args []string, stdout, stderr io.Writer) int {
	// The program inherits descriptors and limits from this process.
	entry.DeclineRequests()
	entry.HideClosed()
	entry.RestoreLimit()
	called := name
	if len(args) > 0 {
		called = args[0]
	}
	return cli.Run(name, "start a program so that BLCR can save it", args, stdout, stderr,
		func(args []string, con *cli.Console) int {
			s := parse(args)
			switch {
			case s.wanted == optHelp:
				io.WriteString(con.Stdout, called+usage)
				return 0
			case s.wanted == optVersion:
				io.WriteString(con.Stdout, versionLine())
				return 0
			case len(s.program) == 0:
				// As the shell's exec at the end of BLCR's script, which does nothing
				// without arguments.
				return 0
			}
			err := launch(s.program, environment(s.library))
			con.Errorf("%s: %s\n", name, message(err))
			return status(err)
		})
}
