package cli

import (
	"errors"
	"strings"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/cli/getopt"
)

// IDs of the options that several commands have, for the rows in their tables.
// They are negative; the IDs of a command's own options begin at 1.
const (
	OptHelp = -1 - iota
	OptVersion
	OptVerbose
	OptQuiet
	optKmsgNone
	optKmsgError
	optKmsgWarning
	optSignal // the IDs of signalNames follow it, so it has to be the last
)

// maxSignal is the largest signal number that -S accepts.
const maxSignal = 64

// signalNames are the options that select one signal. The "early" ones are BLCR's for
// debuggers: they stop or end the processes before their callbacks run.
var signalNames = []struct {
	name   string
	signal int32
}{
	{"run", 0},
	{"stop", int32(unix.SIGSTOP)},
	{"term", int32(unix.SIGTERM)},
	{"abort", int32(unix.SIGABRT)},
	{"kill", int32(unix.SIGKILL)},
	{"cont", int32(unix.SIGCONT)},
	{"early-stop", -int32(unix.SIGSTOP)},
	{"early-abrt", -int32(unix.SIGABRT)},
}

// RequestOptions returns the rows of the options that cr_checkpoint and cr_restart
// share. synonyms are second names of options in signalNames.
func RequestOptions(synonyms map[string]string) getopt.Table {
	table := getopt.Table{
		{ID: optKmsgNone, Long: []string{"kmsg-none"}},
		{ID: optKmsgError, Long: []string{"kmsg-error"}},
		{ID: optKmsgWarning, Long: []string{"kmsg-warning"}},
		{ID: optSignal, Short: 'S', Long: []string{"signal"}, Arg: getopt.RequiredArgument},
	}
	for i, n := range signalNames {
		long := []string{n.name}
		if synonym, ok := synonyms[n.name]; ok {
			long = append(long, synonym)
		}
		table = append(table, getopt.Option{ID: optSignal - 1 - i, Long: long})
	}
	return table
}

// Text is the usage text or the version, if the command line asks for it. It is
// returned as an error, so that parsing ends.
type Text string

func (t Text) Error() string { return string(t) }

// ErrSignalRange is BLCR's message for -S with the number of no signal.
//
//lint:ignore ST1005 to the byte
var ErrSignalRange = errors.New("Valid signal numbers are from 1 to 64, inclusive.")

// CommandLine parses a command line. It handles the options above itself.
type CommandLine struct {
	Options getopt.Table
	Usage   string // for --help and -?
	Version string // for --version, with its end of line

	// Option handles an option of the command itself. An error ends the parsing.
	Option func(getopt.Match) error

	// The result of the options of [RequestOptions]. The last option for a signal is
	// used, and the last one for messages of the kernel.
	Signal int32 // 0 is none; -N is signal N, sent before the callbacks
	Kmsg   Kmsg
}

// Parse parses args and returns the operands. Options are processed in order: if one
// ends the parsing, later ones are not examined, and -q and -v, which set the level of
// con, take effect from their place on. An error is a [Text], a *[getopt.Error], a
// [Misuse], [ErrSignalRange], or an error of c.Option.
func (c *CommandLine) Parse(args []string, con *Console) (operands []string, err error) {
	p := getopt.New(c.Options, args, getopt.PosixlyCorrect())
	for m, err := range p.Options() {
		switch {
		case err != nil && err.Char == '?':
			return nil, Text(c.Usage)
		case err != nil:
			return nil, err
		}
		if err := c.take(m, con); err != nil {
			return nil, err
		}
	}
	return p.Operands(), nil
}

// SignalNumber returns the number of the signal of that name, such as TERM, SIGTERM or
// term, 0 if there is none. BLCR's commands accept numbers only.
func SignalNumber(name string) int32 {
	return int32(unix.SignalNum("SIG" + strings.TrimPrefix(strings.ToUpper(name), "SIG")))
}

func (c *CommandLine) take(m getopt.Match, con *Console) error {
	switch m.ID {
	case OptHelp:
		return Text(c.Usage)
	case OptVersion:
		return Text(c.Version)
	case OptVerbose:
		con.Level++
	case OptQuiet:
		con.Level = -1
	case optKmsgNone:
		c.Kmsg = KmsgNone
	case optKmsgError:
		c.Kmsg = KmsgError
	case optKmsgWarning:
		c.Kmsg = KmsgWarning
	case optSignal:
		n, ok := ParseInt(m.Arg)
		if !ok {
			n = SignalNumber(m.Arg)
		}
		if !ok && n == 0 {
			return NotANumber(m.Name, "the number or the name of a signal", m.Arg)
		}
		if n < 1 || n > maxSignal {
			return ErrSignalRange
		}
		c.Signal = n
	default:
		if m.ID > 0 {
			return c.Option(m)
		}
		c.Signal = signalNames[optSignal-1-m.ID].signal
	}
	return nil
}
