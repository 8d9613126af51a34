package main

// option is the meaning of an option.
type option int

const (
	optHelp option = 1 + iota
	optVersion
	optOmit
	optRun
	optEnd
)

// options is the table of cr_run's options. They are whole words that precede the
// program. BLCR's cr_run is a shell script that does not use getopt: the first word
// that it does not know is the program.
var options = map[string]option{
	"-?":        optHelp,
	"--help":    optHelp,
	"--version": optVersion,
	"--omit":    optOmit,
	"--run":     optRun,
	"--":        optEnd,
}

// The file names of BLCR's libraries.
const (
	libRun  = "libcr_run.so.0"
	libOmit = "libcr_omit.so.0"
)

// settings is the parsed command line.
type settings struct {
	wanted  option   // optHelp or optVersion, instead of starting a program; else 0
	library string   // libRun or libOmit
	program []string // with its arguments; empty if none was given
}

// parse parses the command line. Options are processed in order: nothing after --help
// is examined.
func parse(args []string) settings {
	s := settings{library: libRun}
	for ; len(args) > 0; args = args[1:] {
		switch o := options[args[0]]; o {
		case optHelp, optVersion:
			s.wanted = o
			return s
		case optOmit:
			s.library = libOmit
		case optRun:
			s.library = libRun
		case optEnd:
			s.program = args[1:]
			return s
		default:
			s.program = args
			return s
		}
	}
	return s
}
