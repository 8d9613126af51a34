package main

import (
	"blcr-cli/internal/cli"
	"blcr-cli/internal/cli/getopt"
)

const (
	optJSON = 1 + iota
	optQuiet
	optHelp
	optVersion
)

// options is the one table of cr_info's options.
var options = getopt.Table{
	{ID: optJSON, Long: []string{"json"}},
	{ID: optQuiet, Short: 'q', Long: []string{"quiet"}},
	{ID: optHelp, Short: 'h', Long: []string{"help"}},
	{ID: optVersion, Long: []string{"version"}},
}

// settings is a command line understood.
type settings struct {
	json  bool
	files []string // one at least; "-" is standard input
}

// wanted is text that the command line asks for, in place of anything else.
type wanted string

// parse reads the command line. Options act in the order given: a later one is
// not even looked at when an earlier one ends the program, and -q holds from
// where it stands.
func parse(args []string, con *cli.Console) (*settings, wanted, error) {
	s := &settings{}
	p := getopt.New(options, args, getopt.PosixlyCorrect())
	for m, err := range p.Options() {
		if err != nil {
			if err.Char == '?' {
				return nil, usage, nil
			}
			return nil, "", &usageError{err.Error()}
		}
		switch m.ID {
		case optHelp:
			return nil, usage, nil
		case optVersion:
			return nil, wanted(versionLine()), nil
		case optQuiet:
			con.Level = -1
		case optJSON:
			s.json = true
		}
	}
	if s.files = p.Operands(); len(s.files) == 0 {
		return nil, "", &usageError{"no FILE given"}
	}
	return s, "", nil
}
