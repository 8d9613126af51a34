package main

import (
	"fmt"
	"syscall"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/engines"
	"blcr-cli/internal/cli"
	"blcr-cli/internal/cli/getopt"
)

const (
	optFile = 1 + iota
	optFd
	optDir
	optOmitMaybe
	optOmitAlways
	optOmitNever
	optOnSuccess
	optOnFailure
	optOnFailArgs
	optOnFailTemp
	optOnFailEnv
	optOnFailPerm
	optRelocate
	optRestorePid
	optNoRestorePid
	optRestorePgid
	optNoRestorePgid
	optRestoreSid
	optNoRestoreSid
	optKmsgNone
	optKmsgError
	optKmsgWarning
	optQuiet
	optHelp
	optVersion
	optSignal // the first of sigopt's; keep it last
)

// options is the one table of cr_restart's options.
var options = append(getopt.Table{
	{ID: optHelp, Short: 'h', Long: []string{"help"}},
	{ID: optVersion, Short: 'v', Long: []string{"version"}},
	{ID: optQuiet, Short: 'q', Long: []string{"quiet"}},
	{ID: optFile, Short: 'f', Long: []string{"file"}, Arg: getopt.RequiredArgument},
	{ID: optFd, Short: 'F', Long: []string{"fd"}, Arg: getopt.RequiredArgument},
	{ID: optDir, Short: 'd', Long: []string{"dir"}, Arg: getopt.RequiredArgument},
	{ID: optOmitMaybe, Long: []string{"omit-maybe"}},
	{ID: optOmitAlways, Long: []string{"omit-always"}},
	{ID: optOmitNever, Long: []string{"omit-never"}},
	{ID: optOnSuccess, Long: []string{"run-on-success"}, Arg: getopt.RequiredArgument},
	{ID: optOnFailure, Long: []string{"run-on-failure"}, Arg: getopt.RequiredArgument},
	{ID: optOnFailArgs, Long: []string{"run-on-fail-args"}, Arg: getopt.RequiredArgument},
	{ID: optOnFailTemp, Long: []string{"run-on-fail-temp"}, Arg: getopt.RequiredArgument},
	{ID: optOnFailEnv, Long: []string{"run-on-fail-env"}, Arg: getopt.RequiredArgument},
	{ID: optOnFailPerm, Long: []string{"run-on-fail-perm"}, Arg: getopt.RequiredArgument},
	{ID: optRelocate, Long: []string{"relocate"}, Arg: getopt.RequiredArgument},
	{ID: optRestorePid, Long: []string{"restore-pid"}},
	{ID: optNoRestorePid, Long: []string{"no-restore-pid"}},
	{ID: optRestorePgid, Long: []string{"restore-pgid"}},
	{ID: optNoRestorePgid, Long: []string{"no-restore-pgid"}},
	{ID: optRestoreSid, Long: []string{"restore-sid"}},
	{ID: optNoRestoreSid, Long: []string{"no-restore-sid"}},
	{ID: optKmsgNone, Long: []string{"kmsg-none"}},
	{ID: optKmsgError, Long: []string{"kmsg-error"}},
	{ID: optKmsgWarning, Long: []string{"kmsg-warning"}},
}, cli.SignalOptions(optSignal, map[string]string{"stop": "freeze"})...)

// source is where the context comes from.
type source int

const (
	sourceOperand source = iota // no option says
	sourceFile
	sourceFd
	sourceDir
)

// settings is a command line understood, as far as it has been read.
type settings struct {
	request ckpt.RestartRequest // but for the descriptor, unless source is sourceFd
	source  source
	file    string // unless source is sourceFd
	kmsg    cli.Kmsg
	hooks   hooks
}

// ending is a command line that asks for a text and nothing else.
type ending struct{ stdout string }

func (*ending) Error() string { return "nothing to do" }

// parse reads the command line into s. Options act in the order given: a later
// one is not even looked at when an earlier one ends the program, and -q, which
// sets con's level, and the hooks hold from where they stand. An error is an
// *ending or a *failure.
func (s *settings) parse(args []string, con *cli.Console) error {
	s.request.RestorePid = true
	p := getopt.New(options, args, getopt.PosixlyCorrect())
	for m, err := range p.Options() {
		if err != nil {
			if err.Char == '?' {
				return &ending{usage}
			}
			return usageFailure()
		}
		if err := s.option(m, con); err != nil {
			return err
		}
	}
	operands := p.Operands()
	if s.source == sourceOperand {
		if len(operands) != 1 {
			return usageFailure()
		}
		s.file = operands[0]
	} else if len(operands) != 0 {
		return usageFailure()
	}
	return nil
}

func (s *settings) option(m getopt.Match, con *cli.Console) error {
	r := &s.request
	if signal, mine, err := cli.ParseSignal(optSignal, m); mine {
		r.Signal = signal
		switch err {
		case nil:
			return nil
		case cli.ErrSignalRange:
			return badArgument(err.Error())
		default:
			return usageFailure()
		}
	}
	switch m.ID {
	case optFile, optFd, optDir:
		return s.from(m)

	case optOmitMaybe:
		r.Omit = ckpt.OmitMaybe
	case optOmitAlways:
		r.Omit = ckpt.OmitAlways
	case optOmitNever:
		r.Omit = ckpt.OmitNever

	case optOnSuccess:
		s.hooks.onSuccess = m.Arg
	case optOnFailure:
		for class := range s.hooks.onFailure {
			s.hooks.onFailure[class] = m.Arg
		}
	case optOnFailArgs:
		s.hooks.onFailure[failArgs] = m.Arg
	case optOnFailTemp:
		s.hooks.onFailure[failTemp] = m.Arg
	case optOnFailEnv:
		s.hooks.onFailure[failEnv] = m.Arg
	case optOnFailPerm:
		s.hooks.onFailure[failPerm] = m.Arg

	case optRelocate:
		relocations, err := appendRelocation(r.Relocations, m.Arg)
		r.Relocations = relocations
		return err

	case optRestorePid:
		r.RestorePid = true
	case optNoRestorePid:
		r.RestorePid = false
	case optRestorePgid:
		r.RestorePgid = true
	case optNoRestorePgid:
		r.RestorePgid = false
	case optRestoreSid:
		r.RestoreSid = true
	case optNoRestoreSid:
		r.RestoreSid = false

	case optKmsgNone:
		s.kmsg = cli.KmsgNone
	case optKmsgError:
		s.kmsg = cli.KmsgError
	case optKmsgWarning:
		s.kmsg = cli.KmsgWarning

	case optQuiet:
		con.Level = -1
	case optHelp:
		return &ending{usage}
	case optVersion:
		return &ending{versionLine()}
	}
	return nil
}

// from takes -f, -F and -d, of which there can be one.
func (s *settings) from(m getopt.Match) error {
	if s.source != sourceOperand {
		return badArgument("multiple source arguments specified")
	}
	switch m.ID {
	case optFile:
		s.source = sourceFile
		s.file = m.Arg
	case optFd:
		s.source = sourceFd
		fd, ok := cli.ParseInt(m.Arg)
		if !ok {
			return usageFailure()
		}
		if fd < 0 {
			return badArgument(fmt.Sprintf("FD argument must be a non-negatvive integer (%d was given)", fd))
		}
		s.request.FD = fd
	case optDir:
		if !engines.TakeDirs() {
			return badArgument("-d flag not yet implemented")
		}
		s.source = sourceDir
		s.file = m.Arg
	}
	return nil
}

// usageFailure prints the usage text where other failures print a line.
func usageFailure() *failure {
	return &failure{status: 255, class: failArgs, message: usage[:len(usage)-1]}
}

func badArgument(message string) *failure {
	return &failure{status: ckpt.ExitStatus(syscall.EINVAL), class: failArgs, message: message}
}
