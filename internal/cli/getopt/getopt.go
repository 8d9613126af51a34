// Package getopt reads command lines exactly as GNU getopt_long(3) of glibc
// 2.26 and later does, over a table of options.
//
// What belongs here is how options are found in an argument vector:
// permutation, clusters, abbreviations, where an argument comes from, which
// error is met. What must not be here is any particular option, usage text,
// exit status or reading of an argument's value; it imports nothing of this
// module.
//
// It behaves as getopt_long with an option string that begins with none of
// ':', '+' and '-', with opterr = 0 and with the flag of every long option
// NULL. Options are bytes, as they are in C, and need not be UTF-8. Package
// getopttest compares it with the C library's own.
//
// A command walks its options as a getopt loop does, so that they act in the
// order given and the first fatal one ends it before a later one is looked at:
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

// Arg says whether an option takes an argument.
type Arg int

const (
	// NoArgument: the option takes none; --name=VALUE is an [Excess] error.
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
	// ID is what the caller switches on. Names with the same ID and Arg, be
	// they in one row or in several, are names of one option: an abbreviation
	// that fits several of them is not ambiguous.
	ID int
	// Short is the option character, 0 for none.
	Short byte
	// Long holds the long names, without the dashes, main one first.
	Long []string
	// Arg says whether the option takes an argument.
	Arg Arg
	// Exact makes the long names match in full only. They are not seen when
	// abbreviations are looked up, so that adding such a row to a table makes
	// none of the other rows' abbreviations ambiguous.
	Exact bool
}

// Table is the options of one command. For a table that passes the Check of
// package getopttest the order decides nothing but that of [Error.Candidates].
type Table []Option

// shortName spells a short option; string(c) would turn a byte above 0x7F into
// two.
func shortName(c byte) string { return string([]byte{'-', c}) }

// findShort returns the row of an option character, or -1. It takes the first
// of several, as strchr does in C.
func (t Table) findShort(c byte) int {
	if c == 0 { // means "none" in the table
		return -1
	}
	return slices.IndexFunc(t, func(o Option) bool { return o.Short == c })
}

// found is what looking a long name up came to: a row and the full name in it,
// or row -1 and, where that is because of an ambiguity, the candidates.
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
	// ID is that of the option's row.
	ID int
	// Name is the name by which it was given, in full even where an
	// abbreviation was typed: "-f", "--file".
	Name string
	// Arg is the option's argument, "" if it has none.
	Arg string
	// HasArg tells an empty argument (--backup=) from none (--backup).
	HasArg bool
}

// Kind is what an [Error] is about.
type Kind int

const (
	// Unknown: no option is called so.
	Unknown Kind = iota + 1
	// Ambiguous: an abbreviation of more than one option.
	Ambiguous
	// Missing: an option that requires an argument is the last thing on the
	// command line.
	Missing
	// Excess: --name=VALUE for an option that takes no argument.
	Excess
)

// Error is what getopt_long returns '?' for.
type Error struct {
	// Kind tells what is wrong; optopt alone does not.
	Kind Kind
	// Char is the option character if a short option is at fault, else 0. As
	// no table contains '?', Char is '?' for an unknown -? only (also in a
	// cluster, -v?), which is what `optopt == '?'` asks in C.
	Char byte
	// Typed is the text at fault, as typed: the whole element for a long
	// option, with its =VALUE; "-x" for one character of a cluster.
	Typed string
	// ID and Name are those of the option for Missing and Excess, as in
	// [Match]; 0 and "" for Unknown and Ambiguous.
	ID   int
	Name string
	// Candidates are the long names, with their dashes, between which an
	// Ambiguous abbreviation leaves the choice; nil for every other kind. It
	// holds one name of the first option that fits, as in glibc's message.
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

// PosixlyCorrect reports whether POSIXLY_CORRECT is in the environment, with
// any value, the empty one included.
func PosixlyCorrect() bool {
	_, ok := os.LookupEnv("POSIXLY_CORRECT")
	return ok
}

// Parser walks one command line. It must not be used by several goroutines at
// once.
type Parser struct {
	table   Table
	args    []string
	posix   bool
	next    int      // args[next:] has not been looked at
	cluster string   // what is left of an element of short options
	skipped []string // operands passed over on the way
	done    bool
}

// New prepares to parse args, the command line without the program's name. With
// posixlyCorrect, the first operand ends the options. Neither table nor args is
// changed, and neither may change while the parser is in use.
func New(table Table, args []string, posixlyCorrect bool) *Parser {
	return &Parser{table: table, args: args, posix: posixlyCorrect}
}

// Options yields what successive calls of getopt_long return before the -1:
// either an option or an error, never both. The walk may go on after an error,
// as it may in C; after a break, ranging over Options again goes on where it
// left off.
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

// Operands returns what getopt_long leaves at argv[optind:] after the last
// option: the elements that are neither options nor arguments of options, in
// the order given, without the -- that ended the options. It is meant to be
// called once [Parser.Options] has run out; until then, what has not been
// looked at is returned as it stands. The slice is the caller's.
func (p *Parser) Operands() []string {
	return slices.Concat(p.skipped, p.args[p.next:])
}

// step is one call of getopt_long; ok is false for its -1.
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
	// For good, though glibc, called once more after its -1, would take options
	// from among the operands.
	p.done = true
	return Match{}, nil, false
}

// long takes the element typed, of which at least the two dashes are there.
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

// short takes the next character of the cluster, which is not empty.
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

// nextElement takes the next element as an argument, even if it is "--" or
// looks like an option; ok is false if there is none.
func (p *Parser) nextElement() (arg string, ok bool) {
	if p.next == len(p.args) {
		return "", false
	}
	arg = p.args[p.next]
	p.next++
	return arg, true
}
