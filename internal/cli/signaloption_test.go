package cli

import (
	"testing"

	"blcr-cli/internal/cli/getopt"
	"blcr-cli/test/getopttest"
)

// first is where the table's IDs begin, amid others of the command's.
const first = 40

// table is the options, between two of the command's own.
var table = append(getopt.Table{
	{ID: first - 1, Short: 'b', Long: []string{"before"}},
	{ID: first + 9, Short: 'a', Long: []string{"after"}},
}, SignalOptions(first, map[string]string{"stop": "freeze"})...)

// parse reads a command line as a command does: the last option counts.
func parse(t *testing.T, args ...string) (signal int32, others int, err error) {
	t.Helper()
	for m, err := range getopt.New(table, args, false).Options() {
		if err != nil {
			t.Fatalf("%q: %v", args, err)
		}
		s, mine, err := ParseSignal(first, m)
		if err != nil {
			return 0, others, err
		}
		if !mine {
			others++
			continue
		}
		signal = s
	}
	return signal, others, nil
}

func TestParse(t *testing.T) {
	for _, c := range []struct {
		args   []string
		signal int32
		err    error
	}{
		{args: nil, signal: 0},
		{args: []string{"--run"}, signal: 0},
		{args: []string{"--stop"}, signal: 19},
		{args: []string{"--freeze"}, signal: 19},
		{args: []string{"--term"}, signal: 15},
		{args: []string{"--abort"}, signal: 6},
		{args: []string{"--kill"}, signal: 9},
		{args: []string{"--cont"}, signal: 18},
		{args: []string{"--early-stop"}, signal: -19},
		{args: []string{"--early-abrt"}, signal: -6},

		{args: []string{"-S", "1"}, signal: 1},
		{args: []string{"-S64"}, signal: 64},
		{args: []string{"--signal", "10"}, signal: 10},
		{args: []string{"--signal=33"}, signal: 33},
		{args: []string{"--sig=12"}, signal: 12},
		{args: []string{"-S", " +9"}, signal: 9},
		{args: []string{"-S", "011"}, signal: 11}, // decimal

		// The last one counts.
		{args: []string{"--term", "--kill"}, signal: 9},
		{args: []string{"--kill", "-S", "10", "--run"}, signal: 0},
		{args: []string{"--stop", "-S", "2"}, signal: 2},

		{args: []string{"-S", "0"}, err: ErrSignalRange},
		{args: []string{"-S", "65"}, err: ErrSignalRange},
		{args: []string{"-S", "-9"}, err: ErrSignalRange},
		{args: []string{"-S", "2147483647"}, err: ErrSignalRange},
		{args: []string{"-S", ""}, err: ErrSignalNotANumber},
		{args: []string{"-S", "x"}, err: ErrSignalNotANumber},
		{args: []string{"-S", "TERM"}, err: ErrSignalNotANumber},
		{args: []string{"-S", "0x9"}, err: ErrSignalNotANumber},
		{args: []string{"-S", "9 "}, err: ErrSignalNotANumber},
		{args: []string{"-S", "9.5"}, err: ErrSignalNotANumber},
		{args: []string{"--term", "-S", "x"}, err: ErrSignalNotANumber},
	} {
		signal, others, err := parse(t, c.args...)
		if signal != c.signal || others != 0 || err != c.err {
			t.Errorf("%q: signal %d, %v; want %d, %v", c.args, signal, err, c.signal, c.err)
		}
	}
}

// TestOthers pins that the neighbours in the table are nobody's signals.
func TestOthers(t *testing.T) {
	if signal, others, err := parse(t, "-b", "--kill", "-a"); signal != 9 || others != 2 || err != nil {
		t.Errorf("signal %d, %d others, %v; want 9, 2", signal, others, err)
	}
}

// TestOptions pins names, and that IDs stay within what Parse takes for its own.
func TestOptions(t *testing.T) {
	want := [][]string{
		{"-S", "--signal"}, {"--run"}, {"--stop", "--freeze"}, {"--term"}, {"--abort"},
		{"--kill"}, {"--cont"}, {"--early-stop"}, {"--early-abrt"},
	}
	got := SignalOptions(first, map[string]string{"stop": "freeze"})
	if len(got) != len(want) {
		t.Fatalf("%d options, want %d", len(got), len(want))
	}
	for i, o := range got {
		names := getopttest.Names(o)
		if len(names) != len(want[i]) {
			t.Errorf("names %q, want %q", names, want[i])
			continue
		}
		for j := range names {
			if names[j] != want[i][j] {
				t.Errorf("names %q, want %q", names, want[i])
			}
		}
		if o.ID != first+i {
			t.Errorf("%q has ID %d, want %d", names, o.ID, first+i)
		}
		if wantArg := i == 0; (o.Arg == getopt.RequiredArgument) != wantArg {
			t.Errorf("%q: argument %v", names, o.Arg)
		}
	}
	for _, o := range SignalOptions(first, nil) {
		if len(o.Long) != 1 {
			t.Errorf("%q has a synonym", getopttest.Names(o))
		}
	}
}

// TestMessage pins the text that users see.
func TestMessage(t *testing.T) {
	if got := ErrSignalRange.Error(); got != "Valid signal numbers are from 1 to 64, inclusive." {
		t.Errorf("%q", got)
	}
}
