package cli

import (
	"fmt"
	"io"
	"runtime/debug"
	"time"

	"github.com/urfave/cli/v2"

	"blcr-cli/internal/signals"
)

// Run runs a command and returns its exit status. args is its whole argument vector;
// action gets it without the command's name. Before that Run turns the garbage
// collector off, and ignores the signals that were ignored when the program was
// started, as a program in C does.
func Run(name, purpose string, args []string, stdout, stderr io.Writer, action func(args []string, con *Console) int) int {
	// The command makes one request and ends. Without garbage collection the
	// runtime has no reason to interrupt a system call.
	debug.SetGCPercent(-1)
	signals.KeepIgnored()

	status := 0
	app := &cli.App{
		Name:  name,
		Usage: purpose,
		// Package getopt parses the command line instead.
		SkipFlagParsing: true,
		HideHelp:        true,
		HideHelpCommand: true,
		HideVersion:     true,
		// Otherwise Run looks for the date of the program's file.
		Compiled:  time.Unix(0, 0),
		Writer:    stdout,
		ErrWriter: stderr,
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

// FlagApp returns the application of a command that BLCR does not have, whose options are
// urfave's flags. All texts and statuses are the caller's: action gets the parsed command
// line, and usageError the fault of one that cannot be parsed; Run of the result returns
// their errors.
func FlagApp(name, purpose string, flags []cli.Flag, stdout, stderr io.Writer, usageError func(error) error, action cli.ActionFunc) *cli.App {
	// Otherwise urfave prints texts of its own, and ignores errors of printing them.
	cli.HelpFlag, cli.VersionFlag = nil, nil
	return &cli.App{
		Name:                   name,
		Usage:                  purpose,
		Flags:                  flags,
		UseShortOptionHandling: true,
		HideHelp:               true,
		HideHelpCommand:        true,
		HideVersion:            true,
		// Otherwise Run looks for the date of the program's file.
		Compiled:  time.Unix(0, 0),
		Writer:    stdout,
		ErrWriter: stderr,
		OnUsageError: func(_ *cli.Context, err error, _ bool) error {
			return usageError(err)
		},
		// Otherwise Run ends the program.
		ExitErrHandler: func(*cli.Context, error) {},
		Action:         action,
	}
}
