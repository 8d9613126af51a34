package main

import (
	"errors"

	"blcr-cli/internal/cli"
	"blcr-cli/internal/cli/getopt"
)

const (
	optJSON = 1 + iota
	optVerify
	optCheck
	optDiff
)

// options is the table of cr_info's options.
var options = getopt.Table{
	{ID: optJSON, Long: []string{"json"}},
	{ID: optVerify, Long: []string{"verify"}},
	{ID: optCheck, Long: []string{"check"}},
	{ID: optDiff, Long: []string{"diff"}},
	{ID: cli.OptQuiet, Short: 'q', Long: []string{"quiet"}},
	{ID: cli.OptHelp, Short: 'h', Long: []string{"help"}},
	{ID: cli.OptVersion, Long: []string{"version"}},
}

// settings is the parsed command line.
type settings struct {
	json   bool
	verify bool
	check  bool
	diff   bool
	colour colour
	files  []string // at least one; "-" is standard input
}

// parse parses the command line. An error is a cli.Text or a *usageError.
func parse(args []string, con *cli.Console) (*settings, error) {
	s := &settings{colour: colourOf(con.Stdout)}
	line := cli.CommandLine{
		Options: options, Usage: usage, Version: versionLine(),
		Option: func(m getopt.Match) error {
			switch m.ID {
			case optJSON:
				s.json = true
			case optVerify:
				s.verify = true
			case optCheck:
				s.check = true
			case optDiff:
				s.diff = true
			}
			return nil
		},
	}
	var err error
	s.files, err = line.Parse(args, con)
	var misuse *getopt.Error
	switch {
	case errors.As(err, &misuse):
		return nil, &usageError{err.Error()}
	case err != nil:
		return nil, err
	case len(s.files) == 0:
		return nil, &usageError{"no FILE given"}
	case s.diff && len(s.files) != 2:
		return nil, &usageError{"--diff takes two FILEs"}
	case s.diff && (s.json || s.verify || s.check):
		return nil, &usageError{"--diff cannot be combined with --json, --verify or --check"}
	}
	return s, nil
}
