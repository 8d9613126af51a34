package getopt_test

import (
	"os"
	"testing"

	"blcr-cli/internal/cli/getopt"
	"blcr-cli/test/getopttest"
)

// The lines of the comparisons are divided among these tables. The commands' own tables
// are compared in the commands' tests.
var tables = map[string]getopt.Table{
	"example": example,
	"short exact": append(getopt.Table{
		{ID: 'Z', Short: 'Z', Long: []string{"verbosity", "files"}, Arg: required, Exact: true},
	}, example...),
	// Few and short names, so that random elements match them often, and everything
	// that affects ambiguity: shared IDs, and shared IDs with another Arg.
	"dense": {
		{ID: -1, Short: 'a', Long: []string{"a"}, Arg: no},
		{ID: 0, Short: 'b', Long: []string{"ab", "abc"}, Arg: optional},
		{ID: 0, Long: []string{"abd"}, Arg: required},
		{ID: 63, Short: 'W', Long: []string{"b-a"}, Arg: required},
		{ID: 63, Long: []string{"b-ab"}, Arg: required},
		{ID: 5, Short: '1', Long: []string{"abcd", "?", ":"}, Arg: no},
		{ID: 6, Long: []string{"\xff\xfe", "é"}, Arg: no},
		{ID: 7, Short: 'x', Arg: required},
		{ID: 8, Long: []string{"qx"}, Arg: no},
		{ID: 8, Long: []string{"qy"}, Arg: optional},
	},
	// A table in which every abbreviation matches, even the empty one.
	"one": {
		{ID: 1, Short: 'v', Long: []string{"verbose", "loud"}, Arg: optional},
	},
	"short only": {
		{ID: 1, Short: 'a'},
		{ID: 2, Short: 'b', Arg: required},
	},
	"long only": {
		{ID: 1, Long: []string{"restore-pid"}},
		{ID: 2, Long: []string{"no-restore-pid"}},
		{ID: 3, Long: []string{"restore-pgid"}, Arg: required},
	},
	"empty": {},
}

func TestAgainstGlibc(t *testing.T) {
	for name, table := range tables {
		t.Run(name, func(t *testing.T) {
			getopttest.AgainstGlibc(t, table, getopttest.Lines(t)/len(tables), 1)
		})
	}
}

// unsetenv is the counterpart of t.Setenv.
func unsetenv(t *testing.T, name string) {
	t.Helper()
	t.Setenv(name, "") // restores it at the end of the test
	if err := os.Unsetenv(name); err != nil {
		t.Fatal(err)
	}
}
