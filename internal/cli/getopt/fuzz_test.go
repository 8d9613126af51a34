package getopt_test

import (
	"slices"
	"strings"
	"testing"

	"blcr-cli/internal/cli/getopt"
	"blcr-cli/test/getopttest"
)

// unchecked would not pass Check, but a parser must not panic with it, either.
var unchecked = getopt.Table{
	{},
	{ID: '?', Short: '?', Long: []string{"", "=", "-"}, Arg: required},
	{ID: 1, Short: '-', Long: []string{"a=b", "\x00"}, Arg: 7},
	{ID: 1, Short: 0xff, Long: nil, Arg: optional},
	{ID: 2, Short: ':', Long: []string{"", "a"}, Exact: true},
}

// FuzzParse parses a command line, given with NUL bytes between its arguments, and
// checks properties of every table and every line.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"", "12", "-vT\x0012\x00-f\x00FILE", "--backup\x0012", "--file=x\x00--\x00-v", "--fi", "--f", "--=x",
		"-\x00-?\x00-v?", "-\xff\x00--\xff=\xfe", "--tree=x\x00-vx-", "---\x00-=", "--filter\x00--verif",
	} {
		f.Add(seed, false, false)
		f.Add(seed, true, true)
	}
	f.Fuzz(func(t *testing.T, line string, posix, wild bool) {
		args := strings.Split(line, "\x00")
		given := slices.Clone(args)
		table := example
		if wild {
			table = unchecked
		}
		p := getopt.New(table, args, posix)

		// Every element except an operand or a "--" yields at least one result or is an
		// argument, and none yields more results than it has bytes.
		limit := len(line)
		var missing *getopt.Error
		for m, err := range p.Options() {
			if limit--; limit < 0 {
				t.Fatalf("%q: more options than bytes", args)
			}
			if missing != nil {
				t.Fatalf("%q: something after the last element: %+v %v", args, m, err)
			}
			if err != nil {
				if err.Kind < getopt.Unknown || err.Kind > getopt.Excess || err.Error() == "" {
					t.Fatalf("%q: %+v", args, err)
				}
				if (err.Kind == getopt.Missing || err.Kind == getopt.Excess) != (err.Name != "") ||
					(err.Kind == getopt.Ambiguous) != (len(err.Candidates) > 1) {
					t.Fatalf("%q: %+v", args, err)
				}
				if err.Char == 0 && err.Kind != getopt.Missing && !slices.Contains(args, err.Typed) {
					t.Fatalf("%q: %q was not typed", args, err.Typed)
				}
				if err.Kind == getopt.Missing {
					missing = err
				}
				continue
			}
			if m.HasArg != (m.Arg != "") && m.Arg != "" {
				t.Fatalf("%q: %+v", args, m)
			}
			if m.HasArg && !slices.ContainsFunc(args, func(arg string) bool { return strings.HasSuffix(arg, m.Arg) }) {
				t.Fatalf("%q: argument %q was not typed", args, m.Arg)
			}
			if wild {
				continue
			}
			o, ok := getopttest.Lookup(table, m.Name)
			if !ok || o.ID != m.ID ||
				m.HasArg && o.Arg == no || !m.HasArg && o.Arg == required {
				t.Fatalf("%q: %+v, of row %+v", args, m, o)
			}
		}

		operands := p.Operands()
		for range p.Options() {
			t.Fatalf("%q: goes on after its end", args)
		}
		if !slices.Equal(operands, p.Operands()) {
			t.Fatalf("%q: operands %q, then %q", args, operands, p.Operands())
		}
		if !slices.Equal(args, given) {
			t.Fatalf("%q: changed to %q", given, args)
		}
		if missing != nil && posix && len(operands) > 0 {
			t.Fatalf("%q: argument missing before operands %q", args, operands)
		}
		if posix {
			if !slices.Equal(operands, args[len(args)-len(operands):]) {
				t.Fatalf("%q: operands %q are not its end", args, operands)
			}
			return
		}
		// A subsequence, in order.
		rest := args
		for _, operand := range operands {
			i := slices.Index(rest, operand)
			if i < 0 {
				t.Fatalf("%q: operands %q", args, operands)
			}
			rest = rest[i+1:]
		}
		if !slices.Contains(args, "--") && slices.ContainsFunc(operands, isOption) {
			t.Fatalf("%q: an option among the operands %q", args, operands)
		}
	})
}

func isOption(arg string) bool { return len(arg) > 1 && arg[0] == '-' }
