package getopt_test

import (
	"fmt"
	"reflect"
	"slices"
	"testing"

	"blcr-cli/internal/cli/getopt"
)

const (
	no       = getopt.NoArgument
	required = getopt.RequiredArgument
	optional = getopt.OptionalArgument
)

// example has a row of every kind. IDs are characters, so that they are readable.
var example = getopt.Table{
	{ID: 'p', Short: 'p', Long: []string{"pid", "process"}, Arg: no},
	{ID: 'f', Short: 'f', Long: []string{"file"}, Arg: required},
	{ID: 'F', Short: 'F', Long: []string{"fd"}, Arg: required},
	{ID: 'b', Long: []string{"backup"}, Arg: optional},
	{ID: 'o', Short: 'o', Arg: optional},
	{ID: 'c', Long: []string{"clobber"}, Arg: no},
	{ID: 'n', Long: []string{"noclobber"}, Arg: no},
	{ID: 's', Long: []string{"stop"}, Arg: no},
	// the same option in a row of its own
	{ID: 's', Long: []string{"stall"}, Arg: no},
	{ID: 'r', Long: []string{"run"}, Arg: no},
	{ID: 'R', Long: []string{"run-on-success"}, Arg: required},
	{ID: 'X', Long: []string{"run-on-fail"}, Arg: required},
	{ID: 'T', Short: 'T', Long: []string{"tree"}, Arg: no},
	{ID: 'v', Short: 'v', Long: []string{"verbose"}, Arg: no},
	{ID: 'V', Long: []string{"version"}, Arg: no},
	{ID: 'h', Short: 'h', Long: []string{"help"}, Arg: no},
	{ID: 'z', Long: []string{"filter", "verify"}, Arg: required, Exact: true},
	{ID: 'y', Long: []string{"runaway"}, Arg: no, Exact: true},
}

// parse returns the results of a parser as text: "f" for an option, "f=ARG" for one
// with an argument, "! kind typed" for an error, then "|" and the operands.
func parse(p *getopt.Parser) []string {
	out := []string{}
	for m, err := range p.Options() {
		out = append(out, show(m, err))
	}
	return append(append(out, "|"), p.Operands()...)
}

func show(m getopt.Match, err *getopt.Error) string {
	kinds := map[getopt.Kind]string{
		getopt.Unknown: "unknown", getopt.Ambiguous: "ambiguous",
		getopt.Missing: "missing", getopt.Excess: "excess",
	}
	switch {
	case err != nil:
		return fmt.Sprintf("! %s %s", kinds[err.Kind], err.Typed)
	case m.HasArg:
		return fmt.Sprintf("%c=%s", m.ID, m.Arg)
	default:
		return string(rune(m.ID))
	}
}

func TestOptions(t *testing.T) {
	type list = []string
	for _, test := range []struct {
		rule  string
		args  list
		want  list
		posix bool
	}{
		{rule: "nothing", args: nil, want: list{"|"}},
		{rule: "one operand", args: list{"12"}, want: list{"|", "12"}},
		{rule: "an empty operand", args: list{""}, want: list{"|", ""}},

		// short options
		{rule: "short", args: list{"-v", "-T"}, want: list{"v", "T", "|"}},
		{rule: "cluster", args: list{"-vT"}, want: list{"v", "T", "|"}},
		{rule: "argument in the element", args: list{"-fFILE"}, want: list{"f=FILE", "|"}},
		{rule: "argument in the next", args: list{"-f", "FILE"}, want: list{"f=FILE", "|"}},
		{rule: "argument after a cluster", args: list{"-vf", "FILE", "12"}, want: list{"v", "f=FILE", "|", "12"}},
		{rule: "argument in a cluster", args: list{"-vfTp"}, want: list{"v", "f=Tp", "|"}},
		{rule: "= belongs to a short option's argument", args: list{"-f=x"}, want: list{"f==x", "|"}},
		{rule: "empty argument in the next", args: list{"-f", ""}, want: list{"f=", "|"}},
		{rule: "an argument that is --", args: list{"-f", "--", "-v"}, want: list{"f=--", "v", "|"}},
		{rule: "an argument that is -", args: list{"-f", "-"}, want: list{"f=-", "|"}},
		{rule: "an argument like an option", args: list{"-f", "-v", "-vf", "--tree"}, want: list{"f=-v", "v", "f=--tree", "|"}},
		{rule: "optional argument of a short option", args: list{"-oX", "-o", "X"}, want: list{"o=X", "o", "|", "X"}},
		{rule: "one dash, long name", args: list{"-pT"}, want: list{"p", "T", "|"}},
		{rule: "unknown", args: list{"-x", "-v"}, want: list{"! unknown -x", "v", "|"}},
		{rule: "unknown in a cluster, then on", args: list{"-vxTx"}, want: list{"v", "! unknown -x", "T", "! unknown -x", "|"}},
		{rule: "- in a cluster", args: list{"-v-T"}, want: list{"v", "! unknown --", "T", "|"}},
		{rule: "characters special to optstring", args: list{"-:;+W"}, want: list{"! unknown -:", "! unknown -;", "! unknown -+", "! unknown -W", "|"}},
		{rule: "W is not special", args: list{"-W", "tree"}, want: list{"! unknown -W", "|", "tree"}},
		{rule: "missing", args: list{"12", "-f"}, want: list{"! missing -f", "|", "12"}},
		{rule: "missing in a cluster", args: list{"-vf"}, want: list{"v", "! missing -f", "|"}},
		{rule: "?", args: list{"-?", "-v?T"}, want: list{"! unknown -?", "v", "! unknown -?", "T", "|"}},
		{rule: "negative number", args: list{"-12"}, want: list{"! unknown -1", "! unknown -2", "|"}},

		// long options
		{rule: "long", args: list{"--tree", "--pid", "--process"}, want: list{"T", "p", "p", "|"}},
		{rule: "=", args: list{"--file=x"}, want: list{"f=x", "|"}},
		{rule: "empty after =", args: list{"--file=", "x"}, want: list{"f=", "|", "x"}},
		{rule: "first = counts", args: list{"--file=a=b"}, want: list{"f=a=b", "|"}},
		{rule: "argument in the next", args: list{"--file", "x", "y"}, want: list{"f=x", "|", "y"}},
		{rule: "empty argument in the next", args: list{"--file", ""}, want: list{"f=", "|"}},
		{rule: "an argument that is --", args: list{"--file", "--", "--tree"}, want: list{"f=--", "T", "|"}},
		{rule: "an argument like an option", args: list{"--file", "-v"}, want: list{"f=-v", "|"}},
		{rule: "optional, none", args: list{"--backup", "12"}, want: list{"b", "|", "12"}},
		{rule: "optional, some", args: list{"--backup=x", "--backup="}, want: list{"b=x", "b=", "|"}},
		{rule: "missing", args: list{"-v", "--file"}, want: list{"v", "! missing --file", "|"}},
		{rule: "missing, abbreviated", args: list{"x", "--fi"}, want: list{"! missing --fi", "|", "x"}},
		{rule: "excess, then on", args: list{"--tree=x", "-v"}, want: list{"! excess --tree=x", "v", "|"}},
		{rule: "excess, empty", args: list{"--tree="}, want: list{"! excess --tree=", "|"}},
		{rule: "unknown, then on", args: list{"--nosuch", "-v", "--nosuch=x"}, want: list{"! unknown --nosuch", "v", "! unknown --nosuch=x", "|"}},
		{rule: "unknown does not take the next", args: list{"--nosuch", "x"}, want: list{"! unknown --nosuch", "|", "x"}},
		{rule: "more than a name", args: list{"--trees"}, want: list{"! unknown --trees", "|"}},
		{rule: "case", args: list{"--TREE"}, want: list{"! unknown --TREE", "|"}},
		{rule: "three dashes", args: list{"---tree", "---"}, want: list{"! unknown ---tree", "! unknown ---", "|"}},

		// abbreviations
		{rule: "unique", args: list{"--t", "--no", "--ba=x"}, want: list{"T", "n", "b=x", "|"}},
		{rule: "two names in one row", args: list{"--p"}, want: list{"p", "|"}},
		{rule: "two names in two rows", args: list{"--st"}, want: list{"s", "|"}},
		{rule: "ambiguous, then on", args: list{"--f", "-v", "--ver=x"}, want: list{"! ambiguous --f", "v", "! ambiguous --ver=x", "|"}},
		{rule: "exact before longer ones", args: list{"--run", "--run-on-s=x"}, want: list{"r", "R=x", "|"}},
		{rule: "ambiguous beyond an exact one", args: list{"--run-", "--ru"}, want: list{"! ambiguous --run-", "! ambiguous --ru", "|"}},
		{rule: "the empty abbreviation", args: list{"--=x", "--="}, want: list{"! ambiguous --=x", "! ambiguous --=", "|"}},

		// Exact rows
		{rule: "Exact in full", args: list{"--filter=x", "--filter", "y", "--verify", "z"}, want: list{"z=x", "z=y", "z=z", "|"}},
		{rule: "Exact abbreviated", args: list{"--filte", "--runa", "--verif=x"}, want: list{"! unknown --filte", "! unknown --runa", "! unknown --verif=x", "|"}},
		{rule: "Exact not in the way", args: list{"--fil", "x", "--file=x"}, want: list{"f=x", "f=x", "|"}},
		{rule: "Exact, excess and missing", args: list{"--runaway=x", "--filter"}, want: list{"! excess --runaway=x", "! missing --filter", "|"}},

		// operands
		{rule: "permuted", args: list{"12", "-v", "13", "-f", "x", "14"}, want: list{"v", "f=x", "|", "12", "13", "14"}},
		{rule: "- is an operand", args: list{"-", "-v", "-"}, want: list{"v", "|", "-", "-"}},
		{rule: "an empty element is an operand", args: list{"", "-v"}, want: list{"v", "|", ""}},
		{rule: "--", args: list{"-v", "--", "-T", "--pid", "--"}, want: list{"v", "|", "-T", "--pid", "--"}},
		{rule: "-- after operands", args: list{"12", "--", "-v"}, want: list{"|", "12", "-v"}},
		{rule: "-- between", args: list{"12", "-v", "13", "--", "-T", "14"}, want: list{"v", "|", "12", "13", "-T", "14"}},
		{rule: "-- last", args: list{"12", "-v", "--"}, want: list{"v", "|", "12"}},
		{rule: "-- alone", args: list{"--"}, want: list{"|"}},
		{rule: "-- twice", args: list{"--", "--"}, want: list{"|", "--"}},

		// POSIXLY_CORRECT
		{posix: true, rule: "stops at an operand", args: list{"-v", "12", "-T", "--", "x"}, want: list{"v", "|", "12", "-T", "--", "x"}},
		{posix: true, rule: "stops at -", args: list{"-", "-v"}, want: list{"|", "-", "-v"}},
		{posix: true, rule: "stops at an empty element", args: list{"", "-v"}, want: list{"|", "", "-v"}},
		{posix: true, rule: "--", args: list{"-v", "--", "-T"}, want: list{"v", "|", "-T"}},
		{posix: true, rule: "arguments are not operands", args: list{"-f", "x", "--file", "y", "--backup", "z", "-v"}, want: list{"f=x", "f=y", "b", "|", "z", "-v"}},
		{posix: true, rule: "goes on after an error", args: list{"-x", "-v", "12"}, want: list{"! unknown -x", "v", "|", "12"}},

		// bytes
		{rule: "not UTF-8", args: list{"-v\xff", "--\xff", "\xff", "--file=\xff", "-f\xc3"},
			want: list{"v", "! unknown -\xff", "! unknown --\xff", "f=\xff", "f=\xc3", "|", "\xff"}},
		{rule: "a character of two bytes is two options", args: list{"-é"}, want: list{"! unknown -\xc3", "! unknown -\xa9", "|"}},
		{rule: "NUL, which no argument vector holds, is not the absent short name", args: list{"-\x00v"}, want: list{"! unknown -\x00", "v", "|"}},
	} {
		args := slices.Clone(test.args)
		got := parse(getopt.New(example, args, test.posix))
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: %q\n got %q\nwant %q", test.rule, test.args, got, test.want)
		}
		if !slices.Equal(args, test.args) {
			t.Errorf("%s: arguments changed from %q to %q", test.rule, test.args, args)
		}
	}
}

// The fields of a match that show leaves out.
func TestMatch(t *testing.T) {
	args := []string{"--proc", "-p", "--back=", "--backup", "-fx", "--filter=x"}
	want := []getopt.Match{
		{ID: 'p', Name: "--process"},
		{ID: 'p', Name: "-p"},
		{ID: 'b', Name: "--backup", HasArg: true},
		{ID: 'b', Name: "--backup"},
		{ID: 'f', Name: "-f", Arg: "x", HasArg: true},
		{ID: 'z', Name: "--filter", Arg: "x", HasArg: true},
	}
	var got []getopt.Match
	for m, err := range getopt.New(example, args, false).Options() {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, m)
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestErrors(t *testing.T) {
	for _, test := range []struct {
		args []string
		want getopt.Error
		text string
	}{
		{[]string{"-x"}, getopt.Error{Kind: getopt.Unknown, Char: 'x', Typed: "-x"}, "invalid option -- 'x'"},
		{[]string{"-?"}, getopt.Error{Kind: getopt.Unknown, Char: '?', Typed: "-?"}, "invalid option -- '?'"},
		{[]string{"-v?"}, getopt.Error{Kind: getopt.Unknown, Char: '?', Typed: "-?"}, "invalid option -- '?'"},
		{[]string{"-v-"}, getopt.Error{Kind: getopt.Unknown, Char: '-', Typed: "--"}, "invalid option -- '-'"},
		{[]string{"-v\xff"}, getopt.Error{Kind: getopt.Unknown, Char: 0xff, Typed: "-\xff"}, "invalid option -- '\xff'"},
		// Only an option character counts as -?.
		{[]string{"--?"}, getopt.Error{Kind: getopt.Unknown, Typed: "--?"}, "unrecognized option '--?'"},
		{[]string{"--no-such=x"}, getopt.Error{Kind: getopt.Unknown, Typed: "--no-such=x"}, "unrecognized option '--no-such=x'"},
		{[]string{"--f=x"}, getopt.Error{Kind: getopt.Ambiguous, Typed: "--f=x", Candidates: []string{"--file", "--fd"}},
			"option '--f=x' is ambiguous; possibilities: '--file' '--fd'"},
		{[]string{"-f"}, getopt.Error{Kind: getopt.Missing, Char: 'f', Typed: "-f", ID: 'f', Name: "-f"}, "option requires an argument -- 'f'"},
		{[]string{"--fi"}, getopt.Error{Kind: getopt.Missing, Typed: "--fi", ID: 'f', Name: "--file"}, "option '--file' requires an argument"},
		{[]string{"--proc=x"}, getopt.Error{Kind: getopt.Excess, Typed: "--proc=x", ID: 'p', Name: "--process"}, "option '--process' doesn't allow an argument"},
	} {
		var got *getopt.Error
		for m, err := range getopt.New(example, test.args, false).Options() {
			if got = err; err != nil && m != (getopt.Match{}) {
				t.Errorf("%q: match %+v beside the error", test.args, m)
			}
		}
		if got == nil || !reflect.DeepEqual(*got, test.want) {
			t.Errorf("%q:\n got %+v\nwant %+v", test.args, got, test.want)
			continue
		}
		if got.Error() != test.text {
			t.Errorf("%q: %q, want %q", test.args, got.Error(), test.text)
		}
	}
}

// Of several names of one option only one is listed among the candidates, as glibc
// does. Rows with the same ID and different arguments are two options.
func TestAmbiguous(t *testing.T) {
	table := getopt.Table{
		{ID: 1, Long: []string{"same-a", "same-b"}},
		{ID: 1, Long: []string{"same-c"}},
		{ID: 2, Long: []string{"sane"}},
		{ID: 3, Long: []string{"arg-a"}, Arg: no},
		{ID: 3, Long: []string{"arg-b"}, Arg: optional},
	}
	for _, test := range []struct {
		arg  string
		want []string
	}{
		{"--same", nil},
		{"--same-", nil},
		{"--sa", []string{"--same-a", "--sane"}},
		{"--arg", []string{"--arg-a", "--arg-b"}},
	} {
		for _, err := range getopt.New(table, []string{test.arg}, false).Options() {
			var got []string
			if err != nil {
				got = err.Candidates
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("%s: %q, want %q", test.arg, got, test.want)
			}
		}
	}
	for m, err := range getopt.New(table[:2], []string{"--=x"}, false).Options() {
		if err == nil || err.Kind != getopt.Excess || err.Name != "--same-a" {
			t.Errorf("--=x with one option: %v %v", m, err)
		}
	}
}

func TestEmptyTable(t *testing.T) {
	got := parse(getopt.New(nil, []string{"-v", "x", "--v", "--=", "--", "-v"}, false))
	want := []string{"! unknown -v", "! unknown --v", "! unknown --=", "|", "x", "-v"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A loop can be left and continued, and does not look ahead.
func TestBreak(t *testing.T) {
	p := getopt.New(example, []string{"12", "-vTx", "-f", "x", "13", "--tree"}, false)
	var got []string
	for range 7 {
		for m, err := range p.Options() {
			got = append(got, show(m, err))
			break
		}
	}
	want := []string{"v", "T", "! unknown -x", "f=x", "T"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for m, err := range p.Options() {
		t.Errorf("after the end: %v", show(m, err))
	}
	if operands := p.Operands(); !slices.Equal(operands, []string{"12", "13"}) {
		t.Errorf("operands %q", operands)
	}
}

// The caller may change the operands.
func TestOperandsAreACopy(t *testing.T) {
	args := []string{"-v", "12", "13"}
	for _, posix := range []bool{false, true} {
		p := getopt.New(example, args, posix)
		parse(p)
		p.Operands()[0] = "changed"
		if args[1] != "12" || p.Operands()[0] != "12" {
			t.Errorf("posix %v: %q, %q", posix, args, p.Operands())
		}
	}
}

func TestPosixlyCorrect(t *testing.T) {
	for _, value := range []string{"", "1", "0"} {
		t.Setenv("POSIXLY_CORRECT", value)
		if !getopt.PosixlyCorrect() {
			t.Errorf("POSIXLY_CORRECT=%q is not seen", value)
		}
	}
	unsetenv(t, "POSIXLY_CORRECT")
	if getopt.PosixlyCorrect() {
		t.Error("POSIXLY_CORRECT is seen where it is not")
	}
}
