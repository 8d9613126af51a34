package main

// option is what an option does.
type option int

const (
	optHelp option = 1 + iota
	optVersion
	optOmit
	optRun
	optEnd
)

// options is the one table of cr_run's options. They are whole words, in front
// of the program: BLCR's cr_run is a shell script that does not use getopt, and
// what it does not know is the program.
var options = map[string]option{
	"-?":        optHelp,
	"--help":    optHelp,
	"--version": optVersion,
	"--omit":    optOmit,
	"--run":     optRun,
	"--":        optEnd,
}

// The libraries, by their names in the file system.
const (
	libRun  = "libcr_run.so.0"
	libOmit = "libcr_omit.so.0"
)

// settings is a command line understood.
type settings struct {
	wanted  option   // optHelp or optVersion, in place of anything else; 0 for none
	library string   // libRun or libOmit
	program []string // with its arguments; empty if there is none
}

// parse reads the command line. Options act in the order given: what stands
// behind --help is not looked at.
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
