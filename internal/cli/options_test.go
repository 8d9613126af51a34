package cli

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"blcr-cli/internal/cli/getopt"
	"blcr-cli/test/getopttest"
)

var errOwn = errors.New("the command's own")

// line is a command that has an option of each kind.
func line(own *[]string) CommandLine {
	return CommandLine{
		Options: append(getopt.Table{
			{ID: OptHelp, Short: 'h', Long: []string{"help"}},
			{ID: OptVersion, Long: []string{"version"}},
			{ID: OptVerbose, Short: 'v', Long: []string{"verbose"}},
			{ID: OptQuiet, Short: 'q', Long: []string{"quiet"}},
			{ID: 1, Short: 'f', Long: []string{"file"}, Arg: getopt.RequiredArgument},
			{ID: 2, Long: []string{"wrong"}},
		}, RequestOptions(map[string]string{"stop": "freeze"})...),
		Usage:   "usage\n",
		Version: "version\n",
		Option: func(m getopt.Match) error {
			if m.ID == 2 {
				return errOwn
			}
			*own = append(*own, m.Name+"="+m.Arg)
			return nil
		},
	}
}

func TestCommandLine(t *testing.T) {
	for _, c := range []struct {
		args   string
		signal int32
		kmsg   Kmsg
		level  int
		own    string
		err    string
	}{
		{args: ""},
		{args: "--run"},
		{args: "--stop", signal: 19},
		{args: "--freeze", signal: 19},
		{args: "--term", signal: 15},
		{args: "--abort", signal: 6},
		{args: "--kill", signal: 9},
		{args: "--cont", signal: 18},
		{args: "--early-stop", signal: -19},
		{args: "--early-abrt", signal: -6},

		{args: "-S 1", signal: 1},
		{args: "-S64", signal: 64},
		{args: "--signal 10", signal: 10},
		{args: "--signal=33", signal: 33},
		{args: "--sig=12", signal: 12},
		{args: "--signal=\t+9", signal: 9},
		{args: "-S 011", signal: 11}, // decimal
		{args: "-S TERM", signal: 15},
		{args: "-Skill", signal: 9},
		{args: "--signal=SIGUSR1", signal: 10},
		{args: "--signal SigCont", signal: 18},

		// The last one is used.
		{args: "--term --kill", signal: 9},
		{args: "--kill -S 10 --run"},
		{args: "--stop -S 2", signal: 2},

		{args: "-S 0", err: ErrSignalRange.Error()},
		{args: "-S 65", err: ErrSignalRange.Error()},
		{args: "-S -9", err: ErrSignalRange.Error()},
		{args: "-S 2147483647", err: ErrSignalRange.Error()},
		{args: "--signal=", err: "option '--signal' needs the number or the name of a signal, not ''"},
		{args: "-S x", err: "option '-S' needs the number or the name of a signal, not 'x'"},
		{args: "-S TERMI", err: "option '-S' needs the number or the name of a signal, not 'TERMI'"},
		{args: "-S 0x9", err: "option '-S' needs the number or the name of a signal, not '0x9'"},
		{args: "-S 9\t", err: "option '-S' needs the number or the name of a signal, not '9\t'"},
		{args: "-S 9.5", err: "option '-S' needs the number or the name of a signal, not '9.5'"},
		{args: "-S SIG", err: "option '-S' needs the number or the name of a signal, not 'SIG'"},
		{args: "-S SIGSIGHUP", err: "option '-S' needs the number or the name of a signal, not 'SIGSIGHUP'"},
		{args: "--term -S x", err: "option '-S' needs the number or the name of a signal, not 'x'"},

		{args: "--kmsg-none", kmsg: KmsgNone},
		{args: "--kmsg-none --kmsg-warning", kmsg: KmsgWarning},
		{args: "--kmsg-warning --kmsg-error", kmsg: KmsgError},

		{args: "-v", level: 1},
		{args: "-vv --verbose", level: 3},
		{args: "-vvq", level: -1},
		{args: "-qv", level: 0},

		// Options of the command itself, between others.
		{args: "-fx --kill --file=y -v", own: "-f=x --file=y", signal: 9, level: 1},

		// Options that end the parsing: earlier ones have taken effect, later ones are
		// not examined.
		{args: "-h -S x", err: "usage\n"},
		{args: "-q --help -v", err: "usage\n", level: -1},
		{args: "-v? --version", err: "usage\n", level: 1},
		{args: "--version -fx", err: "version\n"},
		{args: "-v --nosuch -q", err: "unrecognized option '--nosuch'", level: 1},
		{args: "-v --wrong=x -q", err: "option '--wrong' doesn't allow an argument", level: 1},
		{args: "-fx --wrong -fy", err: errOwn.Error(), own: "-f=x"},
	} {
		var own []string
		l := line(&own)
		var args []string
		if c.args != "" {
			args = strings.Split(c.args, " ")
		}
		con := &Console{}
		operands, err := l.Parse(append(args, "--", "operand"), con)
		text := ""
		if err != nil {
			text = err.Error()
		}
		if text != c.err || err == nil && !slices.Equal(operands, []string{"operand"}) {
			t.Errorf("%q: %q, operands %q; want %q", c.args, text, operands, c.err)
		}
		if c.err == "" && (l.Signal != c.signal || l.Kmsg != c.kmsg) {
			t.Errorf("%q: signal %d, messages %d; want %d, %d", c.args, l.Signal, l.Kmsg, c.signal, c.kmsg)
		}
		if con.Level != c.level || strings.Join(own, " ") != c.own {
			t.Errorf("%q: level %d, own %q; want %d, %q", c.args, con.Level, own, c.level, c.own)
		}
	}
}

// TestRequestOptions: every row has a unique name and ID, and [CommandLine] handles all
// of them.
func TestRequestOptions(t *testing.T) {
	want := []string{
		"--kmsg-none", "--kmsg-error", "--kmsg-warning", "-S --signal", "--run", "--stop --freeze", "--term", "--abort",
		"--kill", "--cont", "--early-stop", "--early-abrt",
	}
	var got []string
	ids := map[int]bool{OptHelp: true, OptVersion: true, OptVerbose: true, OptQuiet: true}
	for _, o := range RequestOptions(map[string]string{"stop": "freeze"}) {
		got = append(got, strings.Join(getopttest.Names(o), " "))
		if o.ID >= 0 || ids[o.ID] {
			t.Errorf("%s has ID %d", got[len(got)-1], o.ID)
		}
		ids[o.ID] = true
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	for _, o := range RequestOptions(nil) {
		if len(o.Long) != 1 {
			t.Errorf("%q has a synonym", o.Long)
		}
	}
}

// TestMessage checks the text that users see.
func TestMessage(t *testing.T) {
	if got := ErrSignalRange.Error(); got != "Valid signal numbers are from 1 to 64, inclusive." {
		t.Errorf("%q", got)
	}
}
