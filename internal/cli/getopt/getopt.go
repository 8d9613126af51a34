// Package getopt reads command lines exactly as GNU getopt_long(3) of glibc
// 2.26 and later does, over a table of options.
//
// Finding options in an argument vector belongs here: permutation, clusters,
// abbreviations, where an argument is taken from, which error is reported. Particular
// options, usage texts, exit statuses and the parsing of an argument's value do not.
// The package imports nothing of this module.
//
// It behaves as getopt_long with an option string that begins with none of
// ':', '+' and '-', with opterr = 0 and with the flag of every long option
// NULL. Options are bytes, as they are in C, and need not be UTF-8. Package
// getopttest compares it with the C library's own.
//
// A command iterates over its options like a getopt loop in C, so that they are
// processed in the order given and the first fatal one ends the program before later
// ones are examined:
//
//	p := getopt.New(table, args, getopt.PosixlyCorrect())
//	for opt, err := range p.Options() {
//		if err != nil {
//			…
//		}
//		switch opt.ID {
//			…
//		}
//	}
//	operands := p.Operands()
package getopt

import (
	"iter"
	"os"
	"slices"
	"strings"
)

// Arg is whether an option takes an argument.
type Arg int

const (
	// NoArgument: the option takes no argument; --name=VALUE is an [Excess] error.
	NoArgument Arg = iota
	// RequiredArgument: the rest of the element (-fFILE, --file=FILE), or else
	// the whole next one, whatever it looks like (-f --, --file -x).
	RequiredArgument
	// OptionalArgument: only the rest of the element (--name=VALUE), never the
	// next one.
	OptionalArgument
)

// Option is one row of a [Table]: one option with its names.
type Option struct {
	// ID identifies the option for the caller. Names with the same ID and Arg, in one
	// row or in several, are names of one option: an abbreviation that matches several
	// of them is not ambiguous.
	ID int
	// Short is the option character, 0 for none.
	Short byte
	// Long are the long names, without the dashes, the main one first.
	Long []string
	// Arg says whether the option takes an argument.
	Arg Arg
	// Exact makes the long names match in full only. Abbreviations do not match them,
	// so adding such a row to a table makes no abbreviation of another row ambiguous.
	Exact bool
}

// Table is the options of one command. For a table that passes the Check of package
// getopttest, the order of the rows affects only the order of [Error.Candidates].
type Table []Option

// shortName returns a short option as typed; string(c) would turn a byte above 0x7F
// into two.
func shortName(c byte) string { return string([]byte{'-', c}) }

// findShort returns the row of an option character, or -1. If there are several it
// returns the first, as strchr does in C.
func (t Table) findShort(c byte) int {
	if c == 0 { // means "none" in the table
		return -1
	}
	return slices.IndexFunc(t, func(o Option) bool { return o.Short == c })
}

// found is the result of looking up a long name: a row and the full name in it, or row
// -1 and, if the name is ambiguous, the candidates.
type found struct {
	row        int
	name       string
	candidates []string
}

// findLong looks up a long name or the abbreviation of one, which may be empty
// (--=x). An exact match wins over any number of longer names.
func (t Table) findLong(typed string) found {
	for i, o := range t {
		if slices.Contains(o.Long, typed) {
			return found{row: i, name: typed}
		}
	}
	f := found{row: -1}
	for i, o := range t {
		if o.Exact {
			continue
		}
		for _, long := range o.Long {
			switch {
			case !strings.HasPrefix(long, typed):
			case f.row < 0:
				f.row, f.name = i, long
			case o.ID != t[f.row].ID || o.Arg != t[f.row].Arg:
				// glibc compares with the first match only, and does not list
				// a second name of that one among the possibilities.
				if f.candidates == nil {
					f.candidates = []string{"--" + f.name}
				}
				f.candidates = append(f.candidates, "--"+long)
			}
		}
	}
	if f.candidates != nil {
		return found{row: -1, candidates: f.candidates}
	}
	return f
}

// Match is one option found on a command line.
type Match struct {
	// ID is the ID of the option's row.
	ID int
	// Name is the full name of the option, even if an abbreviation was typed: "-f",
	// "--file".
	Name string
	// Arg is the option's argument, "" if it has none.
	Arg string
	// HasArg distinguishes an empty argument (--backup=) from none (--backup).
	HasArg bool
}

// Kind is the kind of an [Error].
type Kind int

const (
	// Unknown: there is no option of that name.
	Unknown Kind = iota + 1
	// Ambiguous: an abbreviation of more than one option.
	Ambiguous
	// Missing: an option that requires an argument is the last element of the command
	// line.
	Missing
	// Excess: --name=VALUE for an option that takes no argument.
	Excess
)

// Error is an error for which getopt_long returns '?'.
type Error struct {
	// Kind is the kind of the error; optopt alone would not show it.
	Kind Kind
	// Char is the option character if the error is in a short option, else 0. Since no
	// table contains '?', Char is '?' only for an unknown -? (also in a cluster, -v?),
	// for which a program in C tests `optopt == '?'`.
	Char byte
	// Typed is the invalid text as typed: the whole element for a long option, with its
	// =VALUE; "-x" for one character of a cluster.
	Typed string
	// ID and Name are those of the option for Missing and Excess, as in
	// [Match]; 0 and "" for Unknown and Ambiguous.
	ID   int
	Name string
	// Candidates are the long names, with their dashes, that an Ambiguous abbreviation
	// matches; nil for every other kind. Of the first option that matches it has one
	// name, as in glibc's message.
	Candidates []string
}

// Error returns the text that getopt_long prints after "PROGRAM: " when opterr
// is set, in the C locale.
func (e *Error) Error() string {
	switch {
	case e.Kind == Ambiguous:
		return "option '" + e.Typed + "' is ambiguous; possibilities: '" + strings.Join(e.Candidates, "' '") + "'"
	case e.Kind == Excess:
		return "option '" + e.Name + "' doesn't allow an argument"
	case e.Kind == Missing && strings.HasPrefix(e.Name, "--"):
		return "option '" + e.Name + "' requires an argument"
	case e.Kind == Missing:
		return "option requires an argument -- '" + strings.TrimPrefix(e.Name, "-") + "'"
	case strings.HasPrefix(e.Typed, "--") && e.Char == 0:
		return "unrecognized option '" + e.Typed + "'"
	default:
		return "invalid option -- '" + strings.TrimPrefix(e.Typed, "-") + "'"
	}
}

// PosixlyCorrect reports whether POSIXLY_CORRECT is in the environment, with any value,
// including an empty one.
func PosixlyCorrect() bool {
	_, ok := os.LookupEnv("POSIXLY_CORRECT")
	return ok
}

// Parser parses one command line. It must not be used by several goroutines at once.
type Parser struct {
	table   Table
	args    []string
	posix   bool
	next    int      // args[next:] has not been examined
	cluster string   // the rest of an element of short options
	skipped []string // operands before the present position
	done    bool
}

// New returns a parser for args, the command line without the program's name. With
// posixlyCorrect, the first operand ends the options. The parser does not change table
// and args, and the caller must not change them while the parser is in use.
func New(table Table, args []string, posixlyCorrect bool) *Parser {
	return &Parser{table: table, args: args, posix: posixlyCorrect}
}

// Options yields the results of successive calls of getopt_long until its -1: either an
// option or an error, never both. The iteration may continue after an error, as in C.
// After a break, ranging over Options again continues where it stopped.
func (p *Parser) Options() iter.Seq2[Match, *Error] {
	return func(yield func(Match, *Error) bool) {
		for {
			m, err, ok := p.step()
			if !ok || !yield(m, err) {
				return
			}
		}
	}
}

// Operands returns what getopt_long leaves at argv[optind:] after the last option: the
// elements that are neither options nor arguments of options, in the order given,
// without the -- that ended the options. It is meant to be called after
// [Parser.Options] has ended; before that, elements that have not been examined are
// returned as they are. The caller may change the slice.
func (p *Parser) Operands() []string {
	return slices.Concat(p.skipped, p.args[p.next:])
}

// step corresponds to one call of getopt_long; ok is false for its -1.
func (p *Parser) step() (m Match, err *Error, ok bool) {
	if p.cluster != "" {
		m, err = p.short()
		return m, err, true
	}
	for !p.done && p.next < len(p.args) {
		arg := p.args[p.next]
		switch {
		case arg == "--":
			p.next++
			p.done = true
		case len(arg) < 2 || arg[0] != '-': // "-" is an operand
			if p.posix {
				p.done = true
				break
			}
			p.skipped = append(p.skipped, arg)
			p.next++
		case arg[1] == '-':
			p.next++
			m, err = p.long(arg)
			return m, err, true
		default:
			p.next++
			p.cluster = arg[1:]
			m, err = p.short()
			return m, err, true
		}
	}
	// Parsing has ended. (glibc, if called again after its -1, would find options among
	// the operands.)
	p.done = true
	return Match{}, nil, false
}

// long parses the element typed, which begins with two dashes.
func (p *Parser) long(typed string) (Match, *Error) {
	name, value, hasValue := strings.Cut(typed[2:], "=")
	f := p.table.findLong(name)
	if f.row < 0 {
		if f.candidates != nil {
			return Match{}, &Error{Kind: Ambiguous, Typed: typed, Candidates: f.candidates}
		}
		return Match{}, &Error{Kind: Unknown, Typed: typed}
	}
	o := &p.table[f.row]
	m := Match{ID: o.ID, Name: "--" + f.name}
	switch {
	case hasValue && o.Arg == NoArgument:
		return Match{}, &Error{Kind: Excess, Typed: typed, ID: m.ID, Name: m.Name}
	case hasValue:
		m.Arg, m.HasArg = value, true
	case o.Arg == RequiredArgument:
		if m.Arg, m.HasArg = p.nextElement(); !m.HasArg {
			return Match{}, &Error{Kind: Missing, Typed: typed, ID: m.ID, Name: m.Name}
		}
	}
	return m, nil
}

// short parses the next character of the cluster, which is not empty.
func (p *Parser) short() (Match, *Error) {
	c := p.cluster[0]
	p.cluster = p.cluster[1:]
	name := shortName(c)
	row := p.table.findShort(c)
	if row < 0 {
		return Match{}, &Error{Kind: Unknown, Char: c, Typed: name}
	}
	o := &p.table[row]
	m := Match{ID: o.ID, Name: name}
	switch {
	case o.Arg == NoArgument:
	case p.cluster != "":
		m.Arg, m.HasArg = p.cluster, true
		p.cluster = ""
	case o.Arg == RequiredArgument:
		if m.Arg, m.HasArg = p.nextElement(); !m.HasArg {
			return Match{}, &Error{Kind: Missing, Char: c, Typed: name, ID: m.ID, Name: m.Name}
		}
	}
	return m, nil
}

// nextElement returns the next element as an argument, even if it is "--" or looks like
// an option; ok is false if there is none.
func (p *Parser) nextElement() (arg string, ok bool) {
	if p.next == len(p.args) {
		return "", false
	}
	arg = p.args[p.next]
	p.next++
	return arg, true
}
