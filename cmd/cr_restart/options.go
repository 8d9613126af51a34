package main

import (
	"errors"
	"fmt"
	"os"
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
	optLazy
	optTrust
	optKeepStdio
	optFailureStatus
	optAnyCPU
	optAnyLimits
)

// options is the table of cr_restart's options.
var options = append(getopt.Table{
	{ID: cli.OptHelp, Short: 'h', Long: []string{"help"}},
	{ID: cli.OptVersion, Short: 'v', Long: []string{"version"}},
	{ID: cli.OptQuiet, Short: 'q', Long: []string{"quiet"}},
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
	{ID: optFailureStatus, Long: []string{"failure-status"}, Arg: getopt.RequiredArgument, Exact: true},
	{ID: optRelocate, Long: []string{"relocate"}, Arg: getopt.RequiredArgument},
	{ID: optRestorePid, Long: []string{"restore-pid"}},
	{ID: optNoRestorePid, Long: []string{"no-restore-pid"}},
	{ID: optRestorePgid, Long: []string{"restore-pgid"}},
	{ID: optNoRestorePgid, Long: []string{"no-restore-pgid"}},
	{ID: optRestoreSid, Long: []string{"restore-sid"}},
	{ID: optNoRestoreSid, Long: []string{"no-restore-sid"}},
	{ID: optLazy, Long: []string{"lazy"}, Exact: true},
	{ID: optKeepStdio, Long: []string{"keep-stdio"}, Exact: true},
	{ID: optTrust, Long: []string{"trust"}, Exact: true},
	{ID: optAnyCPU, Long: []string{"cpu-any"}, Exact: true},
	{ID: optAnyLimits, Long: []string{"limits-any"}, Exact: true},
}, cli.RequestOptions(map[string]string{"stop": "freeze"})...)

// source is where the context is read from.
type source int

const (
	sourceOperand source = iota // no option: the operand
	sourceFile
	sourceFd
	sourceDir
)

// settings is the command line, as far as it has been parsed.
type settings struct {
	request ckpt.RestartRequest // FD is set only if source is sourceFd
	source  source
	file    string // unless source is sourceFd
	kmsg    cli.Kmsg
	hooks   hooks
	status  *int // of every failure of cr_restart, or nil: each has its own
	engine  *ckpt.Choice
}

// ending is the error for a command line that asks for the usage text or the version.
type ending struct{ stdout string }

func (*ending) Error() string { return "nothing to do" }

// parse parses the command line into s. A hook for failures and --failure-status take
// effect from their place in the command line on. An error is an *ending or a *failure.
func (s *settings) parse(args []string, con *cli.Console) error {
	s.request.RestorePid = true
	s.engine = ckpt.NewChoice(os.Getenv("CR_ENGINE"), engines.ToRestore())
	line := cli.CommandLine{Options: options, Usage: usage, Version: versionLine(), Option: s.option}
	operands, err := line.Parse(args, con)
	var text cli.Text
	var own *failure
	switch {
	case errors.As(err, &text):
		return &ending{string(text)}
	case errors.As(err, &own):
		return own
	case err == cli.ErrSignalRange:
		return badArgument(err.Error())
	case err != nil:
		return misuse(err)
	}
	s.request.Signal, s.kmsg = line.Signal, line.Kmsg
	s.request.WantLog = s.kmsg != cli.KmsgNone
	if s.source == sourceOperand {
		switch len(operands) {
		case 0:
			return misuse(cli.Misuse("the context file is missing; cr_restart -F 0 reads it from the standard input"))
		case 1:
		default:
			return misuse(cli.Misuse(fmt.Sprintf("there is one context file, but '%s' follows '%s'", operands[1], operands[0])))
		}
		s.file = operands[0]
	} else if len(operands) != 0 {
		return misuse(cli.Misuse(fmt.Sprintf("'%s' is one context too many: an option (-f, -F or -d) has named it", operands[0])))
	}
	return nil
}

func (s *settings) option(m getopt.Match) error {
	r := &s.request
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

	case optFailureStatus:
		status, ok := cli.ParseInt(m.Arg)
		if !ok {
			return misuse(cli.NotANumber(m.Name, "an exit status", m.Arg))
		}
		if status < 0 || status > 255 {
			return badArgument(fmt.Sprintf("Valid exit statuses are from 0 to 255, inclusive (%d was given).", status))
		}
		s.status = new(int)
		*s.status = int(status)

	case optRelocate:
		relocations, err := appendRelocation(r.Relocations, m.Arg)
		r.Relocations = relocations
		return err

	case optLazy:
		r.Lazy = true
	case optKeepStdio:
		r.KeepStdio = true

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

	case optTrust:
		r.Trust = true
	case optAnyCPU:
		r.AnyCPU = true
	case optAnyLimits:
		r.AnyLimits = true
	}
	return nil
}

// from handles -f, -F and -d, which exclude one another.
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
			return misuse(cli.NotANumber(m.Name, "the number of a descriptor", m.Arg))
		}
		if fd < 0 {
			return badArgument(fmt.Sprintf("FD argument must be a non-negatvive integer (%d was given)", fd))
		}
		s.request.FD = fd
	case optDir:
		if s.engine.Expected().Directories == nil {
			return badArgument("-d flag not yet implemented")
		}
		s.source = sourceDir
		s.file = m.Arg
	}
	return nil
}

// misuse is the failure for a command line with that fault: the usage text, and the fault
// as the last line.
func misuse(fault error) *failure {
	return &failure{status: 255, class: failArgs, message: usage + cli.MisuseLine(fault)}
}

func badArgument(message string) *failure {
	return &failure{status: ckpt.ExitStatus(syscall.EINVAL), class: failArgs, message: message}
}
