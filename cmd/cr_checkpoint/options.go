package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/engines"
	"blcr-cli/internal/cli"
	"blcr-cli/internal/cli/getopt"
	"blcr-cli/internal/ctxfile"
	"blcr-cli/internal/target"
)

const (
	optTree = 1 + iota
	optProcess
	optGroup
	optSession
	optCwd
	optDir
	optFile
	optFd
	optAtomic
	optBackup
	optClobber
	optNoclobber
	optSync
	optNosync
	optSaveExe
	optSavePrivate
	optSaveShared
	optSaveAll
	optSaveNone
	optPtracedError
	optPtracedSkip
	optPtracedAllow
	optPtracerError
	optPtracerSkip
	optTime
	optCompress
	optCheck
	optKeep
)

// options is the table of cr_checkpoint's options.
var options = append(getopt.Table{
	{ID: cli.OptVerbose, Short: 'v', Long: []string{"verbose"}},
	{ID: cli.OptQuiet, Short: 'q', Long: []string{"quiet"}},
	{ID: cli.OptHelp, Short: 'h', Long: []string{"help"}},
	{ID: cli.OptVersion, Long: []string{"version"}},
	{ID: optTree, Short: 'T', Long: []string{"tree"}},
	{ID: optProcess, Short: 'p', Long: []string{"pid", "process"}},
	{ID: optGroup, Short: 'g', Long: []string{"pgid", "group"}},
	{ID: optSession, Short: 's', Long: []string{"sid", "session"}},
	{ID: optCwd, Short: 'c', Long: []string{"cwd"}},
	{ID: optDir, Short: 'd', Long: []string{"dir"}, Arg: getopt.RequiredArgument},
	{ID: optFile, Short: 'f', Long: []string{"file"}, Arg: getopt.RequiredArgument},
	{ID: optFd, Short: 'F', Long: []string{"fd"}, Arg: getopt.RequiredArgument},
	{ID: optAtomic, Long: []string{"atomic"}},
	{ID: optBackup, Long: []string{"backup"}, Arg: getopt.OptionalArgument},
	{ID: optClobber, Long: []string{"clobber"}},
	{ID: optNoclobber, Long: []string{"noclobber"}},
	{ID: optSync, Long: []string{"sync"}},
	{ID: optNosync, Long: []string{"nosync"}},
	{ID: optSaveExe, Long: []string{"save-exe"}},
	{ID: optSavePrivate, Long: []string{"save-private"}},
	{ID: optSaveShared, Long: []string{"save-shared"}},
	{ID: optSaveAll, Long: []string{"save-all"}},
	{ID: optSaveNone, Long: []string{"save-none"}},
	{ID: optPtracedError, Long: []string{"ptraced-error"}},
	{ID: optPtracedSkip, Long: []string{"ptraced-skip"}},
	{ID: optPtracedAllow, Long: []string{"ptraced-allow"}},
	{ID: optPtracerError, Long: []string{"ptracer-error"}},
	{ID: optPtracerSkip, Long: []string{"ptracer-skip"}},
	{ID: optTime, Short: 't', Long: []string{"time"}, Arg: getopt.RequiredArgument},
	{ID: optCompress, Long: []string{"compress"}, Arg: getopt.OptionalArgument, Exact: true},
	{ID: optKeep, Long: []string{"keep"}, Arg: getopt.RequiredArgument, Exact: true},
	{ID: optCheck, Long: []string{"check"}, Exact: true},
}, cli.RequestOptions(nil)...)

// destination is where the context is written, according to the options.
type destination int

const (
	destDefault destination = iota
	destCwd
	destFile
	destFd
	destDir
)

// settings is the parsed command line.
type settings struct {
	request ckpt.CheckpointRequest // FD is set only if dest is destFd
	dest    destination
	target  target.Spec // unless dest is destFd
	kmsg    cli.Kmsg
	engine  *ckpt.Choice

	// check says that nothing is to be saved, and that it is to be said whether it
	// could be.
	check bool
}

// stop ends the program while the command line is parsed: with a text that was asked
// for, or with an error.
type stop struct {
	status int
	stdout string
	stderr string
}

func (s *stop) Error() string { return s.stderr }

// misuse is the stop for a command line with that fault: the usage text, and the fault
// as the last line.
func misuse(fault error) *stop {
	return &stop{status: 255, stderr: usage + cli.MisuseLine(fault) + "\n"}
}

// stopFor returns the stop for an error of parsing the command line.
func stopFor(err error) *stop {
	var own *stop
	var text cli.Text
	switch {
	case errors.As(err, &own):
		return own
	case errors.As(err, &text):
		return &stop{stdout: string(text)}
	case err == cli.ErrSignalRange:
		return invalid(err.Error())
	}
	return misuse(err)
}

func invalid(message string) *stop {
	return &stop{status: ckpt.ExitStatus(syscall.EINVAL), stderr: message + "\n"}
}

// parse reads the command line.
func parse(args []string, con *cli.Console) (*settings, *stop) {
	s := &settings{request: ckpt.CheckpointRequest{Scope: ckpt.ScopeTree}, target: target.Spec{Sync: true}}
	s.engine = ckpt.NewChoice(os.Getenv("CR_ENGINE"), engines.ToSave())
	line := cli.CommandLine{
		Options: options, Usage: usage, Version: versionLine(),
		Option: func(m getopt.Match) error {
			if stop := s.option(m); stop != nil {
				return stop
			}
			return nil
		},
	}
	operands, err := line.Parse(args, con)
	if err != nil {
		return nil, stopFor(err)
	}
	s.request.Signal, s.kmsg = line.Signal, line.Kmsg
	switch len(operands) {
	case 0:
		return nil, misuse(cli.Misuse("the ID is missing: that of a process, or of a process group (-g) or session (-s)"))
	case 1:
	default:
		return nil, misuse(cli.Misuse(fmt.Sprintf("there is one ID, but '%s' follows '%s'; several processes are saved together if they are a tree, a process group (-g) or a session (-s)", operands[1], operands[0])))
	}
	id, ok := cli.ParseInt(operands[0])
	if !ok {
		return nil, misuse(cli.Misuse(fmt.Sprintf("the ID has to be a number, and '%s' is none", operands[0])))
	}
	if stop := s.compressible(); stop != nil {
		return nil, stop
	}
	if stop := s.keepable(); stop != nil {
		return nil, stop
	}
	s.request.ID = id
	s.request.WantLog = s.kmsg != cli.KmsgNone
	if s.dest == destDefault || s.dest == destCwd {
		s.target.Path = defaultName(id)
	}
	return s, nil
}

func (s *settings) option(m getopt.Match) *stop {
	r := &s.request
	switch m.ID {
	case optTree:
		r.Scope = ckpt.ScopeTree
	case optProcess:
		r.Scope = ckpt.ScopeProcess
	case optGroup:
		r.Scope = ckpt.ScopeGroup
	case optSession:
		r.Scope = ckpt.ScopeSession

	case optCwd, optDir, optFile, optFd:
		return s.destination(m)

	case optAtomic:
		s.target.Policy = target.Atomic
	case optBackup:
		s.target.Policy = target.Backup
		if m.HasArg {
			// A later --backup without a name does not reset it.
			s.target.BackupName, s.target.BackupNamed = m.Arg, true
		}
	case optKeep:
		return s.keep(m)
	case optClobber:
		s.target.Policy = target.Clobber
	case optNoclobber:
		s.target.Policy = target.NoClobber

	case optSync:
		s.target.Sync = true
	case optNosync:
		s.target.Sync = false

	case optSaveExe:
		r.SaveExe = true
	case optSavePrivate:
		r.SavePrivate = true
	case optSaveShared:
		r.SaveShared = true
	case optSaveAll:
		r.SaveExe, r.SavePrivate, r.SaveShared = true, true, true
	case optSaveNone:
		r.SaveExe, r.SavePrivate, r.SaveShared = false, false, false

	case optPtracedError:
		r.PtracedSkip, r.PtracedAllow = false, false
	case optPtracedSkip:
		r.PtracedSkip, r.PtracedAllow = true, false
	case optPtracedAllow:
		r.PtracedSkip, r.PtracedAllow = false, true
	case optPtracerError:
		r.PtracerSkip = false
	case optPtracerSkip:
		r.PtracerSkip = true

	case optTime:
		return s.limit(m)
	case optCompress:
		return s.compress(m)
	case optCheck:
		s.check = true
	}
	return nil
}

// destination handles -c, -d, -f and -F, which exclude one another.
func (s *settings) destination(m getopt.Match) *stop {
	if m.ID == optDir && s.engine.Expected().Directories == nil {
		// BLCR reports this before it checks for a conflict.
		return invalid("-d flag not yet implemented")
	}
	if s.dest != destDefault {
		if m.ID == optFile {
			return invalid("conflicting destinations provided")
		}
		return invalid("conflicting destinations specified")
	}
	switch m.ID {
	case optCwd:
		s.dest = destCwd
	case optFile:
		s.dest = destFile
		s.target.Path = m.Arg
	case optDir:
		s.dest = destDir
		s.target.Path = m.Arg
	case optFd:
		s.dest = destFd
		fd, ok := cli.ParseInt(m.Arg)
		if !ok {
			return misuse(cli.NotANumber(m.Name, "the number of a descriptor", m.Arg))
		}
		s.request.FD = fd
	}
	return nil
}

func (s *settings) limit(m getopt.Match) *stop {
	sec, ok := cli.ParseInt(m.Arg)
	if !ok {
		return misuse(cli.NotANumber(m.Name, "a number of seconds", m.Arg))
	}
	if sec < 0 {
		return invalid("Time limit must be non-negative.")
	}
	s.request.Limit = time.Duration(sec) * time.Second
	return nil
}

// keep handles --keep, which is a --backup.
func (s *settings) keep(m getopt.Match) *stop {
	n, ok := cli.ParseInt(m.Arg)
	if !ok {
		return misuse(cli.NotANumber(m.Name, "a number of contexts", m.Arg))
	}
	if n < 1 {
		return invalid("Number of contexts to keep must be positive.")
	}
	s.target.Policy, s.target.Keep = target.Backup, int(n)
	return nil
}

// keepable refuses --keep with what has no numbered backups. It is called after all
// options have been read.
func (s *settings) keepable() *stop {
	other := ""
	switch {
	case s.target.Keep == 0:
		return nil
	case s.dest == destFd:
		other = "--fd"
	case s.dest == destDir:
		other = "--dir"
	case s.target.BackupNamed:
		other = "--backup=<name>"
	case s.target.Policy != target.Backup:
		other = "a later --atomic, --clobber or --noclobber"
	default:
		return nil
	}
	return invalid("--keep and " + other + " exclude each other\n" +
		"- it keeps FILE and its numbered backups, as --backup makes them; write -f FILE --keep N")
}

// compress handles --compress: zstd, zstd:LEVEL or none.
func (s *settings) compress(m getopt.Match) *stop {
	level := ctxfile.DefaultLevel
	if m.HasArg {
		method, number, withLevel := strings.Cut(m.Arg, ":")
		switch {
		case method == "none" && !withLevel:
			level = 0
		case method != ctxfile.Zstd:
			return invalid("Compression must be zstd, zstd:LEVEL or none.")
		case withLevel:
			n, err := strconv.ParseUint(number, 10, 8)
			level = int(n)
			if err != nil || level < ctxfile.MinLevel || level > ctxfile.MaxLevel {
				return invalid(fmt.Sprintf("Compression level must be from %d to %d.", ctxfile.MinLevel, ctxfile.MaxLevel))
			}
		}
	}
	s.request.Compress = level
	return nil
}

// compressible refuses compression that is not available. It is called after all
// options have been read, since the last --compress is used.
func (s *settings) compressible() *stop {
	switch {
	case s.request.Compress == 0:
		return nil
	case !s.engine.Expected().Compresses:
		return invalid("--compress flag not yet implemented\n" +
			"- BLCR's module writes the context itself; the engine criu alone can compress it")
	case s.dest == destDir:
		return invalid("--compress and --dir exclude each other\n" +
			"- a directory has CRIU's own images, which other tools are to read")
	}
	return nil
}
