package cli

import (
	"fmt"
	"io"
	"runtime/debug"

	"github.com/urfave/cli/v2"

	"blcr-cli/internal/signals"
)

// Run is how each command starts: the process made into what a
// program in C would be, the command-line application around it, and the two
// streams.
//
// It knows no command and reads no option.

// Run runs a command and returns its exit status. Args is its whole argument
// vector; action gets it without the command's name.
func Run(name, purpose string, args []string, stdout, stderr io.Writer, action func(args []string, con *Console) int) int {
	// The command lives for one request, and what it does not do it waits for.
	// Without collections the runtime has no reason to interrupt a system call.
	debug.SetGCPercent(-1)
	signals.KeepIgnored()

	status := 0
	app := &cli.App{
		Name:  name,
		Usage: purpose,
		// Package getopt does what these would.
		SkipFlagParsing: true,
		HideHelp:        true,
		HideHelpCommand: true,
		HideVersion:     true,
		Writer:          stdout,
		ErrWriter:       stderr,
		Action: func(c *cli.Context) error {
			status = action(c.Args().Slice(), &Console{Stdout: stdout, Stderr: stderr})
			return nil
		},
	}
	if err := app.Run(args); err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", name, err)
		return 1
	}
	return status
}
